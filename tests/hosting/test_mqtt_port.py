"""One attempt, one answer, and silence after a disconnect: what a core relies on, against brokers good and bad."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from firmware.hosting.mqtt import Login, MqttPort, split_target
from fleet.hub import EmbeddedBroker, NodeAccess

pytestmark = pytest.mark.live

CONNACK_OK, CONNACK_BAD_PASSWORD = b"\x20\x02\x00\x00", b"\x20\x02\x00\x05"
SUBACK_REFUSED = b"\x90\x03\x00\x01\x80"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Ears:
    """A core that only listens: `heard` is what the port told it, in order."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.full = False
        self._changed = asyncio.Event()

    def link_up(self, port: str) -> None:
        self._note("up")

    def link_down(self, port: str) -> None:
        self._note("down")

    def receive(self, port: str, topic: str, payload: bytes) -> None:
        self._note(f"{topic} {payload.decode()}")

    def congested(self) -> bool:
        return self.full

    def _note(self, text: str) -> None:
        self.heard.append(text)
        self._changed.set()

    async def until(self, *expected: str) -> None:
        async with asyncio.timeout(10):
            while self.heard[: len(expected)] != list(expected):
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[str]:
    """A broker that does as the script says; yields its target."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await script(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@asynccontextmanager
async def broker() -> AsyncIterator[EmbeddedBroker]:
    passwords = {"sensor-01": b"one", "sensor-02": b"two"}
    access = NodeAccess("gateway-01", b"gw", passwords)
    async with EmbeddedBroker(access=access, max_payload_bytes=4096) as running:
        yield running


def node_port(ears: Ears, password: bytes = b"one", node: str = "sensor-01", **options: str) -> MqttPort:
    topics = [f"clawland/{node}/cmd", f"clawland/{node}/received"]
    return MqttPort("up", Login(node, password), topics, ears, **options)


def gateway_port(ears: Ears) -> MqttPort:
    return MqttPort("nodes", Login("gateway-01", b"gw"), ["clawland/+/+"], ears)


async def test_messages_cross_in_both_directions_once_both_ports_are_up() -> None:
    async with broker() as running:
        node_ears, gateway_ears = Ears(), Ears()
        node, gateway = node_port(node_ears), gateway_port(gateway_ears)
        for port, ears in ((node, node_ears), (gateway, gateway_ears)):
            port.connect(f"127.0.0.1:{running.port}")
            await ears.until("up")
        assert node.send("clawland/sensor-01/temp", b"25")
        await gateway_ears.until("up", "clawland/sensor-01/temp 25")
        assert gateway.send("clawland/sensor-01/cmd", b"go")
        await node_ears.until("up", "clawland/sensor-01/cmd go")
        await asyncio.gather(node.close(), gateway.close())


async def test_what_was_sent_before_a_disconnect_still_goes_out() -> None:
    async with broker() as running:
        node_ears, gateway_ears = Ears(), Ears()
        node, gateway = node_port(node_ears), gateway_port(gateway_ears)
        for port, ears in ((node, node_ears), (gateway, gateway_ears)):
            port.connect(f"127.0.0.1:{running.port}")
            await ears.until("up")
        for number in range(50):
            node.send("clawland/sensor-01/temp", b"%d" % number)
        node.disconnect()
        await gateway_ears.until("up", *(f"clawland/sensor-01/temp {number}" for number in range(50)))
        assert node_ears.heard == ["up"]
        await gateway.close()


async def test_a_wrong_password_is_a_link_down_that_says_refused() -> None:
    async with broker() as running:
        ears = Ears()
        port = node_port(ears, password=b"wrong")
        port.connect(f"127.0.0.1:{running.port}")
        await ears.until("down")
        assert "refused" in port.last_failure
        assert not port.send("clawland/sensor-01/temp", b"1")


async def test_nobody_listening_is_a_link_down() -> None:
    ears = Ears()
    async with scripted(_hang_up) as target:
        pass
    port = node_port(ears)
    port.connect(target)
    await ears.until("down")
    assert "refused" in port.last_failure.lower()


@pytest.mark.parametrize("target", ["", "host", "host:", ":1", "host:0", "host:99999", "host:1e3"])
async def test_a_target_that_is_none_is_a_link_down(target: str) -> None:
    ears = Ears()
    node_port(ears).connect(target)
    await ears.until("down")
    with pytest.raises(ValueError, match="host:port"):
        split_target(target)


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)


async def _refuse_subscription(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1000)
    writer.write(CONNACK_OK)
    await reader.read(1000)
    writer.write(SUBACK_REFUSED)
    await reader.read()


async def _accept_and_hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1000)
    writer.write(CONNACK_OK)
    await reader.read(1000)


async def _talk_garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1000)
    writer.write(b"\xff\xff\xff\xff\xff\xff\xff\x00")
    await reader.read()


@pytest.mark.parametrize("script", [_hang_up, _refuse_subscription, _accept_and_hang_up, _talk_garbage])
async def test_a_broker_that_breaks_off_anywhere_is_one_prompt_link_down(script: Script) -> None:
    ears = Ears()
    async with scripted(script) as target:
        port = node_port(ears)
        port.connect(target)
        async with asyncio.timeout(2):
            await ears.until("down")
        assert ears.heard == ["down"]
        assert not port.up


async def test_disconnect_drops_an_attempt_that_hangs_and_closes_its_socket() -> None:
    gone = asyncio.Event()
    came = asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        came.set()
        await reader.read()
        gone.set()

    ears = Ears()
    async with scripted(never_answer) as target, asyncio.timeout(5):
        port = node_port(ears)
        port.connect(target)
        await came.wait()
        port.disconnect()
        await gone.wait()
    assert ears.heard == []


async def test_an_attempt_dropped_at_once_never_logs_in() -> None:
    async with broker() as running:
        ears = Ears()
        port = node_port(ears)
        for _ in range(20):
            port.connect(f"127.0.0.1:{running.port}")
            port.disconnect()
        port.connect(f"127.0.0.1:{running.port}")
        await ears.until("up")
        await port.close()
        assert ears.heard == ["up"]


async def test_after_a_move_to_another_broker_the_old_one_is_not_heard() -> None:
    async with broker() as old, broker() as new:
        ears = Ears()
        port = node_port(ears)
        port.connect(f"127.0.0.1:{old.port}")
        await ears.until("up")
        await old.publish("clawland/sensor-01/cmd", b"old")
        port.connect(f"127.0.0.1:{new.port}")
        await ears.until("up", "up")
        await new.publish("clawland/sensor-01/cmd", b"new")
        await ears.until("up", "up", "clawland/sensor-01/cmd new")
        await port.close()


async def test_the_loss_of_an_established_connection_is_reported_once() -> None:
    ears = Ears()
    async with broker() as running:
        port = node_port(ears)
        port.connect(f"127.0.0.1:{running.port}")
        await ears.until("up")
        await running.stop()
        await ears.until("up", "down")
    assert ears.heard == ["up", "down"]


async def test_a_congested_core_is_not_fed_until_it_has_room() -> None:
    async with broker() as running:
        ears = Ears()
        port = node_port(ears)
        port.connect(f"127.0.0.1:{running.port}")
        await ears.until("up")
        ears.full = True
        for number in range(10):
            await running.publish("clawland/sensor-01/cmd", b"%d" % number)
        await ears.until("up", "clawland/sensor-01/cmd 0")
        await asyncio.sleep(0.12)
        assert len(ears.heard) <= 4  # one each time it looks whether there is room
        ears.full = False
        await ears.until("up", *(f"clawland/sensor-01/cmd {number}" for number in range(10)))
        await port.close()


async def test_what_cannot_be_sent_is_dropped_beyond_a_bound() -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(CONNACK_OK)
        await reader.read(1000)
        writer.write(b"\x90\x04\x00\x01\x00\x00")
        await asyncio.Event().wait()

    ears = Ears()
    async with scripted(swallow) as target:
        port = MqttPort("up", Login("sensor-01", b"one"), ["a", "b"], ears, max_unsent=5)
        port.connect(target)
        await ears.until("up")
        for _ in range(100):
            port.send("clawland/sensor-01/temp", bytes(1_000_000))
        assert (port.sent, port.dropped) == (5, 95)
        async with asyncio.timeout(3):
            await port.close()


async def test_a_port_binds_the_address_it_was_given() -> None:
    seen: list[str] = []

    async def look(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peername")[0])

    ears = Ears()
    async with scripted(look) as target:
        node_port(ears, bind_address="127.9.8.7").connect(target)
        await ears.until("down")
    assert seen == ["127.9.8.7"]


def test_a_login_never_shows_its_password() -> None:
    assert "secret" not in repr(Login("sensor-01", b"secret"))
