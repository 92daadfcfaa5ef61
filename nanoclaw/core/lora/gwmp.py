"""GWMP, version 2: the UDP protocol between a concentrator's packet forwarder and us, after Semtech's PROTOCOL.TXT.

A datagram begins with the version, a token of 2 bytes and its kind. What a concentrator sends goes on with its
identifier, 8 bytes (the EUI), and JSON. It pushes what it has received (PUSH_DATA) and pulls now and then, so that we
know an address for what it shall transmit (PULL_DATA, and then PULL_RESP from us, which it answers with TX_ACK). The
protocol authenticates nobody: frames are believed for their own code, and concentrators are bound to a trusted network.
"""

import base64
import re
from typing import Any, NamedTuple

import orjson

from fleet.wire.uplink import Message, Rejected

VERSION = 2
PUSH_DATA, PUSH_ACK, PULL_DATA, PULL_RESP, PULL_ACK, TX_ACK = range(6)
FROM_CONCENTRATOR = (PUSH_DATA, PULL_DATA, TX_ACK)
EUI_BYTES = 8
HEAD_BYTES = 4 + EUI_BYTES
MOST_DATAGRAM_BYTES = 16_384
MOST_PACKETS = 64
"""In one datagram; a concentrator gives up to 8 at a time."""
MOST_FRAME_BYTES = 255  # what the PHY can carry
TMST_WRAP_US = 1 << 32
CRC_OK, CRC_NONE, CRC_FAILED = 1, 0, -1
NO_SIGNAL_DBM = -200
"""For a packet that does not say how strong it was: weaker than all that do."""
TX_ERRORS = (
    "TOO_LATE",
    "TOO_EARLY",
    "COLLISION_PACKET",
    "COLLISION_BEACON",
    "TX_FREQ",
    "TX_POWER",
    "GPS_UNLOCKED",
)
_DATA_RATE = re.compile(r"SF([5-9]|1[0-2])BW(125|250|500)")
_EUI = re.compile(r"[0-9a-f]{16}")


class Datagram(NamedTuple):
    """What a concentrator sent: `eui` in 16 hexadecimal digits, `body` the JSON object in it ({} for none)."""

    kind: int
    token: int
    eui: str
    body: Message


class Packet(NamedTuple):
    """A frame as a concentrator heard it; `tmst_us` is its own clock, 32 bits, at the end of the frame."""

    frame: bytes
    tmst_us: int
    frequency_hz: int
    sf: int
    bandwidth_hz: int
    crc: int
    rssi_dbm: float
    snr_db: float


class Downlink(NamedTuple):
    """A frame to be sent at `tmst_us` of the concentrator's clock, which wraps."""

    frame: bytes
    tmst_us: int
    frequency_hz: int
    sf: int
    bandwidth_hz: int
    power_dbm: int


def is_eui(text: str) -> bool:
    """Whether `text` is an EUI as we write it: 16 hexadecimal digits, small letters."""
    return _EUI.fullmatch(text) is not None


def decode(data: bytes) -> Datagram:
    """What a concentrator sent. Raises Rejected."""
    if len(data) > MOST_DATAGRAM_BYTES:
        raise Rejected(f"longer than {MOST_DATAGRAM_BYTES} bytes")
    if len(data) < HEAD_BYTES:
        raise Rejected("too short")
    if data[0] != VERSION:
        raise Rejected(f"not version {VERSION} of the packet forwarder's protocol")
    kind, rest = data[3], data[HEAD_BYTES:]
    if kind not in FROM_CONCENTRATOR:
        raise Rejected("not a datagram of a concentrator")
    body = _object(rest) if kind == PUSH_DATA or (kind == TX_ACK and rest.strip(b"\0 ")) else {}
    return Datagram(kind, int.from_bytes(data[1:3], "big"), data[4:HEAD_BYTES].hex(), body)


def push_ack(token: int) -> bytes:
    """The answer to a PUSH_DATA."""
    return _head(token, PUSH_ACK)


def pull_ack(token: int) -> bytes:
    """The answer to a PULL_DATA."""
    return _head(token, PULL_ACK)


def pull_resp(token: int, downlink: Downlink) -> bytes:
    """Have a concentrator transmit: as LoRaWAN does towards nodes, inverted and without a CRC, so that no other
    concentrator hears it."""
    txpk = {
        "imme": False,
        "tmst": downlink.tmst_us % TMST_WRAP_US,
        "freq": downlink.frequency_hz / 1_000_000,
        "rfch": 0,
        "powe": downlink.power_dbm,
        "modu": "LORA",
        "datr": f"SF{downlink.sf}BW{downlink.bandwidth_hz // 1000}",
        "codr": "4/5",
        "ipol": True,
        "ncrc": True,
        "size": len(downlink.frame),
        "data": base64.b64encode(downlink.frame).decode(),
    }
    return _head(token, PULL_RESP) + orjson.dumps({"txpk": txpk})


def packets(body: Message) -> list[Any]:
    """What a PUSH_DATA says was received, each for `packet`. Raises Rejected."""
    found = body.get("rxpk", [])
    if not isinstance(found, list) or len(found) > MOST_PACKETS:
        raise Rejected(f"rxpk is not a list of at most {MOST_PACKETS}")
    return found


def packet(rxpk: Any) -> Packet:
    """One member of `rxpk`. Raises Rejected."""
    if not isinstance(rxpk, dict):
        raise Rejected("a packet that is no object")
    if rxpk.get("modu") != "LORA":
        raise Rejected("modulation is not LoRa")
    rate = rxpk.get("datr")
    found = _DATA_RATE.fullmatch(rate) if isinstance(rate, str) else None
    if found is None:
        raise Rejected("no data rate of LoRa")
    return Packet(
        _frame(rxpk),
        int(_number(rxpk, "tmst", 0, TMST_WRAP_US - 1)),
        round(_number(rxpk, "freq", 100, 3_000) * 1_000_000),
        int(found[1]),
        int(found[2]) * 1000,
        int(_number(rxpk, "stat", CRC_FAILED, CRC_OK)),
        _signal(rxpk),
        _number({"lsnr": 0} | rxpk, "lsnr", -200, 200),
    )


def transmitted(body: Message) -> str:
    """What a TX_ACK says: "" for a frame that will be sent, else the error, "other" for one that we do not know.

    A warning says that it is sent in another way, such as with less power. Raises Rejected.
    """
    found = body.get("txpk_ack", {})
    if not isinstance(found, dict):
        raise Rejected("txpk_ack is no object")
    error = found.get("error", "NONE")
    if not isinstance(error, str):
        raise Rejected("the error of a txpk_ack is no text")
    if error in ("NONE", ""):
        return ""
    return error if error in TX_ERRORS else "other"


def _head(token: int, kind: int) -> bytes:
    return bytes([VERSION]) + token.to_bytes(2, "big") + bytes([kind])


def _object(text: bytes) -> Message:
    try:
        found = orjson.loads(text.rstrip(b"\0"))  # some forwarders send the end of their C string, too
    except ValueError as error:
        raise Rejected("not JSON") from error
    if not isinstance(found, dict):
        raise Rejected("not a JSON object")
    return found


def _frame(rxpk: Message) -> bytes:
    """The bytes on the air. Forwarders pad base64 or do not, and PROTOCOL.TXT's own examples use both alphabets."""
    text = rxpk.get("data")
    if not isinstance(text, str) or len(text) > 2 * MOST_FRAME_BYTES:
        raise Rejected("a packet without data")
    text = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        frame = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError as error:
        raise Rejected("data is not base64") from error
    if len(frame) > MOST_FRAME_BYTES or rxpk.get("size", len(frame)) != len(frame):
        raise Rejected("size is not that of the data")
    return frame


def _signal(rxpk: Message) -> float:
    """RSSI; a concentrator with several antennas says it of each, and the best one counts."""
    antennas = rxpk.get("rsig")
    if "rssi" not in rxpk and isinstance(antennas, list) and antennas:
        each = [one for one in antennas[:MOST_PACKETS] if isinstance(one, dict)]
        return max((_number(one, "rssic", NO_SIGNAL_DBM, 50) for one in each), default=NO_SIGNAL_DBM)
    return _number({"rssi": NO_SIGNAL_DBM} | rxpk, "rssi", NO_SIGNAL_DBM, 50)


def _number(found: Message, name: str, least: float, most: float) -> float:
    value: Any = found.get(name)
    if type(value) not in (int, float) or not least <= value <= most:
        raise Rejected(f"{name} is not a number from {least:g} to {most:g}")
    return float(value) if type(value) is float else int(value)
