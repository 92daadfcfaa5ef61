"""Claims about refusals: whoever runs a broker hears of each message that was refused, and who sent it. Put to both."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fleet.hub import EmbeddedBroker, MosquittoBroker, NodeAccess
from fleet.hub.mosquitto_log import MosquittoLog
from fleet.hub.rejections import Rejections
from tests.hub.client import CONNACK, PUBACK, WAIT_S, RawClient, connect_packet, publish_packet
from tests.hub.conftest import GATEWAY, MAX_PAYLOAD_BYTES, PASSWORDS, AnyBroker

ACCESS = NodeAccess(GATEWAY, b"key-of-the-gateway", PASSWORDS)
Refusal = tuple[str, str, str]


class Told:
    """A broker of a gateway, and the refusals of messages that it told of."""

    def __init__(self, kind: str, directory: Path) -> None:
        self._refusals: asyncio.Queue[Refusal] = asyncio.Queue()
        common: dict[str, Any] = {"access": ACCESS, "max_payload_bytes": MAX_PAYLOAD_BYTES, "on_event": self._hear}
        self.broker: AnyBroker = (
            EmbeddedBroker(**common) if kind == "embedded" else MosquittoBroker(**common, directory=directory)
        )

    def _hear(self, kind: str, fields: dict[str, Any]) -> None:
        if kind == "message.rejected":
            self._refusals.put_nowait((fields["identity"], fields.get("topic", ""), fields["reason"]))

    async def client(self, identity: str) -> RawClient:
        client = await RawClient.open(self.broker.port)
        client.send(connect_packet(identity, identity, PASSWORDS[identity]))
        assert (await client.expect(CONNACK))[1] == 0
        return client

    async def next(self) -> Refusal:
        return await asyncio.wait_for(self._refusals.get(), WAIT_S)


@pytest.fixture(params=["embedded", "mosquitto"])
async def told(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Told]:
    made = Told(request.param, tmp_path)
    async with made.broker:
        yield made


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("clawland/sensor-02/temp", b"1", "publish not allowed"),
        ("clawland/sensor-02/cmd", b"{}", "publish not allowed"),
        ("clawland/sensor-01/cmd", b"{}", "publish not allowed"),
        ("clawland/sensor-01/received", b"{}", "publish not allowed"),
        ("elsewhere, with 'quotes' (and 2 bytes))", b"", "publish not allowed"),
        ("$SYS/broker", b"1", "publish not allowed"),
        ("clawland/sensor-01/temp", b"x" * (MAX_PAYLOAD_BYTES + 1), "oversize payload"),
    ],
)
async def test_a_refused_message_is_told_with_its_sender_topic_and_reason(
    told: Told, topic: str, payload: bytes, reason: str
) -> None:
    client = await told.client("sensor-01")
    client.publish(topic, payload, qos=1)
    await client.expect(PUBACK)
    assert await told.next() == ("sensor-01", topic, reason)
    assert told.broker.rejected == {reason: 1}
    client.drop()


async def test_each_of_many_is_told_and_what_is_allowed_is_not(told: Told) -> None:
    client = await told.client("sensor-01")
    for number in range(200):
        client.publish("clawland/sensor-01/temp", b"1")
        client.publish(f"clawland/sensor-02/metric-{number}", b"1")
    assert [(await told.next())[1] for _ in range(200)] == [f"clawland/sensor-02/metric-{n}" for n in range(200)]
    client.publish("clawland/sensor-02/end", b"1")
    assert (await told.next())[1] == "clawland/sensor-02/end"
    assert told.broker.rejected == {"publish not allowed": 201}
    client.drop()


async def test_a_packet_that_is_too_long_is_told_with_its_sender(told: Told) -> None:
    client = await told.client("sensor-01")
    client.send(publish_packet("clawland/sensor-01/temp", b"x" * 4000))
    assert await told.next() == ("sensor-01", "", "oversize packet")
    assert await client.is_closed_by_broker()


async def test_of_packets_that_are_in_order_mosquittos_log_file_keeps_no_line(tmp_path: Path) -> None:
    told = Told("mosquitto", tmp_path)
    async with told.broker:
        client = await told.client("sensor-01")
        for _ in range(50):
            client.publish("clawland/sensor-01/temp", b"1", qos=1)
            await client.expect(PUBACK)
        client.drop()
    log = (tmp_path / "mosquitto.log").read_text()
    assert "New client connected" in log and "sensor-01 closed its connection" in log
    assert "PUB" not in log and "No will" not in log


def test_a_line_that_mosquitto_has_cut_is_told_with_as_much_of_the_topic_as_a_log_shows() -> None:
    heard: list[dict[str, Any]] = []
    counted = Rejections(lambda kind, fields: heard.append(fields))
    line = f"1: Denied PUBLISH from sensor-01 (d0, q0, r0, m0, 'clawland/{'x' * 900}\n"
    MosquittoLog(ACCESS, counted, lambda line: None).feed(line.encode())
    assert counted.counts == Counter({"publish not allowed": 1})
    assert heard[0]["topic"] == f"clawland/{'x' * 55}…"
