"""Claims about identities: who gets in, and that nobody loses a connection to somebody else. Put to both brokers."""

import asyncio
import contextlib

import pytest

from tests.hub.client import PUBLISH, connect_packet, packet, text
from tests.hub.conftest import GATEWAY, Site


@pytest.mark.parametrize(
    ("username", "password"),
    [
        pytest.param("sensor-01", b"wrong", id="wrong password"),
        pytest.param("sensor-01", b"", id="empty password"),
        pytest.param("sensor-01", None, id="no password"),
        pytest.param("sensor-01", b"key-of-sensor-02", id="another's password"),
        pytest.param("sensor-99", b"key-of-sensor-01", id="unknown name"),
        pytest.param("sensor-01\n", b"key-of-sensor-01", id="name with a line end"),
        pytest.param("", b"", id="empty name"),
        pytest.param(None, None, id="no credentials"),
    ],
)
async def test_whoever_cannot_prove_an_identity_is_refused(
    site: Site, username: str | None, password: bytes | None
) -> None:
    client = await site.open()
    client.send(connect_packet("sensor-01", username, password))

    assert await client.refusal() in (None, 4, 5)  # a broker may also hang up without a word
    assert await client.is_closed_by_broker()


async def test_a_wrong_password_is_refused_and_leaves_the_victim_connected(site: Site) -> None:
    victim = await site.connect("sensor-01")
    await victim.subscribe("clawland/sensor-01/cmd")

    _, code = await site.attempt("sensor-01", b"wrong")

    assert code in (4, 5)
    gateway = await site.connect(GATEWAY)
    gateway.publish("clawland/sensor-01/cmd", b"still there?")
    assert (await victim.delivery()).payload == b"still there?"


async def test_another_s_client_id_takes_nothing_from_the_other(site: Site) -> None:
    victim = await site.connect("sensor-01", clean=False)
    await victim.subscribe("clawland/sensor-01/cmd", 1)

    thief, _ = await site.attempt("sensor-02", b"key-of-sensor-02", client_id="sensor-01", clean=False)

    gateway = await site.connect(GATEWAY)
    gateway.publish("clawland/sensor-01/cmd", b"for sensor-01 alone")
    assert (await victim.delivery()).payload == b"for sensor-01 alone"
    await thief.ping()


async def test_a_second_connection_of_an_identity_ends_the_first(site: Site) -> None:
    first = await site.connect("sensor-01")
    second = await site.connect("sensor-01")

    assert await first.is_closed_by_broker()
    await second.ping()


async def test_an_identity_added_while_running_may_connect_at_once(site: Site) -> None:
    _, before = await site.attempt("sensor-03", b"key-of-sensor-03")
    bystander = await site.connect("sensor-01")

    site.passwords["sensor-03"] = b"key-of-sensor-03"
    await site.reload()

    assert before in (4, 5)
    await site.connect("sensor-03")
    await bystander.ping()


async def test_a_changed_password_replaces_the_old_one(site: Site) -> None:
    site.passwords["sensor-01"] = b"another key"
    await site.reload()

    assert (await site.attempt("sensor-01", b"key-of-sensor-01"))[1] in (4, 5)
    assert (await site.attempt("sensor-01", b"another key"))[1] == 0


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n", id="HTTP"),
        pytest.param(bytes(range(256)), id="all bytes"),
        pytest.param(b"\x10\xff\xff\xff\xff\x7f", id="a length without end"),
        pytest.param(b"\x10\xff\xff\xff\x7f" + b"x" * 4096, id="256 MiB announced"),
        pytest.param(packet(0x10, text("MQTT") + b"\x04"), id="CONNECT cut short inside"),
        pytest.param(
            connect_packet("sensor-01", "sensor-01", b"key-of-sensor-01")[:-6], id="CONNECT cut short at its end"
        ),
        pytest.param(
            packet(0x10, text("MQTT") + b"\x04\xc2\0\0" + text(b"\xff\xfe") + text("a") + text("b")), id="not UTF-8"
        ),
        pytest.param(packet(0x30, text("clawland/sensor-01/temp") + b"1"), id="a message before CONNECT"),
        pytest.param(packet(0x10, text("MQTT") + b"\x04\x03\0\0" + text("x")), id="a reserved flag"),
        pytest.param(packet(0xF0), id="a reserved packet type"),
    ],
)
async def test_garbage_closes_its_own_connection_only(site: Site, garbage: bytes) -> None:
    bystander = await site.connect("sensor-01")
    stranger = await site.open()

    stranger.send(garbage)
    with contextlib.suppress(OSError):  # closed already
        stranger.writer.write_eof()

    assert await stranger.is_closed_by_broker()
    await bystander.ping()


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(
            packet(0x10, connect_packet("sensor-01", "sensor-01", b"key-of-sensor-01")[2:]), id="CONNECT again"
        ),
        pytest.param(packet(0x30, b"\x00\xffx"), id="a topic longer than its packet"),
        pytest.param(packet(0x30, text(b"\xff\xfe") + b"1"), id="a topic that is not UTF-8"),
        pytest.param(packet(0x30, text("clawland/sensor-01/+") + b"1"), id="a topic with a wildcard"),
        pytest.param(packet(0x36, text("clawland/sensor-01/temp") + b"\0\1x"), id="QoS 3"),
        pytest.param(packet(0x82, b"\0\1"), id="SUBSCRIBE to nothing"),
        pytest.param(packet(0x82, b"\0\1" + text("clawland/sensor-01/cmd") + b"\x07"), id="SUBSCRIBE at QoS 7"),
        pytest.param(packet(0x82, b"\0\1\0\x20abc"), id="SUBSCRIBE cut short inside"),
        pytest.param(packet(0x82, b"\0\1" + text(b"\xff\xfe") + b"\0"), id="SUBSCRIBE to what is not UTF-8"),
        pytest.param(
            packet(0x82, b"\0\1" + text("clawland/sensor-01/cmd") + b"\0\0\x09a"), id="SUBSCRIBE cut short at its end"
        ),
        pytest.param(packet(0x80, b"\0\1" + text("clawland/sensor-01/cmd") + b"\0"), id="SUBSCRIBE with wrong flags"),
        pytest.param(packet(0x20, b"\0\0"), id="CONNACK from a client"),
        pytest.param(packet(0x30, b"x" * 70_000), id="a packet above the limit"),
    ],
)
async def test_garbage_from_a_client_that_is_connected_closes_its_connection_only(site: Site, garbage: bytes) -> None:
    bystander = await site.connect("sensor-02")
    offender = await site.connect("sensor-01")

    offender.send(garbage)

    assert await offender.is_closed_by_broker()
    await bystander.ping()
    await site.connect("sensor-01")


@pytest.mark.live
async def test_a_silent_client_is_disconnected_after_its_keepalive_and_its_will_published(site: Site) -> None:
    gateway = await site.connect(GATEWAY)
    await gateway.subscribe("clawland/#")
    silent = await site.connect("sensor-01", keepalive_s=1, will=("clawland/sensor-01/gone", b"without a word"))

    message = await gateway.delivery(within_s=12)  # Mosquitto looks at keepalives every five seconds

    assert (message.topic, message.payload) == ("clawland/sensor-01/gone", b"without a word")
    assert await silent.is_closed_by_broker()


@pytest.mark.live
async def test_a_client_that_pings_is_not_disconnected(site: Site) -> None:
    client = await site.connect("sensor-01", keepalive_s=1)
    for _ in range(4):
        await client.ping()
        await asyncio.sleep(0.45)  # real time is the claim: four pauses are beyond one and a half keepalives
    await client.ping()


async def test_a_will_is_published_when_the_connection_breaks_and_not_after_a_good_bye(site: Site) -> None:
    gateway = await site.connect(GATEWAY)
    await gateway.subscribe("clawland/#")
    polite = await site.connect("sensor-01", will=("clawland/sensor-01/gone", b"polite"))
    broken = await site.connect("sensor-02", will=("clawland/sensor-02/gone", b"broken"))

    polite.disconnect()
    await site.connect("sensor-01")  # so that the broker has seen the good-bye
    broken.drop()

    assert (await gateway.delivery()).payload == b"broken"


async def test_a_will_without_the_right_to_publish_it_reaches_nobody(site: Site) -> None:
    gateway = await site.connect(GATEWAY)
    await gateway.subscribe("clawland/#")

    liar, _ = await site.attempt("sensor-01", b"key-of-sensor-01", will=("clawland/sensor-02/gone", b"a lie"))
    liar.drop()

    honest = await site.connect("sensor-02")
    honest.publish("clawland/sensor-02/temp", b"alive")
    kind, _, body = await gateway.read()
    assert kind == PUBLISH
    assert body.endswith(b"alive")
