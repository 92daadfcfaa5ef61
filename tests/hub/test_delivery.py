"""Claims about delivery: quality of service, order, what outlives a connection, slow readers. Put to both brokers."""

import asyncio
import time

import aiomqtt
import pytest

from tests.hub.client import PUBACK, PUBCOMP, PUBLISH, PUBREC, packet
from tests.hub.conftest import GATEWAY, MAX_PAYLOAD_BYTES, Site

TEMP = "clawland/sensor-01/temp"
CMD = "clawland/sensor-01/cmd"


@pytest.mark.parametrize(("published", "subscribed"), [(0, 0), (0, 1), (1, 0), (1, 1), (2, 1)])
async def test_a_message_comes_at_the_lower_quality_of_service(site: Site, published: int, subscribed: int) -> None:
    gateway = await site.connect(GATEWAY)
    assert await gateway.subscribe("clawland/#", subscribed) == subscribed
    sensor = await site.connect("sensor-01")
    sensor.publish(TEMP, b"25.0", qos=published)
    if published == 2:
        await sensor.expect(PUBREC)
        sensor.send(packet(0x62, b"\0\1"))

    assert (await gateway.delivery()).qos == min(published, subscribed)


async def test_a_message_of_quality_2_that_is_sent_twice_is_delivered_once(site: Site) -> None:
    gateway = await site.connect(GATEWAY)
    await gateway.subscribe("clawland/#")
    sensor = await site.connect("sensor-01")
    for _ in range(2):
        sensor.publish(TEMP, b"once", qos=2)
        await sensor.expect(PUBREC)
    sensor.send(packet(0x62, b"\0\1"))
    await sensor.expect(PUBCOMP)
    sensor.publish(TEMP, b"next")

    assert [(await gateway.delivery()).payload for _ in range(2)] == [b"once", b"next"]


async def test_ordinary_clients_exchange_readings_and_commands_in_order(site: Site) -> None:
    gateway = aiomqtt.Client("127.0.0.1", site.broker.port, username=GATEWAY, password="key-of-the-gateway")
    sensor = aiomqtt.Client("127.0.0.1", site.broker.port, username="sensor-01", password="key-of-sensor-01")
    async with asyncio.timeout(10), gateway, sensor:
        await gateway.subscribe("clawland/#", qos=1)
        await sensor.subscribe(CMD, qos=1)
        for number in range(200):
            await sensor.publish(TEMP, b"%d" % number, qos=int(number < 100))
        seen = [int(bytes((await anext(gateway.messages)).payload)) for _ in range(200)]
        await gateway.publish(CMD, b"restart", qos=1)
        command = await anext(sensor.messages)

    assert seen == list(range(200))
    assert command.payload == b"restart"


async def test_a_message_that_was_not_acknowledged_comes_again_after_reconnecting(site: Site) -> None:
    sensor = await site.connect("sensor-01", clean=False)
    await sensor.subscribe(CMD, 1)
    gateway = await site.connect(GATEWAY)
    gateway.publish(CMD, b"restart", qos=1)
    first = await sensor.delivery()
    sensor.drop()

    sensor = await site.connect("sensor-01", clean=False)
    again = await sensor.delivery()
    sensor.acknowledge(again)
    await sensor.ping()
    sensor.drop()
    sensor = await site.connect("sensor-01", clean=False)
    await sensor.ping()  # anything unacknowledged would have come before the answer

    assert (first.payload, first.dup) == (b"restart", False)
    assert (again.payload, again.dup, again.packet_id) == (b"restart", True, first.packet_id)


async def test_a_lasting_session_keeps_messages_of_quality_1_for_a_client_that_is_away(site: Site) -> None:
    sensor = await site.connect("sensor-01", clean=False)
    await sensor.subscribe(CMD, 1)
    sensor.disconnect()
    gateway = await site.connect(GATEWAY)
    for number in range(50):
        gateway.publish(CMD, b"%d" % number, qos=1, packet_id=number + 1)
        await gateway.expect(PUBACK)

    sensor = await site.connect("sensor-01", clean=False)
    received = []
    for _ in range(50):
        message = await sensor.delivery()
        sensor.acknowledge(message)
        received.append(int(message.payload))

    assert received == list(range(50))


async def test_a_clean_session_forgets_what_the_last_one_subscribed_to(site: Site) -> None:
    sensor = await site.connect("sensor-01", clean=False)
    await sensor.subscribe(CMD, 1)
    sensor.disconnect()

    sensor = await site.connect("sensor-01", clean=True)
    gateway = await site.connect(GATEWAY)
    gateway.publish(CMD, b"nobody listens", qos=1)
    await gateway.expect(PUBACK)

    await sensor.ping()


async def test_after_unsubscribing_nothing_more_comes(site: Site) -> None:
    sensor = await site.connect("sensor-01")
    await sensor.subscribe(CMD)
    sensor.send(packet(0xA2, b"\0\2" + len(CMD).to_bytes(2, "big") + CMD.encode()))
    await sensor.expect(11)
    gateway = await site.connect(GATEWAY)
    gateway.publish(CMD, b"nobody listens", qos=1)
    await gateway.expect(PUBACK)

    await sensor.ping()


@pytest.mark.live
async def test_an_answer_and_a_message_right_after_it_are_not_held_back(site: Site) -> None:
    """Two small writes in a row: without TCP_NODELAY the second waits 40 ms for the first to be acknowledged."""
    gateway = await site.connect(GATEWAY)
    await gateway.subscribe("clawland/#")
    begin_s = time.perf_counter()
    for _ in range(25):
        gateway.publish(CMD, b"identify", qos=1)
        kinds = {(await gateway.read())[0] for _ in range(2)}
        assert kinds == {PUBACK, PUBLISH}

    assert time.perf_counter() - begin_s < 0.5


async def test_a_client_that_reads_nothing_holds_up_nobody(site: Site) -> None:
    """Far more is sent to it than sockets hold, yet another subscriber gets its message at once."""
    stuck = await site.connect("sensor-01")
    await stuck.subscribe(CMD)
    stuck.writer.transport.pause_reading()  # type: ignore[attr-defined]
    prompt = await site.connect("sensor-02")
    await prompt.subscribe("clawland/sensor-02/cmd")
    gateway = await site.connect(GATEWAY)
    for _ in range(20_000):
        gateway.publish(CMD, b"x" * MAX_PAYLOAD_BYTES)
    gateway.publish("clawland/sensor-02/cmd", b"prompt")

    assert (await prompt.delivery()).payload == b"prompt"
