"""Claims about the embedded broker alone: what its owner sees and can do, and that it leaves nothing behind."""

import asyncio
import gc
import logging
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fleet.hub import EmbeddedBroker, HubError, NodeAccess
from tests.hub.client import CONNACK, PUBACK, RawClient, connect_packet
from tests.hub.conftest import GATEWAY, MAX_PAYLOAD_BYTES, PASSWORDS, Site

TEMP = "clawland/sensor-01/temp"
CMD = "clawland/sensor-01/cmd"


class Owner(Site):
    """An embedded broker with all that its owner is told."""

    def __init__(self, **settings: Any) -> None:
        access = NodeAccess(GATEWAY, b"key-of-the-gateway", PASSWORDS)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.tapped: list[tuple[str, str, bytes]] = []
        self.embedded = EmbeddedBroker(
            access=access, max_payload_bytes=MAX_PAYLOAD_BYTES, on_event=self._note, **settings
        )
        self.embedded.tap(lambda *message: self.tapped.append(message))
        super().__init__(self.embedded, PASSWORDS, access)

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]

    def _note(self, kind: str, fields: dict[str, Any]) -> None:
        self.events.append((kind, fields))


@pytest.fixture
async def owner() -> AsyncIterator[Owner]:
    owner = Owner()
    async with owner.embedded:
        yield owner
        owner.drop_all()


async def test_its_owner_is_told_who_comes_and_goes_and_who_is_refused(owner: Owner) -> None:
    sensor = await owner.connect("sensor-01")
    stranger, _ = await owner.attempt("sensor-01", b"guess")
    await stranger.is_closed_by_broker()
    sensor.disconnect()
    await owner.connect("sensor-01")

    assert owner.kinds() == ["client.connected", "client.refused", "client.disconnected", "client.connected"]
    assert owner.events[1][1]["reason"] == "bad credentials"
    assert owner.events[2][1] == {"identity": "sensor-01", "reason": "disconnected by the client"}


async def test_each_rejection_is_counted_by_its_reason(owner: Owner) -> None:
    sensor = await owner.connect("sensor-01")
    sensor.publish("clawland/sensor-02/temp", b"not mine")
    sensor.publish(CMD, b"a command to myself", qos=1)
    sensor.publish(TEMP, b"x" * (MAX_PAYLOAD_BYTES + 1))
    await sensor.expect(PUBACK)
    await sensor.ping()
    assert await sensor.subscribe("#") == 0x80
    sensor.send(b"\xf0\x00")
    await sensor.is_closed_by_broker()

    assert owner.embedded.rejected == {
        "publish not allowed": 2,
        "oversize payload": 1,
        "subscription not allowed": 1,
        "malformed packet": 1,
    }


async def test_a_flood_of_rejections_is_one_line_in_the_log_without_secrets(
    owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        for _ in range(20):
            client, _ = await owner.attempt("sensor-01\x1b[31m" + "x" * 500, b"a guessed secret")
            await client.is_closed_by_broker()

    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 1
    assert owner.embedded.rejected["bad credentials"] == 20
    assert "a guessed secret" not in caplog.text
    assert "\x1b" not in lines[0]
    assert len(lines[0]) < 300


async def test_a_tap_sees_what_was_accepted_and_nothing_else(owner: Owner) -> None:
    sensor = await owner.connect("sensor-01")
    sensor.publish("clawland/sensor-02/temp", b"not mine")
    sensor.publish(TEMP, b"25.0")
    await sensor.ping()

    assert owner.tapped == [("sensor-01", TEMP, b"25.0")]


async def test_a_tap_that_fails_disturbs_neither_delivery_nor_the_publisher(owner: Owner) -> None:
    def failing(identity: str, topic: str, payload: bytes) -> None:
        raise RuntimeError("a fault of the bridge")

    owner.embedded.tap(failing)
    gateway = await owner.connect(GATEWAY)
    await gateway.subscribe("clawland/#")
    sensor = await owner.connect("sensor-01")
    sensor.publish(TEMP, b"25.0")

    assert (await gateway.delivery()).payload == b"25.0"


async def test_its_owner_publishes_from_inside(owner: Owner) -> None:
    sensor = await owner.connect("sensor-01")
    await sensor.subscribe(CMD, 1)

    await owner.embedded.publish(CMD, b"restart", qos=1)

    assert (await sensor.delivery()).payload == b"restart"
    assert owner.tapped == []
    for topic in ("", "clawland/+/cmd", "$SYS/x"):
        with pytest.raises(HubError, match="cannot publish"):
            await owner.embedded.publish(topic, b"")


async def test_its_owner_disconnects_an_identity(owner: Owner) -> None:
    sensor = await owner.connect("sensor-01")
    bystander = await owner.connect("sensor-02")

    owner.embedded.disconnect("sensor-01")
    owner.embedded.disconnect("nobody")

    assert await sensor.is_closed_by_broker()
    await bystander.ping()


async def test_a_policy_that_fails_refuses_instead_of_admitting() -> None:
    class Broken(NodeAccess):
        def authenticate(self, client_id: str, username: str | None, password: bytes | None) -> str | None:
            raise RuntimeError("no table")

    async with EmbeddedBroker(access=Broken("g", b"x", {}), max_payload_bytes=100) as broker:
        client = await RawClient.open(broker.port)
        client.send(connect_packet("g", "g", b"x"))
        assert await client.refusal() == 5


async def test_whatever_the_policy_grants_system_topics_and_shared_subscriptions_are_refused() -> None:
    class Generous(NodeAccess):
        def may_publish(self, identity: str, topic: str) -> bool:
            return True

        def may_subscribe(self, identity: str, topic_filter: str) -> bool:
            return True

    async with EmbeddedBroker(access=Generous("g", b"x", {}), max_payload_bytes=100) as broker:
        client = await RawClient.open(broker.port)
        client.send(connect_packet("g", "g", b"x"))
        await client.expect(CONNACK)
        codes = [await client.subscribe(topic_filter) for topic_filter in ("$share/group/a", "$SYS/#", "#", "a+b")]
        client.publish("$SYS/x", b"dropped")
        client.publish("a", b"delivered")

        assert codes == [0x80, 0x80, 0, 0x80]
        assert (await client.delivery()).payload == b"delivered"
        assert broker.rejected == {"subscription not allowed": 3, "publish not allowed": 1}
        client.drop()


async def test_clients_beyond_the_limit_are_refused_and_the_others_stay() -> None:
    owner = Owner(max_clients=2)
    async with owner.embedded:
        first, second = await owner.connect("sensor-01"), await owner.connect("sensor-02")
        third = await owner.open()

        assert await third.is_closed_by_broker()
        await first.ping()
        await second.ping()
        assert owner.embedded.rejected == {"too many connections": 1}


async def test_a_connection_that_never_introduces_itself_is_closed(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.hub.reception._CONNECT_WITHIN_S", 0.05)
    silent = await owner.open()
    silent.send(b"\x10")  # not even a whole header

    assert await silent.is_closed_by_broker()
    assert owner.embedded.rejected == {"no CONNECT in time": 1}


async def test_later_versions_of_the_protocol_are_refused_by_name(owner: Owner) -> None:
    client = await owner.open()
    client.send(connect_packet("sensor-01", "sensor-01", b"key-of-sensor-01", level=5))

    assert await client.refusal() == 1
    assert owner.embedded.rejected == {"unsupported MQTT version": 1}


async def test_a_reader_that_is_too_slow_loses_the_oldest_messages_and_they_are_counted(owner: Owner) -> None:
    stuck = await owner.connect("sensor-01")
    await stuck.subscribe(CMD)
    transport = stuck.writer.transport
    assert isinstance(transport, asyncio.ReadTransport)
    transport.pause_reading()
    sent = 0
    while not owner.embedded.rejected["subscriber too slow"]:
        for _ in range(1000):
            await owner.embedded.publish(CMD, sent.to_bytes(4, "big") * 128)
            sent += 1
        await asyncio.sleep(0)
    transport.resume_reading()

    received = [int.from_bytes((await stuck.delivery()).payload[:4], "big")]
    while received[-1] < sent - 1:
        received.append(int.from_bytes((await stuck.delivery()).payload[:4], "big"))
    assert received == sorted(received)
    assert len(received) + owner.embedded.rejected["subscriber too slow"] == sent


async def test_stopping_leaves_no_port_no_task_and_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    before = asyncio.all_tasks()
    owner = Owner()
    with caplog.at_level(logging.WARNING):
        await owner.embedded.start()
        clients = [await owner.connect("sensor-01", will=(TEMP, b"gone")), await owner.connect(GATEWAY)]
        silent = await owner.open()  # has not said CONNECT yet
        await owner.embedded.stop()
        await owner.embedded.stop()
        closed = [await client.is_closed_by_broker() for client in (*clients, silent)]
        owner.drop_all()
        await asyncio.sleep(0)
        gc.collect()

    assert closed == [True, True, True]
    assert asyncio.all_tasks() == before
    assert caplog.text == ""
    assert owner.tapped == []  # a broker that stops does not announce its clients' deaths
    with socket.create_server(("127.0.0.1", owner.embedded.port)):
        pass


async def test_it_can_be_started_again_on_the_same_port() -> None:
    first = Owner()
    await first.embedded.start()
    port = first.embedded.port
    await first.embedded.stop()
    again = Owner(port=port)
    async with again.embedded:
        await again.connect("sensor-01")
        assert again.embedded.port == port


async def test_starting_twice_or_on_a_port_in_use_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HubError, match=f"port {port} on 127.0.0.1 is in use"):
            await Owner(port=port).embedded.start()
    async with Owner().embedded as broker:
        with pytest.raises(HubError, match="running already"):
            await broker.start()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
async def test_an_address_that_cannot_be_had_is_named(host: str) -> None:
    with pytest.raises(HubError, match=host):
        await Owner(host=host).embedded.start()


def test_a_gateway_that_loads_it_loads_neither_the_cloud_nor_the_simulator() -> None:
    forbidden = ["fastapi", "sqlalchemy", "simpy", "fleet.core", "fleet.host", "nanoclaw", "clawsim", "aiomqtt"]
    program = f"import fleet.hub, sys; print([name for name in {forbidden} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
