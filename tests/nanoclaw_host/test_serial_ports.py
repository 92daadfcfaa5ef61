"""Serial ports of a gateway: who is heard, where answers go, and what becomes of a drawn plug."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from firmware.hosting.clock import ScaledClock
from firmware.hosts.serial_port import SerialPort as NodePort
from firmware.wire.auth import Sealer
from nanoclaw.host.config import ConfigError, GatewaySettings, load_settings
from nanoclaw.host.lines_config import SerialConfig
from nanoclaw.host.serial_ports import SerialPorts
from tests.cable.cable import GATEWAY, Cable
from tests.nanoclaw_host.rig import eventually, gateway_config, write_key

KEYS = {node: node.encode().ljust(32, b"k") for node in ("sensor-01", "sensor-02", "sensor-09")}
CLOCK = ScaledClock(time.monotonic_ns(), 5, 0)  # who says a thing again waits for a fifth of the time
TEMP, CMD = "clawland/sensor-01/temp", "clawland/sensor-01/cmd"


class Core:
    """Stands for a pump: hears what ports say."""

    def __init__(self) -> None:
        self.links: list[str] = []
        self.messages: list[tuple[str, bytes]] = []

    def link_up(self, port: str) -> None:
        self.links.append("up")

    def link_down(self, port: str) -> None:
        self.links.append("down")

    def receive(self, port: str, topic: str, payload: bytes) -> None:
        self.messages.append((topic, payload))

    def congested(self) -> bool:
        return False


class Site:
    """A gateway's ports at one end of a cable, nodes at the other."""

    def __init__(self, directory: Path) -> None:
        self.cable = Cable(directory)
        self.core = Core()
        self.rejected: list[tuple[str, str, str]] = []
        self.nodes: list[NodePort] = []
        sealers = {node: Sealer(KEYS[node]) for node in ("sensor-01", "sensor-02")}
        config = SerialConfig("barn", str(self.cable.gateway), 115_200)
        self.ports = SerialPorts((config,), sealers.get, CLOCK, self.core, lambda *what: self.rejected.append(what))
        self.ports.start()

    @property
    def view(self) -> dict[str, Any]:
        return self.ports.views()[0]

    async def plug_in(self, node: str = "sensor-01", key: bytes = b"", until: str = "up") -> tuple[NodePort, Core]:
        core = Core()
        port = NodePort("up", node, key or KEYS[node], 115_200, random.Random(node), CLOCK, core)
        self.nodes.append(port)
        await eventually(lambda: self.view["state"] == "up", "the gateway's end open")
        port.connect(str(self.cable.node))
        if until:
            await eventually(lambda: until in core.links, f"{node} {until}")
        return port, core

    async def close(self) -> None:
        for node in self.nodes:
            await node.close()
        await self.ports.close()
        self.cable.close()


@asynccontextmanager
async def made(directory: Path) -> AsyncIterator[Site]:
    site = Site(directory)
    try:
        yield site
    finally:
        await site.close()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with made(tmp_path) as found:
        yield found


async def test_messages_go_both_ways_and_the_view_names_the_node(site: Site) -> None:
    node, at_node = await site.plug_in()
    assert node.send(TEMP, b'{"value":21.5}')
    await eventually(lambda: site.core.messages == [(TEMP, b'{"value":21.5}')], "the reading")
    assert site.ports.send(CMD, b'{"action":"identify"}')
    await eventually(lambda: at_node.messages == [(CMD, b'{"action":"identify"}')], "the command")
    assert (site.view["nodes"], site.view["messages"], site.ports.failures()) == (["sensor-01"], 1, [])


async def test_garbage_in_the_middle_costs_no_message(site: Site) -> None:
    node, _ = await site.plug_in()
    cuts = iter([lambda data: data[: len(data) // 2]])  # a line that loses its end, and swallows the next one
    site.cable.spoil = lambda data: next(cuts, lambda whole: whole)(data)
    for n in range(5):
        site.cable.put(GATEWAY, b"\x00\xff" * 300 + b"\nsensor-01/temp.1 {}*0000\n")
        node.send(TEMP, b'{"value":%d}' % n)
    await eventually(lambda: len(site.core.messages) == 5, "all five")
    assert site.core.messages == [(TEMP, b'{"value":%d}' % n) for n in range(5)]
    assert site.view["spoilt"] > 0
    assert site.rejected == []


async def test_a_node_with_anothers_id_is_refused_and_counted(site: Site) -> None:
    await site.plug_in(key=KEYS["sensor-02"], until="")
    await eventually(lambda: site.rejected, "the refusal")
    assert site.rejected[0] == ("clawland/sensor-01/hello", "not authentic", "barn")
    assert site.view["rejected"] >= 1
    assert (site.view["nodes"], site.core.messages) == ([], [])


async def test_a_node_that_is_not_in_the_roster_is_refused_and_counted(site: Site) -> None:
    await site.plug_in("sensor-09", until="")
    await eventually(lambda: site.rejected, "the refusal")
    assert site.rejected[0] == ("clawland/sensor-09/hello", "unknown node", "barn")


async def test_a_drawn_plug_is_said_and_the_port_opened_again_when_it_is_back(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "clawland.serial")
    node, at_node = await site.plug_in()
    site.cable.unplug(GATEWAY)
    await eventually(lambda: site.view["state"] == "down", "the loss")
    assert site.ports.failures()[0].startswith("serial port barn: ")
    assert "unplugged, or the other end closed it; trying again" in caplog.text
    site.ports.send(CMD, b"{}")
    assert site.view["dropped"] == 1
    site.cable.plug(GATEWAY)
    await eventually(lambda: site.view["state"] == "up", "the port again")
    assert (site.view["opened"], site.view["lost"], site.ports.failures()) == (2, 1, [])
    await eventually(lambda: at_node.links[-1] == "down", "the node told that the gateway began anew")
    node.connect(str(site.cable.node))
    await eventually(lambda: at_node.links[-1] == "up", "the node again")
    node.send(TEMP, b'{"value":1}')
    await eventually(lambda: site.core.messages, "a message after that")


async def test_what_is_sent_goes_where_the_node_was_last_heard(site: Site) -> None:
    assert not site.ports.send(CMD, b"{}"), "nobody was heard on a port yet: it is for the broker"
    await site.plug_in()
    assert site.ports.send(CMD, b"{}")
    broker = site.ports.beside(site.core)
    broker.receive("nodes", CMD, b"{}")
    assert site.ports.send(CMD, b"{}"), "what the gateway said itself tells nothing"
    broker.receive("nodes", TEMP, b"{}")
    assert not site.ports.send(CMD, b"{}"), "it speaks over MQTT now"
    assert site.core.messages == [(CMD, b"{}"), (TEMP, b"{}")]


async def test_a_node_whose_gateway_s_end_is_silent_is_told_and_says_hello_when_it_tries_again(tmp_path: Path) -> None:
    async with made(tmp_path) as site:
        site.cable.spoil = lambda data: b""
        node, at_node = await site.plug_in(until="")
        node.disconnect()
        site.cable.spoil = lambda data: data
        node.connect(str(site.cable.node))
        await eventually(lambda: at_node.links == ["up"], "the connection")


async def test_two_nodes_share_a_port_at_the_end_of_a_socket(tmp_path: Path) -> None:
    """Of `socket://host:port`, as a converter or a bench offers it; here everyone hears everyone, as on a bus."""
    async with bus() as url:
        core, nodes = Core(), {node: Core() for node in ("sensor-01", "sensor-02")}
        ports = SerialPorts((SerialConfig("bus", url, 9600),), lambda node: Sealer(KEYS[node]), CLOCK, core, print)
        ends = {
            node: NodePort("up", node, KEYS[node], 9600, random.Random(node), CLOCK, at) for node, at in nodes.items()
        }
        ports.start()
        for end in ends.values():
            end.connect(url)
        await eventually(lambda: all(at.links == ["up"] for at in nodes.values()), "both nodes")
        for node, end in ends.items():
            end.send(f"clawland/{node}/temp", b'{"value":1}')
            ports.send(f"clawland/{node}/cmd", b'{"id":"c"}')
        await eventually(lambda: len(core.messages) == 2 and all(at.messages for at in nodes.values()), "all messages")
        assert sorted(topic for topic, _ in core.messages) == [f"clawland/{node}/temp" for node in nodes]
        assert all(at.messages == [(f"clawland/{node}/cmd", b'{"id":"c"}')] for node, at in nodes.items())
        for each in (ports, *ends.values()):
            await each.close()


@asynccontextmanager
async def bus() -> AsyncIterator[str]:
    """A TCP port where what one client says all others hear."""
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        with contextlib.suppress(OSError):
            while data := await reader.read(4096):
                for other in writers - {writer}:
                    other.write(data)
        writers.discard(writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"socket://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


Write = Callable[[str], GatewaySettings]


@pytest.fixture
def written(tmp_path: Path) -> Write:
    write_key(tmp_path / "gateway.key", bytes(32))
    config = gateway_config(tmp_path, 1)

    def write(more: str) -> GatewaySettings:
        config.write_text(config.read_text() + more)
        return load_settings(config)

    return write


def test_ports_have_a_name_and_the_usual_speed(written: Write) -> None:
    settings = written('[[serial]]\nurl = "/dev/ttyUSB0"\n[[serial]]\nurl = "socket://bench:4000"\nname = "bench"\n')
    assert settings.serial == (
        SerialConfig("serial-1", "/dev/ttyUSB0", 115_200),
        SerialConfig("bench", "socket://bench:4000", 115_200),
    )


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('url = "ttyUSB0"', "14:1: serial[0].url: must be a device as /dev/ttyUSB0, or a URL as socket://host:port"),
        ('speed = 9600\nurl = "x://y"', "15:1: serial[0].url: x:// is not among alt"),
        ('url = "/dev/a"\nspeed = 110', "15:1: serial[0].speed: must be from 9600 to 4000000, not 110"),
        ('url = "/dev/a"\nbaud = 9600', "15:1: serial[0].baud: unknown key; known are name, speed, url"),
        ("speed = 9600", "13:1: serial[0].url: is missing"),
        ('url = "/dev/a"\n[[serial]]\nurl = "/dev/a"', "16:1: serial[1].url: '/dev/a' is that of another [[serial]]"),
        ('url = "/dev/a"\nname = "serial-2"\n[[serial]]\nurl = "/dev/b"', "serial[1].name: 'serial-2' is that of"),
    ],
)
def test_a_mistake_in_a_port_is_told_by_line_and_key(written: Write, more: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        written("[[serial]]\n" + more)
    assert words in str(error.value)
