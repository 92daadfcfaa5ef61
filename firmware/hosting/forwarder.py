"""A LoRa concentrator's packet forwarder, its end of GWMP version 2 (Semtech's PROTOCOL.TXT): datagrams in and out.

It pushes what it hears, pulls now and then so that the gateway knows where it is, and is given frames to transmit at
instants of its own clock, which counts microseconds in 32 bits.
"""

import base64
import json
import re
from typing import Any, NamedTuple

from firmware.wire.airtime import time_on_air_us

VERSION = 2
PUSH_DATA, _PUSH_ACK, PULL_DATA, PULL_RESP, _PULL_ACK, TX_ACK = range(6)
EUI_BYTES = 8
PULL_EVERY_MS = 10_000
WRAP_US = 1 << 32
MOST_AHEAD_US = 10_000_000
"""A frame for later than that is refused as too early; one for the past as too late."""
_DATA_RATE = re.compile(r"SF(\d{1,2})BW125")


class Order(NamedTuple):
    """A frame to transmit, `in_us` from now."""

    in_us: int
    frequency_hz: int
    sf: int
    frame: bytes


class PacketForwarder:
    """One concentrator of `eui`, 8 bytes."""

    def __init__(self, eui: bytes) -> None:
        self._eui = eui
        self._token = 0
        self._busy_us: list[tuple[int, int]] = []  # from, to: what it was told to transmit

    def pull(self) -> bytes:
        """Say where we are; due every `PULL_EVERY_MS`."""
        return self._head(self._next_token(), PULL_DATA)

    def push(self, frame: bytes, now_us: int, frequency_hz: int, sf: int, rssi_dbm: int, snr_db: float) -> bytes:
        """`frame` was heard and ends at `now_us`."""
        rxpk = {
            "tmst": now_us % WRAP_US,
            "chan": 0,
            "rfch": 0,
            "freq": frequency_hz / 1_000_000,
            "stat": 1,
            "modu": "LORA",
            "datr": f"SF{sf}BW125",
            "codr": "4/5",
            "rssi": rssi_dbm,
            "lsnr": snr_db,
            "size": len(frame),
            "data": base64.b64encode(frame).decode(),
        }
        return self._head(self._next_token(), PUSH_DATA) + json.dumps({"rxpk": [rxpk]}).encode()

    def receive(self, data: bytes, now_us: int) -> tuple[Order | None, bytes]:
        """A datagram of the gateway: what to transmit, if anything, and what to answer, if anything."""
        if len(data) < 4 or data[0] != VERSION or data[3] != PULL_RESP:
            return None, b""
        token = int.from_bytes(data[1:3], "big")
        try:
            order, error = self._order(json.loads(data[4:])["txpk"], now_us)
        except (ValueError, KeyError, TypeError):
            order, error = None, "TX_FREQ"
        body = json.dumps({"txpk_ack": {"error": error}}).encode()
        return order, self._head(token, TX_ACK) + body

    def transmits(self, air_us: int, from_us: int) -> bool:
        """Book `air_us` from `from_us` on; False when it transmits something else then."""
        self._busy_us = [span for span in self._busy_us if span[1] > from_us - MOST_AHEAD_US]
        if any(start < from_us + air_us and from_us < end for start, end in self._busy_us):
            return False
        self._busy_us.append((from_us, from_us + air_us))
        return True

    def was_transmitting(self, from_us: int, to_us: int) -> bool:
        """Whether it transmitted at any time of that span, and so could not hear."""
        return any(start < to_us and from_us < end for start, end in self._busy_us)

    def _order(self, txpk: dict[str, Any], now_us: int) -> tuple[Order | None, str]:
        found = _DATA_RATE.fullmatch(txpk["datr"])
        frame = base64.b64decode(txpk["data"], validate=True)
        if found is None or len(frame) != txpk["size"]:
            raise ValueError("no data rate, or another size")
        in_us = 0 if txpk.get("imme") else (txpk["tmst"] - now_us) % WRAP_US
        if in_us > WRAP_US // 2:
            return None, "TOO_LATE"
        if in_us > MOST_AHEAD_US:
            return None, "TOO_EARLY"
        order = Order(in_us, round(txpk["freq"] * 1_000_000), int(found[1]), frame)
        air_us = time_on_air_us(len(frame), order.sf, crc=not txpk.get("ncrc", False))
        return (order, "NONE") if self.transmits(air_us, now_us + in_us) else (None, "COLLISION_PACKET")

    def _head(self, token: int, kind: int) -> bytes:
        return bytes([VERSION]) + token.to_bytes(2, "big") + bytes([kind]) + self._eui

    def _next_token(self) -> int:
        self._token = (self._token + 1) % 65536
        return self._token
