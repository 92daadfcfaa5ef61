"""A node's radio as a process: a packet forwarder towards the gateway, a receive window towards the node."""

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firmware.hosting.aes import aes_block
from firmware.hosting.config import ConfigError
from firmware.hosting.forwarder import MOST_AHEAD_US, PacketForwarder
from firmware.hosts.flash import Flash, read_flash
from firmware.hosts.process import NodeProcess
from firmware.hosts.radio import UdpRadio
from firmware.hosts.settings import EXAMPLE, load_settings
from firmware.wire import lora
from firmware.wire.lora_contents import contents_of, unpack_uplink
from nanoclaw.core.lora import gwmp
from tests.hosting.virtual import LoopClock, run
from tests.nanoclaw_host.rig import NODE, node_config, write_key

KEY = bytes(32)
BLOCK = aes_block(lora.frame_key(KEY))
FLEET = "clawland"
EUI = bytes(range(8))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_key(tmp_path / "node.key", KEY)
    path = node_config(tmp_path, 1, more="seed = 7")
    head, _, rest = path.read_text().partition("[gateway]")
    radio = '[lora]\nsf = 7\nconcentrator = "127.0.0.1:1700"\n[[sensors]]'
    path.write_text(head + radio + rest.partition("[[sensors]]")[2])
    return path


class Gateway:
    """The other end: decodes with the gateway's own codec, and answers a frame `delay_us` after its end."""

    def __init__(self, delay_us: int = 1_000_000) -> None:
        self.delay_us = delay_us
        self.datagrams: list[gwmp.Datagram] = []
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.deliver: Callable[[bytes], None] = lambda data: None

    def sendto(self, data: bytes) -> None:
        found = gwmp.decode(data)
        self.datagrams.append(found)
        if found.kind == gwmp.PUSH_DATA:
            (rxpk,) = gwmp.packets(found.body)
            self._hear(gwmp.packet(rxpk))

    def close(self) -> None:
        pass

    def _hear(self, packet: gwmp.Packet) -> None:
        head, contents = lora.head_of(packet.frame), lora.open_uplink(BLOCK, packet.frame)
        assert head is not None and contents is not None
        for verb, payload in unpack_uplink(contents, FLEET, head.boot, head.count) or []:
            self.said.append((verb, json.loads(payload)))
        seqs = [found["seq"] for _, found in self.said if "seq" in found]
        contents = contents_of({0: [0, max(seqs) + 1]} if seqs else {})
        node, gateway = lora.address(FLEET, NODE), lora.address(FLEET, "gateway-01")
        answer = lora.seal_downlink(BLOCK, node, head.boot, head.count, gateway, contents)
        tmst_us = packet.tmst_us + self.delay_us
        downlink = gwmp.Downlink(answer, tmst_us, packet.frequency_hz, packet.sf, 125_000, 14)
        asyncio.get_running_loop().call_later(0.3, self.deliver, gwmp.pull_resp(7, downlink))


def simulate(config: Path, seconds: float, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    async def opened(radio: UdpRadio) -> None:
        radio._transport = gateway  # type: ignore[assignment]
        gateway.deliver = lambda data: radio.datagram_received(data, None)
        radio._pull()

    class Quiet:
        def write(self, kind: str, fields: Any, now_ms: int) -> None: ...

    async def body() -> None:
        settings = load_settings(config)
        flash = Flash(settings.data)
        node = NodeProcess(settings, flash, LoopClock(), Quiet())
        node.start()
        await asyncio.sleep(seconds)
        await node.close()
        flash.close()

    monkeypatch.setattr(UdpRadio, "_open", opened)
    run(body())


def test_readings_reach_the_gateway_as_a_concentrator_would_bring_them_and_are_let_go(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = Gateway()
    simulate(config, 299, gateway, monkeypatch)
    readings = {found["seq"] for verb, found in gateway.said if verb == "temp"}
    assert readings >= set(range(50))
    assert len(read_flash(config.parent / "node")["readings"]) < 20
    kinds = [datagram.kind for datagram in gateway.datagrams]
    assert kinds.count(gwmp.PULL_DATA) == 30 and gwmp.TX_ACK in kinds
    acks = [gwmp.transmitted(each.body) for each in gateway.datagrams if each.kind == gwmp.TX_ACK]
    assert set(acks) == {""}


@pytest.mark.parametrize("delay_us", [900_000, 1_100_000, 2_000_000])
def test_an_answer_outside_of_the_window_is_not_heard(
    config: Path, monkeypatch: pytest.MonkeyPatch, delay_us: int
) -> None:
    simulate(config, 59, Gateway(delay_us), monkeypatch)
    assert len(read_flash(config.parent / "node")["readings"]) == 12


def order(**changed: Any) -> bytes:
    downlink = gwmp.Downlink(b"frame", 5_000_000, 868_100_000, 9, 125_000, 14)
    found = json.loads(gwmp.pull_resp(3, downlink)[4:])
    found["txpk"] |= changed
    return bytes([2, 0, 3, gwmp.PULL_RESP]) + json.dumps(found).encode()


def test_a_forwarder_does_as_it_is_told_and_says_what_it_cannot() -> None:
    forwarder = PacketForwarder(EUI)
    found, answer = forwarder.receive(order(), 4_000_000)
    assert found is not None and found[:3] == (1_000_000, 868_100_000, 9) and found.frame == b"frame"
    assert gwmp.decode(answer).token == 3
    errors = []
    for data, now_us in [
        (order(), 4_000_000),
        (order(), 5_000_001),
        (order(tmst=4_000_000 + MOST_AHEAD_US + 1), 4_000_000),
        (order(datr="SF9BW500"), 4_000_000),
        (order(size=4), 4_000_000),
        (order(data="!"), 4_000_000),
    ]:
        found, answer = forwarder.receive(data, now_us)
        assert found is None
        errors.append(gwmp.transmitted(gwmp.decode(answer).body))
    assert errors == ["COLLISION_PACKET", "TOO_LATE", "TOO_EARLY", "TX_FREQ", "TX_FREQ", "TX_FREQ"]


def test_the_clock_of_a_concentrator_wraps() -> None:
    found, _ = PacketForwarder(EUI).receive(order(tmst=500_000), (1 << 32) - 500_000)
    assert found is not None and found.in_us == 1_000_000
    pushed = gwmp.decode(PacketForwarder(EUI).push(b"x", (1 << 32) + 5, 868_100_000, 7, -60, 9.0))
    assert gwmp.packet(gwmp.packets(pushed.body)[0]).tmst_us == 5


@pytest.mark.parametrize("data", [b"", b"\x02\x00", b"\x01\x00\x01\x03{}", b"\x02\x00\x01\x01", b"\x02\x00\x01\x04"])
def test_what_is_no_order_is_not_answered(data: bytes) -> None:
    assert PacketForwarder(EUI).receive(data, 0) == (None, b"")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"txpk": 5}', b'{"txpk": {"datr": 5}}', b"\xff\xff"])
def test_an_order_that_makes_no_sense_is_refused_and_breaks_nothing(body: bytes) -> None:
    found, answer = PacketForwarder(EUI).receive(bytes([2, 0, 1, gwmp.PULL_RESP]) + body, 0)
    assert found is None and gwmp.transmitted(gwmp.decode(answer).body) == "TX_FREQ"
    assert base64.b64encode(b"") == b""


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("sf = 7", "sf = 13", "lora.sf: must be from 7 to 12"),
        ('"127.0.0.1:1700"', '"1700"', "lora.concentrator: '1700' is not HOST:PORT"),
        ('"127.0.0.1:1700"', '"host:99999"', "is not HOST:PORT"),
        ("sf = 7", "spreading = 7", "lora.spreading: unknown key"),
        ("[lora]", '[gateway]\nid = "g"\n[lora]', "a node on the radio has no [gateway]"),
    ],
)
def test_mistakes_in_the_configuration_are_named(config: Path, before: str, after: str, words: str) -> None:
    config.write_text(config.read_text().replace(before, after))
    with pytest.raises(ConfigError) as error:
        load_settings(config)
    assert words in str(error.value)


def test_the_example_tells_of_the_radio() -> None:
    assert "# [lora]" in EXAMPLE and "# sf = 9" in EXAMPLE
