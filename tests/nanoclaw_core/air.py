"""Concentrators and a node on the air, around a gateway's core: bytes as they would come over UDP."""

import base64
import json
from typing import Any

from firmware.hosting.aes import aes_block
from firmware.wire import lora, lora_contents
from fleet.wire import snapshot
from nanoclaw.core.lora import gwmp
from nanoclaw.core.lora.config import LoraConfig
from tests.nanoclaw_core.rig import BOOT, GATEWAY, HOT, NODE_KEYS, Send, Station

EUI, OTHER_EUI = "aa555a0000000101", "aa555a0000000102"
FREQUENCY_MHZ = 868.1


class Concentrator:
    """A packet forwarder at an address of its own; its clock starts just before it wraps."""

    def __init__(self, station: Station, eui: str = EUI, port: int = 50_001) -> None:
        self._station = station
        self.eui = eui
        self.address = f"127.0.0.1:{port}"
        self.tmst_zero_us = (1 << 32) - 2_000_000
        self._token = 0

    def tmst_us(self) -> int:
        return (self.tmst_zero_us + self._station.now_ms * 1000) % (1 << 32)

    def say(self, kind: int, body: bytes = b"", token: int | None = None) -> bytes:
        self._token = (self._token + 1) % 0x10000
        token = self._token if token is None else token
        head = bytes([2]) + token.to_bytes(2, "big") + bytes([kind]) + bytes.fromhex(self.eui)
        self._station.raw("lora", self.address, head + body)
        return head

    def pull(self) -> None:
        self.say(gwmp.PULL_DATA)

    def hear(self, *frames: bytes, **rxpk: Any) -> None:
        self.say(gwmp.PUSH_DATA, json.dumps({"rxpk": [self.rxpk(frame, **rxpk) for frame in frames]}).encode())

    def rxpk(self, frame: bytes, **changed: Any) -> dict[str, Any]:
        said: dict[str, Any] = {"tmst": self.tmst_us(), "freq": FREQUENCY_MHZ, "chan": 0, "rfch": 1, "stat": 1}
        said |= {"modu": "LORA", "datr": "SF9BW125", "codr": "4/5", "rssi": -80, "lsnr": 7.5, "size": len(frame)}
        return said | {"data": base64.b64encode(frame).decode()} | changed

    def tx_ack(self, token: int, error: str | None = None) -> None:
        body = b"" if error is None else json.dumps({"txpk_ack": {"error": error}}).encode()
        self.say(gwmp.TX_ACK, body, token)

    def received(self, kind: int) -> list[bytes]:
        """The datagrams of that kind that were sent to it."""
        sent = [o for o in self._station.of(Send) if o.port == "lora" and o.topic == self.address]
        return [o.payload for o in sent if o.payload[3] == kind]

    def downlinks(self) -> list[tuple[int, dict[str, Any]]]:
        """Token and txpk of all that it was told to send."""
        return [
            (int.from_bytes(data[1:3], "big"), json.loads(data[4:])["txpk"]) for data in self.received(gwmp.PULL_RESP)
        ]


class Board:
    """A node that speaks LoRa."""

    def __init__(self, node: str = "sensor-01", key: bytes | None = None, fleet: str = "clawland") -> None:
        self.node = node
        self.boot = BOOT
        self.count = -1
        self._address = lora.address(fleet, node)
        self._block = aes_block(lora.frame_key(key or NODE_KEYS[node]))

    def frame(self, contents: dict[int, Any] | bytes, asks: bool = True) -> bytes:
        self.count += 1
        packed = contents if isinstance(contents, bytes) else lora_contents.contents_of(contents)
        return lora.seal_uplink(self._block, self._address, self.boot, self.count, packed, asks)

    def readings(self, *seqs: int, value: str = "21.50", asks: bool = True, age_ms: int = 0) -> bytes:
        records = [(seq, "temp", value, '"°C"', age_ms) for seq in seqs]
        return self.frame({lora_contents.READINGS: lora_contents.pack_readings(records)}, asks)

    def heartbeat(self, asks: bool = False, interval_ms: int = 600_000, **more: Any) -> bytes:
        members = {"interval_ms": interval_ms, "uptime_ms": 1_000, "next_seq": 1, "dropped": 0, "backlog": 0} | more
        packed = lora_contents.pack_heartbeat(members, len(lora_contents.HEARTBEAT_MEMBERS))
        return self.frame({lora_contents.HEARTBEAT: packed}, asks)

    def ack(self, command: str, status: str = "done") -> bytes:
        return self.frame({lora_contents.ACK: lora_contents.pack_ack(command, status, "")}, False)

    def opens(self, txpk: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        """What an answer to its last frame says."""
        contents = lora.open_downlink(self._block, base64.b64decode(txpk["data"]), self.boot, self.count)
        assert contents is not None, "an answer that the node cannot believe"
        said = lora_contents.unpack_downlink(contents, self.boot)
        assert said is not None
        return [(verb, json.loads(body)) for verb, body in said]


def station(lora_config: LoraConfig | None = None, answers: list[str] | None = None, **config: Any) -> Station:
    """A gateway that is online, with a LoRa port, and named for both nodes unless `answers` says otherwise."""
    made = Station(lora=lora_config or LoraConfig(), **config)
    made.cloud_answers = made.hub_there = True
    made.power_on()
    made.regain_uplink()
    configure(made, answers)
    return made


def configure(station: Station, answers: list[str] | None = None, version: int = 1) -> None:
    named = sorted(NODE_KEYS) if answers is None else answers
    built = snapshot.build(version, [HOT], NODE_KEYS, GATEWAY, b"g" * 32, bytes(12), named)
    station.from_cloud("config", built)
