"""When two runs did a thing at the same time: for each kind of milestone how far apart, and from where that comes.

Most things answer to something: a notification to what it tells of, an acknowledgement to its command. Such a
milestone is judged by its delay after its cause, so that a phase shift at the beginning of a chain is not counted again
at every link of it, and a late answer is not excused by an early question. What has no cause in the trace is judged by
its instant. What a milestone *is* comes from its kind, its speaker and the fields below, never from names that are
drawn anew in every run (of commands, messages, boots), nor from measurements (silences, latencies, counts, values).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from clawsim.trace import TraceEvent

UNTOLD = ("reading.", "batch.", "downlink.", "host.", "client.", "frame.", "gateway.probing", "gateway.answered")
"""Kinds with these prefixes are no milestones. `client.*` is what a real broker says of its sockets, and a virtual one
has none; a gateway's doubt may pass within a second of the wall clock, and changes nothing that it does."""

TIMELINE_S = 1.0
"""The timeline's own instants come from the file; a live run reaches them by its pacer."""
PROMPT_S = 5.0
"""Code, a link and a scheduler: a live run whose timers are later than this is LAGGED anyway (`clawsim.live.pace`)."""
TOLD_S = PROMPT_S + 5.0
"""People are told: a notice waits 5 s for others of its kind (`FleetConfig.notify_quiet_ms`)."""
START_S = 30.0
"""A process loads its libraries, at timescale 30, for up to a second of the wall clock."""
LOOK_S = 30.0 + PROMPT_S
"""An mDNS query waits for answers on the wall clock, and then the node connects."""
BACKOFF_S = 30.0 + PROMPT_S
"""Who was refused or cut off tries again after up to 30 s (`firmware.wire.backoff`), in each run by other dice."""
UPLINK_S = 30.0 + PROMPT_S
"""A gateway and its cloud speak every 30 s: by so much may the last word before a silence differ."""
BEACON_S = 30.0 + PROMPT_S
"""A node beacons, or publishes, at least every 30 s: by so much may the last answer before a silence differ."""
HEARTBEAT_S = 60.0 + PROMPT_S
"""A node's heartbeat, 60 s: by so much may the last one before a silence differ."""
WINDOW_S = 60.0 + PROMPT_S
"""A gateway sends what it read in a minute; which minute a reading falls into depends on when the daemon started."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How near two milestones of one kind must be: their delays after their causes, or else their instants."""

    tolerance_s: float
    after: tuple[str, ...] = ()
    """Kinds of which the latest one before it, about the same subject, is its cause."""
    says: tuple[str, ...] = ()
    """Fields that must be equal."""


_UP = ("node.started", "config.applied", "failover.joined", "failover.scan", "fault.cleared", "node.down")
_RULED = ("alert.raised", "alert.cleared")

TIMINGS: dict[str, Timing] = {
    "fault.requested": Timing(TIMELINE_S, says=("of", "fault", "on")),
    "fault.effective": Timing(TIMELINE_S, ("fault.requested",), ("of", "fault", "on")),
    "fault.cleared": Timing(TIMELINE_S, says=("of", "fault", "on")),
    "call.sent": Timing(TIMELINE_S, says=("of", "method", "path")),
    "call.answered": Timing(START_S, ("call.sent",), ("of", "status")),  # a restart is answered by the next process
    "inject.sent": Timing(TIMELINE_S, says=("of", "topic", "bytes")),
    "hub.started": Timing(START_S, ("fault.cleared",)),
    "fleet.started": Timing(START_S, ("fault.cleared",)),
    "manager.leading": Timing(START_S, ("fault.cleared",)),
    "manager.following": Timing(START_S, ("fault.cleared", "manager.leading")),
    "manager.fenced": Timing(START_S, ("manager.leading",)),
    "gateway.started": Timing(START_S, ("fault.cleared",)),
    "node.started": Timing(START_S, ("fault.cleared", "command.executed")),
    "node.up": Timing(BACKOFF_S, _UP, ("node",)),
    "node.unsteady": Timing(BACKOFF_S, _UP, ("node",)),
    "node.down": Timing(HEARTBEAT_S, says=("node",)),
    "node.unknown": Timing(PROMPT_S, ("gateway.down",), ("node", "gateway")),
    "node.answered-by": Timing(PROMPT_S, ("gateway.down", "gateway.up"), ("node", "gateway")),
    "sensor.fault": Timing(PROMPT_S, ("sensor.fault",), ("metric", "reason")),
    "alarm.local": Timing(PROMPT_S, ("command.executed",), ("by", "rule")),
    "alarm.silenced": Timing(PROMPT_S, ("command.executed",), ("by", "rule")),
    "battery.low": Timing(PROMPT_S),
    "battery.recovered": Timing(PROMPT_S),
    "config.rolled-back": Timing(PROMPT_S, ("command.executed",), ("reason",)),
    "failover.scan": Timing(BEACON_S, says=("gateway",)),
    "failover.joined": Timing(LOOK_S, ("failover.scan",), ("gateway", "attach")),
    "gateway.offline": Timing(UPLINK_S, says=("reason",)),
    "gateway.online": Timing(BACKOFF_S, ("gateway.started", "fault.cleared")),
    "config.refused": Timing(PROMPT_S, ("gateway.online", "gateway.started", "call.sent"), ("reason",)),
    "failback.ordered": Timing(BACKOFF_S + UPLINK_S, ("node.up", "gateway.up"), ("node", "gateway", "policy")),
    "uplink.switched": Timing(BACKOFF_S, says=("uplink",)),
    "uplink.spent": Timing(WINDOW_S, says=("uplink",)),
    "gateway.catching-up": Timing(PROMPT_S, ("gateway.online",)),
    "gateway.caught-up": Timing(BACKOFF_S, ("gateway.catching-up",)),  # one batch in flight, resent after 30 s
    "gateway.down": Timing(UPLINK_S, says=("gateway",)),
    "gateway.up": Timing(BACKOFF_S, ("gateway.started", "fault.cleared"), ("gateway",)),
    "outbox.broken": Timing(UPLINK_S, ("gateway.online",), ("gateway", "outboxes")),
    "agent.event": Timing(PROMPT_S, ("call.sent",), ("node", "type", "severity")),
    "alert.acknowledged": Timing(PROMPT_S, ("call.sent",), ("node",)),
    "node.registered": Timing(PROMPT_S, ("call.sent",), ("node",)),
    "node.replaced": Timing(PROMPT_S, ("call.sent",), ("node",)),
    "node.moved": Timing(PROMPT_S, ("call.sent",), ("node",)),
    "node.stolen": Timing(PROMPT_S, ("call.sent",), ("node",)),
    "node.desired": Timing(PROMPT_S, ("call.sent",), ("node",)),
    "node.decommissioned": Timing(PROMPT_S, ("call.sent",), ("node",)),
    "gateway.registered": Timing(PROMPT_S, ("call.sent",), ("gateway",)),
    "rule.changed": Timing(PROMPT_S, ("call.sent",), ("rule",)),
    "notification.discarded": Timing(PROMPT_S, ("call.sent",), ("subject",)),
    "maintenance.added": Timing(PROMPT_S, ("call.sent",), ("on",)),
    "maintenance.changed": Timing(PROMPT_S, ("call.sent",), ("on",)),
    "maintenance.ended": Timing(PROMPT_S, ("call.sent",), ("on",)),
    "sensitive.changed": Timing(PROMPT_S, ("call.sent",), ("metric",)),
    "sealing.changed": Timing(PROMPT_S, ("call.sent",), ("node",)),
    "rule.blind": Timing(HEARTBEAT_S, says=("rule", "node", "metric")),
    "command.refused": Timing(PROMPT_S, _RULED, ("rule", "target")),
    "certificate.expiring": Timing(PROMPT_S, says=("name", "days")),
    "config.applied": Timing(PROMPT_S, ("gateway.online", "gateway.started")),
    "alert.raised": Timing(WINDOW_S, says=("node", "rule", "by")),
    "alert.cleared": Timing(WINDOW_S, says=("node", "rule", "by")),
    "command.queued": Timing(PROMPT_S, ("call.sent", "node.up", *_RULED), ("action", "target")),
    "command.sent": Timing(PROMPT_S, ("command.queued", "node.up", "gateway.online", *_RULED), ("action", "target")),
    "command.executed": Timing(PROMPT_S, ("command.sent",), ("action",)),
    "command.acknowledged": Timing(
        PROMPT_S, ("command.executed", "gateway.online", "node.started", "node.up"), ("action", "target", "status")
    ),
    "command.failed": Timing(
        PROMPT_S, ("command.executed", "node.started", "node.up", "command.queued"), ("action", "target", "reason")
    ),
    "command.expired": Timing(PROMPT_S, ("command.queued",), ("action", "target")),
    "notification.sent": Timing(
        TOLD_S,
        ("gateway.down", "gateway.up", "gateway.catching-up", "node.down", "node.up", *_RULED),
        ("subject", "node"),
    ),
    "notification.failed": Timing(PROMPT_S, ("notification.sent",), ("subject", "node")),
    "message.rejected": Timing(PROMPT_S, ("inject.sent",), ("reason", "topic", "from")),
    "report.dropped": Timing(PROMPT_S, ("store.failed",)),
    "store.failed": Timing(PROMPT_S, ("store.failed",)),
    "store.recovered": Timing(PROMPT_S, ("store.failed",)),
    "process.died": Timing(PROMPT_S),
}
OTHER = Timing(PROMPT_S)
"""For a kind that the table does not know: compared by instant, speaker and kind alone."""

_BY_GATEWAY = Timing(PROMPT_S, says=("node", "rule", "by"))


def is_milestone(kind: str) -> bool:
    """Whether events of `kind` belong to the story."""
    return not kind.startswith(UNTOLD)


def timing(event: TraceEvent) -> Timing:
    """How `event` is compared."""
    if event.kind.startswith("alert.") and event.fields.get("by") == "gateway":
        return _BY_GATEWAY  # decided as the reading arrives: no window in between
    return TIMINGS.get(event.kind, OTHER)


def told(event: TraceEvent) -> tuple[Any, ...]:
    """What `event` says, without what is drawn anew in every run."""
    return (event.who, event.kind, *(str(event.fields.get(name, "")) for name in timing(event).says))


def subject(event: TraceEvent) -> str:
    """Whom or what `event` is about: a node, a gateway, an entry of the timeline, or else its speaker."""
    fields = event.fields
    return str(fields.get("node") or fields.get("target") or _of_others(event) or event.who)


def _of_others(event: TraceEvent) -> Any:
    if event.kind.startswith("gateway."):
        return event.fields.get("gateway")
    return event.fields.get("of")


def answers_to(event: TraceEvent, cause: TraceEvent) -> bool:
    """Whether `cause` is about what `event` is about; a fault and a call also cause things at others."""
    if cause.kind.startswith("command.") and event.kind.startswith(("command.", "alarm.")):
        return bool(event.fields.get("id") == cause.fields.get("id"))
    if cause.kind == "fault.cleared":
        return True
    if cause.kind == "gateway.catching-up" and event.kind == "notification.sent":
        return "node" in event.fields or "nodes" in event.fields  # what was decided offline is told when heard of
    if cause.kind in ("call.sent", "inject.sent", "store.failed"):
        return _of_call(event, cause)
    if cause.kind == "node.up" and event.kind == "command.queued":  # where it is now, and where it was
        return event.fields.get("action") == "release" and cause.who != event.fields.get("target")
    return subject(cause) in _named(event)


def _named(event: TraceEvent) -> list[str]:
    words = str(event.fields.get("subject", "")).replace(":", "").split()
    nodes = [str(node) for node in event.fields.get("nodes", ())]  # of one message about several
    return [event.who, *(str(event.fields.get(name)) for name in ("node", "target", "gateway")), *nodes, *words]


def _of_call(event: TraceEvent, cause: TraceEvent) -> bool:
    if event.kind == "call.answered":
        return bool(event.fields.get("of") == cause.fields.get("of"))
    if event.kind == "command.queued":
        return subject(event) in str(cause.fields.get("path", "")).split("/")
    return event.kind == "message.rejected" or event.who == cause.who
