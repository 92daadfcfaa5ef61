"""The JSON messages between a node and its gateway, encoded and decoded in one place.

Decoders return None for anything they cannot vouch for: the receiver counts a rejection and goes on. Unknown keys are
ignored, so that either side can be newer than the other.
"""

import json

from firmware.wire.sealing import MARK, blob_of

MAX_NODE_MESSAGE_BYTES = 512
MAX_TEXT_CHARS = 64
BOOT_BITS = 30
MAX_BOOT = (1 << BOOT_BITS) - 1
MAX_SEQ = (1 << 31) - 1
MAX_MS = 1 << 48  # longer than any board lives
MAX_MISSING = 32
MAX_TTL_MS = 7 * 24 * 3600 * 1000


def decode_object(payload: bytes) -> "dict | None":
    """The JSON object in `payload`, or None when it is too long, not UTF-8, not JSON or not an object."""
    if len(payload) > MAX_NODE_MESSAGE_BYTES:
        return None
    try:
        found = json.loads(payload.decode())
    except (ValueError, RuntimeError):  # UnicodeError is a ValueError, what nests too deep a RuntimeError
        return None
    return found if isinstance(found, dict) else None


def next_boot(last: "int | None", rng) -> int:
    """One more than the last boot number, or a random one for a blank board, so that a lost flash repeats nothing."""
    return rng.getrandbits(BOOT_BITS) if last is None else (last + 1) & MAX_BOOT


def is_count(value: object, most: int) -> bool:
    """Whether `value` is an integer (not a boolean) from 0 to `most`."""
    return type(value) is int and 0 <= value <= most


def _text(text: str) -> str:
    return json.dumps(text)


def fixed_point(value: int, exp: int) -> str:
    """`value` × 10^-`exp` in decimal without floating point: 2500 with exp 2 is `25.00`."""
    if exp == 0:
        return str(value)
    sign, digits = ("-", -value) if value < 0 else ("", value)
    scale = 10**exp
    return "%s%d.%0*d" % (sign, digits // scale, exp, digits % scale)


def encode_value(value: object, exp: int) -> str:
    """A value as JSON text; integers are in units of 10^-`exp`."""
    if type(value) is int:
        return fixed_point(value, exp)
    return json.dumps(value)


# --- node -> gateway ---------------------------------------------------------------------------------------------


def encode_reading(value: str, unit: str, boot: int, seq: int, clock: str, ms: int, event: bool = False) -> bytes:
    """A reading; `value` and `unit` are JSON text, `clock` is `age_ms` (this boot) or `up_ms` (uptime, for an earlier
    boot). A `value` that is sealed, after `MARK`, is sent as such.

    An `event` (a door, a leak) is to be forwarded at once.
    """
    end = ',"event":true}' if event else "}"
    start = '{"sealed":"%s"' % value[1:] if value[0] == MARK else '{"value":%s' % value
    return ('%s,"unit":%s,"boot":%d,"seq":%d,"%s":%d%s' % (start, unit, boot, seq, clock, ms, end)).encode()


def decode_reading(payload: bytes) -> "dict | None":
    """`check_reading` of an encoded message."""
    return check_reading(decode_object(payload))


def check_reading(found: object) -> "dict | None":
    """A reading that can be vouched for, or None: `value`, and with an identity `boot`, `seq`, `age_ms` or `up_ms`.

    One with `sealed` instead of a value always has its identity, for that is the seal's nonce.
    """
    if not isinstance(found, dict):
        return None
    sealed = "value" not in found and blob_of(found.get("sealed")) is not None
    if not sealed and not _is_value(found.get("value")):
        return None
    unit = found.get("unit")
    if unit is not None and not (isinstance(unit, str) and len(unit) <= MAX_TEXT_CHARS):
        return None
    boot, seq = found.get("boot"), found.get("seq")
    if boot is None and seq is None and not sealed:
        return found
    ms = found["up_ms"] if "up_ms" in found else found.get("age_ms", 0)
    if type(boot) is not int or type(seq) is not int or type(ms) is not int:
        return None
    return found if 0 <= boot <= MAX_BOOT and 0 <= seq <= MAX_SEQ and 0 <= ms <= MAX_MS else None


def _is_value(value: object) -> bool:
    if type(value) is float:
        return value - value == 0  # neither NaN nor infinite
    if type(value) is int:
        return -MAX_MS <= value <= MAX_MS
    if isinstance(value, str):
        return len(value) <= MAX_TEXT_CHARS
    return type(value) is bool


def encode_heartbeat(
    fleet: str,
    boot: int,
    n: int,
    attach: int,
    interval_ms: int,
    uptime_ms: int,
    next_seq: int,
    dropped: int,
    backlog: int,
    version: str,
    health: str,
) -> bytes:
    """A heartbeat; `n` counts this boot's heartbeats and beacons, `health` is more JSON members or an empty string."""
    return (
        '{"fleet":"%s","boot":%d,"n":%d,"attach":%d,"interval_ms":%d,"uptime_ms":%d,"next_seq":%d,"dropped":%d,'
        '"backlog":%d,"version":"%s"%s}'
        % (fleet, boot, n, attach, interval_ms, uptime_ms, next_seq, dropped, backlog, version, health)
    ).encode()


def encode_health(free_memory_kb: "int | None", battery_mv: "int | None") -> str:
    """The members of a heartbeat that only some boards can measure."""
    text = "" if free_memory_kb is None else ',"free_memory_kb":%d' % free_memory_kb
    return text if battery_mv is None else text + ',"battery_mv":%d' % battery_mv


def decode_heartbeat(payload: bytes) -> "dict | None":
    """`check_heartbeat` of an encoded message."""
    return check_heartbeat(decode_object(payload))


def check_heartbeat(found: object) -> "dict | None":
    """A heartbeat with all counts of `encode_heartbeat`, or None; the interval is at least a second."""
    if not isinstance(found, dict) or not isinstance(found.get("fleet"), str):
        return None
    try:
        uptime_ms, boot, next_seq, dropped = found["uptime_ms"], found["boot"], found["next_seq"], found["dropped"]
        interval_ms, backlog, attach, n = found["interval_ms"], found["backlog"], found["attach"], found["n"]
    except KeyError:
        return None
    for value in (interval_ms, uptime_ms, boot, next_seq, dropped, backlog, attach, n):
        if type(value) is not int:
            return None
    if not (1000 <= interval_ms <= MAX_MS and 0 <= uptime_ms <= MAX_MS and 0 <= boot <= MAX_BOOT):
        return None
    if not (0 <= next_seq <= MAX_SEQ and 0 <= dropped <= MAX_SEQ and 0 <= backlog <= MAX_SEQ):
        return None
    if not (0 <= attach <= MAX_SEQ and 0 <= n <= MAX_SEQ):
        return None
    version = found.get("version", "")
    if not isinstance(version, str) or len(version) > MAX_TEXT_CHARS:
        return None
    return found


def encode_beacon(fleet: str, boot: int, n: int, attach: int) -> bytes:
    """A beacon: are you there, and do you know that I am yours?"""
    return ('{"fleet":"%s","boot":%d,"n":%d,"attach":%d}' % (fleet, boot, n, attach)).encode()


def decode_beacon(payload: bytes) -> "dict | None":
    """`check_beacon` of an encoded message."""
    return check_beacon(decode_object(payload))


def check_beacon(found: object) -> "dict | None":
    """A beacon, or None: `fleet`, `boot`, `n`, `attach`."""
    if not isinstance(found, dict) or not isinstance(found.get("fleet"), str):
        return None
    good = (
        is_count(found.get("boot"), MAX_BOOT)
        and is_count(found.get("n"), MAX_SEQ)
        and is_count(found.get("attach"), MAX_SEQ)
    )
    return found if good else None


def encode_ack(command_id: str, status: str, reason: str = "") -> bytes:
    """A node's answer to a command: `done`, `restarted` or `failed` with a reason."""
    if reason:
        return ('{"id":%s,"status":"%s","reason":%s}' % (_text(command_id), status, _text(reason))).encode()
    return ('{"id":%s,"status":"%s"}' % (_text(command_id), status)).encode()


def decode_ack(payload: bytes) -> "dict | None":
    """`check_ack` of an encoded message."""
    return check_ack(decode_object(payload))


def check_ack(found: object) -> "dict | None":
    """An answer, or None: `id`, `status`, perhaps `reason`."""
    if not isinstance(found, dict):
        return None
    for name in ("id", "status", "reason"):
        text = found.get(name, "")
        if not isinstance(text, str) or len(text) > MAX_TEXT_CHARS:
            return None
    return found if found.get("id") and found.get("status") else None


# --- gateway -> node ---------------------------------------------------------------------------------------------


def encode_received(boot: int, span: "tuple[int, int] | None", missing: "list[int]", n: int) -> bytes:
    """What the gateway has on disk of this boot: all of `span` (first, last) but `missing`; `n` echoes the highest
    beacon or heartbeat counter heard, so an old answer cannot be replayed as a sign of life."""
    if span is None:
        return ('{"boot":%d,"n":%d}' % (boot, n)).encode()
    gaps = ",".join([str(seq) for seq in missing])
    return ('{"boot":%d,"from":%d,"upto":%d,"missing":[%s],"n":%d}' % (boot, span[0], span[1], gaps, n)).encode()


def decode_received(body: bytes) -> "dict | None":
    """A checked `received`: `boot`, `n`, and with something acknowledged `from`, `upto`, `missing`."""
    found = decode_object(body)
    if found is None or not is_count(found.get("boot"), MAX_BOOT) or not is_count(found.get("n"), MAX_SEQ):
        return None
    if "upto" not in found:
        return found
    missing = found.setdefault("missing", [])
    first, upto = found.setdefault("from", 0), found["upto"]
    if type(first) is not int or type(upto) is not int or not 0 <= first <= upto <= MAX_SEQ:
        return None
    if not isinstance(missing, list) or len(missing) > MAX_MISSING:
        return None
    return found if not missing or all([is_count(seq, MAX_SEQ) for seq in missing]) else None


def encode_command(action: str, command_id: str, ttl_ms: int, by: str, params: dict) -> bytes:
    """A command to a node; `by` is `cloud` or `gateway`, a duration travels because nodes have no wall clock."""
    found = dict(params)
    found["action"] = action
    found["id"] = command_id
    found["ttl_ms"] = ttl_ms
    found["by"] = by
    return json.dumps(found).encode()


def decode_command(body: bytes) -> "dict | None":
    """A checked command: `action`, `id`, `ttl_ms`, `by` and the action's own parameters."""
    found = decode_object(body)
    if found is None:
        return None
    for name in ("action", "id", "by"):
        text = found.setdefault(name, "cloud" if name == "by" else None)
        if not isinstance(text, str) or not 0 < len(text) <= MAX_TEXT_CHARS:
            return None
    return found if is_count(found.setdefault("ttl_ms", 60000), MAX_TTL_MS) else None
