"""What LoRa frames say: the messages of `firmware.wire.messages`, as CBOR maps with small integers for keys.

Uplink    0 readings, 1 event readings of this boot; 2 `[boot, readings, event readings]` of an earlier one;
          3 heartbeat; 4 `[id, status, reason]` of a command
Downlink  0 `[first, count, bits]`, what is received of this boot: `count` seqs from `first` on, and bit n of byte m
          stands for the 8m + n th after those; 1 `[boot, first, count, bits]` of an earlier boot;
          2 `[action, id, ttl_ms, by, parameters]` of a command

Readings are one flat array, four items each: seq, kind, value, age (in an earlier boot: uptime) in ms. Seqs and times
after the first are differences to the one before. A kind is an index into `lora_kinds.KINDS`, else `[metric, unit]`.
An integer value is in the kind's resolution (of an unlisted kind: whole), `[digits, decimals]` says its own, a byte
string is a sealed one.
"""

import binascii
import json

from firmware.wire import messages
from firmware.wire.cbor import decode, encode
from firmware.wire.ids import valid_metric
from firmware.wire.lora_kinds import KINDS
from firmware.wire.sealing import MARK

READINGS, EVENTS, EARLIER, HEARTBEAT, ACK = 0, 1, 2, 3, 4
RECEIVED, RECEIVED_EARLIER, COMMAND = 0, 1, 2
MAX_BITS_BYTES = 16
MAX_DECIMALS = 9

STATUSES = ("done", "restarted", "failed")
ACTIONS = ("alert", "restart", "config", "identify")
BY = ("cloud", "gateway")
# A heartbeat is an array of these; from `version` on a frame without room leaves them out.
HEARTBEAT_MEMBERS = (
    "interval_ms",
    "uptime_ms",
    "next_seq",
    "dropped",
    "backlog",
    "battery_mv",
    "low_battery",
    "faults",
    "free_memory_kb",
    "version",
)
HEARTBEAT_LEAST = 5


# --- node -> gateway ---------------------------------------------------------------------------------------------


def pack_readings(records: list) -> list:
    """Records `(seq, metric, value, unit, ms)` as one flat array; `value` and `unit` are JSON text, as a node has them
    (a sealed value after `MARK`)."""
    items: list = []
    last_seq = last_ms = 0
    for seq, metric, value, unit, ms in records:
        kind, decimals = _kind(metric, json.loads(unit))
        items += [seq - last_seq, kind, _packed(value, decimals), ms - last_ms]
        last_seq, last_ms = seq, ms
    return items


def unpack_uplink(contents: bytes, fleet: str, boot: int, count: int) -> "list[tuple[str, bytes]] | None":
    """`(verb or metric, message)` as the node would have sent them over MQTT, or None when it is malformed.

    `boot` and `count` are those of the frame; `fleet` is the one whose key has opened it.
    """
    found = _map(contents)
    if found is None:
        return None
    said: list = []
    try:
        if HEARTBEAT in found:
            said.append(("heartbeat", _heartbeat(found[HEARTBEAT], fleet, boot, count)))
        if ACK in found:
            said.append(("ack", _ack(found[ACK])))
        if EARLIER in found:
            earlier, readings, events = found[EARLIER]
            said += _readings(readings, earlier, "up_ms", False) + _readings(events, earlier, "up_ms", True)
        said += _readings(found.get(READINGS, []), boot, "age_ms", False)
        said += _readings(found.get(EVENTS, []), boot, "age_ms", True)
    except (ValueError, TypeError, KeyError, IndexError):
        return None
    return said


def pack_heartbeat(members: dict, count: int) -> list:
    """The first `count` members of a heartbeat, without what is unknown at the end."""
    values = [members.get(name) for name in HEARTBEAT_MEMBERS[:count]]
    while len(values) > HEARTBEAT_LEAST and values[-1] is None:
        values.pop()
    return values


def pack_ack(command_id: str, status: str, reason: str) -> list:
    """The answer to a command."""
    return [command_id, _code(STATUSES, status)] + ([reason] if reason else [])


def _readings(items: list, boot: int, clock: str, event: bool) -> "list[tuple[str, bytes]]":
    if not isinstance(items, list) or len(items) % 4:
        raise ValueError("readings are four items each")
    said = []
    seq = ms = 0
    for at in range(0, len(items), 4):
        seq += _integer(items[at])
        ms += _integer(items[at + 3])
        metric, unit, decimals = _known(items[at + 1])
        payload = messages.encode_reading(
            _unpacked(items[at + 2], decimals), json.dumps(unit), _integer(boot), seq, clock, ms, event
        )
        if not valid_metric(metric) or messages.decode_reading(payload) is None:
            raise ValueError("no reading")
        said.append((metric, payload))
    return said


def _heartbeat(values: list, fleet: str, boot: int, count: int) -> bytes:
    found = {"fleet": fleet, "boot": boot, "n": count, "attach": 0}
    if not HEARTBEAT_LEAST <= len(values) <= len(HEARTBEAT_MEMBERS):
        raise ValueError("no heartbeat")
    for name, value in zip(HEARTBEAT_MEMBERS, values):
        if value is not None:
            found[name] = value
    if messages.check_heartbeat(found) is None:
        raise ValueError("no heartbeat")
    return json.dumps(found).encode()


def _ack(values: list) -> bytes:
    found = {"id": values[0], "status": _decoded(STATUSES, values[1])}
    if len(values) > 2:
        found["reason"] = values[2]
    if messages.check_ack(found) is None:
        raise ValueError("no answer")
    return json.dumps(found).encode()


def _kind(metric: str, unit: str) -> tuple:
    """The kind as it travels, and its decimals."""
    for index, known in enumerate(KINDS):
        if known[0] == metric and known[1] == unit:
            return index, known[2]
    return [metric, unit], 0


def _known(kind) -> tuple:
    """Metric, unit and decimals of a kind that travelled."""
    if isinstance(kind, list):
        metric, unit = kind
        return metric, unit, 0
    return _entry(KINDS, kind)


def _packed(text: str, decimals: int):
    """A value (JSON text) as it travels: numbers stay decimal, so that none is rounded."""
    if text[0] == MARK:
        return binascii.a2b_base64(text[1:].encode())
    if text[0] not in "-0123456789":
        return json.loads(text)  # a boolean or a text
    whole, _, fraction = text.partition(".")
    digits = int(whole + fraction)
    return digits if len(fraction) == decimals else [digits, len(fraction)]


def _unpacked(value, decimals: int) -> str:
    """`_packed` undone."""
    if isinstance(value, bytes):
        return MARK + binascii.b2a_base64(value)[:-1].decode()
    if isinstance(value, list):
        value, decimals = value
        if not 0 <= _integer(decimals) <= MAX_DECIMALS:
            raise ValueError("too many decimals")
        return messages.fixed_point(_integer(value), decimals)
    if isinstance(value, (bool, str)):
        return json.dumps(value)
    return messages.fixed_point(_integer(value), decimals)


# --- gateway -> node ---------------------------------------------------------------------------------------------


def pack_received(boot: int, received: dict) -> dict:
    """A `received` message as a member of a downlink that answers a frame of `boot`; what does not fit the bits counts
    as missing."""
    if "upto" not in received:
        return {}
    first, last, missing = received.get("from", 0), received["upto"], received.get("missing", [])
    upto = last
    for seq in missing:
        upto = min(upto, seq - 1)
    beyond = bytearray(min((last - upto + 7) // 8, MAX_BITS_BYTES))
    for at in range(min(last - upto, 8 * len(beyond))):
        if upto + 1 + at not in missing:
            beyond[at // 8] |= 1 << at % 8
    body = [first, upto + 1 - first] + ([bytes(beyond)] if beyond else [])
    return {RECEIVED: body} if received["boot"] == boot else {RECEIVED_EARLIER: [received["boot"]] + body}


def pack_command(command: dict) -> dict:
    """A command (see `encode_command`) as a member of a downlink."""
    given = {k: command[k] for k in command if k not in ("action", "id", "ttl_ms", "by", "mac")}
    by = _code(BY, command.get("by", "cloud"))
    body = [_code(ACTIONS, command["action"]), command["id"], command.get("ttl_ms", 60000), by]
    return {COMMAND: body + ([given] if given else [])}


def unpack_downlink(contents: bytes, boot: int) -> "list[tuple[str, bytes]] | None":
    """`(verb, body)` of `received` and `cmd` messages, or None when it is malformed; `boot` is the frame's."""
    found = _map(contents)
    if found is None:
        return None
    said: list = []
    try:
        if RECEIVED_EARLIER in found:
            said.append(("received", _received(found[RECEIVED_EARLIER][0], found[RECEIVED_EARLIER][1:])))
        if RECEIVED in found:
            said.append(("received", _received(boot, found[RECEIVED])))
        if COMMAND in found:
            said.append(("cmd", _command(found[COMMAND])))
    except (ValueError, TypeError, KeyError, IndexError):
        return None
    return said


def _received(boot: int, body: list) -> bytes:
    first, held = _integer(body[0]), _integer(body[1])
    bits = body[2] if len(body) > 2 else b""
    if len(bits) > MAX_BITS_BYTES or held < 0:
        raise ValueError("no acknowledgement")
    last = first + held - 1
    missing: list[int] = []
    unsure: list[int] = []
    for at in range(8 * len(bits)):
        if bits[at // 8] >> at % 8 & 1:
            if len(missing) + len(unsure) > messages.MAX_MISSING:
                break  # more than a message holds: the rest comes another time
            missing += unsure
            last, unsure = first + held + at, []
        else:
            unsure.append(first + held + at)
    body_text = messages.encode_received(boot, None if last < first else (first, last), missing, 0)
    if messages.decode_received(body_text) is None:
        raise ValueError("no acknowledgement")
    return body_text


def _command(body: list) -> bytes:
    action, by = _decoded(ACTIONS, body[0]), _decoded(BY, body[3])
    return messages.encode_command(action, body[1], body[2], by, body[4] if len(body) > 4 else {})


# --- both --------------------------------------------------------------------------------------------------------


def contents_of(found: dict) -> bytes:
    """The contents of a frame."""
    return encode(found)


def _map(contents: bytes) -> "dict | None":
    try:
        found = decode(contents)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _integer(value) -> int:
    if type(value) is not int:
        raise ValueError("no integer")
    return value


def _code(table: tuple, word: str):
    """Its place in the table, or the word itself."""
    return table.index(word) if word in table else word


def _decoded(table: tuple, code) -> str:
    if isinstance(code, str):
        return code
    return str(_entry(table, code))


def _entry(table: tuple, index):
    if not 0 <= _integer(index) < len(table):
        raise ValueError("not in the table")
    return table[index]
