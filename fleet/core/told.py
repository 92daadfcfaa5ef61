"""What a gateway says of itself in its heartbeat, checked: shown to people, and the basis of no decision."""

from fleet.wire.uplink import Message, Rejected, count_of, text_of

MOST_UPLINKS = 8
_SHOWN = (
    "mode",
    "nodes_up",
    "nodes_down",
    "outbox_readings",
    "outbox_dropped",
    "uptime_ms",
    "version",
    "config",
    "config_refused",
    "role",
    "rejected",
)


def health_of(message: Message) -> Message:
    """The part of a heartbeat that people see. Raises Rejected."""
    health = {name: message.get(name) for name in _SHOWN}
    if "outbox_broken" in message:
        health["outbox_broken"] = count_of(message, "outbox_broken")
    if "uplinks" in message:
        health["uplinks"] = _uplinks(message["uplinks"])
    return health


def broken_outboxes(health: Message | None) -> int:
    """How many outboxes the gateway could not read and has moved aside, as far as it has said."""
    return int((health or {}).get("outbox_broken") or 0)


def _uplinks(found: object) -> list[Message]:
    if not isinstance(found, list) or len(found) > MOST_UPLINKS or not all(isinstance(line, dict) for line in found):
        raise Rejected(f"uplinks is not a list of at most {MOST_UPLINKS} objects")
    return [_uplink(line) for line in found]


def _uplink(line: Message) -> Message:
    """One line: of a metered one also what it has carried today, its budget, and how rarely batches go."""
    view: Message = {"name": text_of(line, "name"), "state": text_of(line, "state"), "used": line.get("used") is True}
    for name in ("spent_bytes", "daily_bytes", "batch_ms"):
        if name in line:
            view[name] = count_of(line, name)
    return view
