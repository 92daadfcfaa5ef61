"""Claims about rights: what each identity may publish and read on the topics of the contract. Put to both brokers."""

import pytest

from tests.hub.client import PUBACK
from tests.hub.conftest import GATEWAY, MAX_PAYLOAD_BYTES, Site

DOWN_TO_NODE = ("cmd", "received")
UP_TO_HUB = ("batch", "batch/gz", "heartbeat", "status", "ack", "config/ack")
DOWN_TO_GATEWAY = ("batch/ack", "heartbeat/ack", "cmd", "config")


async def heard(site: Site, publisher: str, topics: list[str], reader: str, topic_filter: str, proof: str) -> list[str]:
    """Which of `topics` reach `reader` when `publisher` speaks on each. `proof` surely does, and ends the wait."""
    hearing = await site.connect(reader)
    await hearing.subscribe(topic_filter)
    speaking = await site.connect(publisher)
    for topic, payload in [(topic, b"in question") for topic in topics] + [(proof, b"proof")]:
        speaking.publish(topic, payload, qos=1)
        await speaking.expect(PUBACK)  # dropped or not, a publisher learns nothing
    arrived = []
    while (message := await hearing.delivery()).payload != b"proof":
        arrived.append(message.topic)
    return arrived


async def test_a_node_publishes_on_its_own_topics(site: Site) -> None:
    own = [f"clawland/sensor-01/{verb}" for verb in ("temp", "heartbeat", "beacon", "ack", "door-3")]

    assert await heard(site, "sensor-01", own, GATEWAY, "clawland/#", "clawland/sensor-01/end") == own


async def test_a_node_publishes_nowhere_else(site: Site) -> None:
    foreign = [
        "clawland/sensor-02/temp",
        "clawland/sensor-02/cmd",
        "clawland/gateway-01/temp",
        "clawland/sensor-01",
        "clawland/sensor-01/a/b",
        "clawland/sensor-011/temp",
        "clawland",
        "clawland/",
        "/clawland/sensor-01/temp",
        "elsewhere",
    ]

    assert await heard(site, "sensor-01", foreign, GATEWAY, "clawland/#", "clawland/sensor-01/end") == []


@pytest.mark.parametrize("verb", DOWN_TO_NODE)
async def test_the_gateway_reaches_a_node_on_its_down_going_topics(site: Site, verb: str) -> None:
    topic = f"clawland/sensor-01/{verb}"

    assert await heard(site, GATEWAY, [topic], "sensor-01", topic, topic) == [topic]


async def test_a_node_cannot_give_another_a_command(site: Site) -> None:
    victim = await site.connect("sensor-02")
    await victim.subscribe("clawland/sensor-02/cmd")
    attacker = await site.connect("sensor-01")
    attacker.publish("clawland/sensor-02/cmd", b"restart")
    await attacker.ping()
    gateway = await site.connect(GATEWAY)
    gateway.publish("clawland/sensor-02/cmd", b"genuine")

    assert (await victim.delivery()).payload == b"genuine"


async def test_the_gateway_cannot_speak_for_a_node(site: Site) -> None:
    """Its own subscription would bring it back what it said."""
    gateway = await site.connect(GATEWAY)
    await gateway.subscribe("clawland/#")
    gateway.publish("clawland/sensor-01/temp", b"invented")
    gateway.publish("clawland/sensor-01/cmd", b"its right")

    assert (await gateway.delivery()).payload == b"its right"


@pytest.mark.parametrize(
    "topic_filter",
    ["#", "clawland/#", "clawland/+/cmd", "+/+/+", "clawland/sensor-02/cmd", "clawland/sensor-02/#", "clawland/+/temp"],
)
async def test_a_node_hears_nothing_that_is_for_another(site: Site, topic_filter: str) -> None:
    """Whatever it subscribes to: some brokers refuse the subscription, others the delivery."""
    curious = await site.connect("sensor-01")
    await curious.subscribe("clawland/sensor-01/cmd")
    await curious.subscribe(topic_filter)
    gateway = await site.connect(GATEWAY)
    other = await site.connect("sensor-02")
    other.publish("clawland/sensor-02/temp", b"private")
    await other.ping()
    gateway.publish("clawland/sensor-02/cmd", b"private")
    gateway.publish("clawland/sensor-01/cmd", b"mine")

    assert (await curious.delivery()).payload == b"mine"


@pytest.mark.parametrize("topic_filter", ["$share/group/clawland/#", "$share/group/clawland/sensor-02/cmd", "$SYS/#"])
async def test_shared_and_system_subscriptions_open_no_back_door(site: Site, topic_filter: str) -> None:
    curious = await site.connect("sensor-01")
    await curious.subscribe("clawland/sensor-01/cmd")
    await curious.subscribe(topic_filter)
    gateway = await site.connect(GATEWAY)
    gateway.publish("clawland/sensor-02/cmd", b"private")
    gateway.publish("clawland/sensor-01/cmd", b"mine")

    assert (await curious.delivery()).payload == b"mine"


async def test_messages_to_system_topics_are_dropped_and_later_ones_are_not(site: Site) -> None:
    system = ["$SYS/broker/uptime", "$share/group/clawland/sensor-01/temp", "$CONTROL/x", "$"]

    assert await heard(site, "sensor-01", system, GATEWAY, "clawland/#", "clawland/sensor-01/end") == []


async def test_a_retained_message_reaches_only_those_who_may_read_it(site: Site) -> None:
    gateway = await site.connect(GATEWAY)
    gateway.publish("clawland/sensor-02/cmd", b"for sensor-02", retain=True)
    await gateway.ping()

    curious = await site.connect("sensor-01", clean=False)
    for topic_filter in ("#", "clawland/+/cmd", "clawland/sensor-02/cmd", "clawland/sensor-01/cmd"):
        await curious.subscribe(topic_filter)
    await curious.ping()  # anything retained would have come before the answer
    owner = await site.connect("sensor-02")
    await owner.subscribe("clawland/sensor-02/cmd")

    message = await owner.delivery()
    assert (message.payload, message.retain) == (b"for sensor-02", True)


async def test_a_reconnecting_client_gets_no_retained_message_through_others_subscriptions(site: Site) -> None:
    gateway = await site.connect(GATEWAY)
    await gateway.subscribe("clawland/#")
    sensor = await site.connect("sensor-02")
    sensor.publish("clawland/sensor-02/temp", b"retained", retain=True)
    await sensor.ping()

    other = await site.connect("sensor-01")

    await other.ping()


async def test_an_oversize_payload_is_dropped_and_others_are_not(site: Site) -> None:
    gateway = await site.connect(GATEWAY)
    await gateway.subscribe("clawland/#")
    sensor = await site.connect("sensor-01")
    sensor.publish("clawland/sensor-01/a", b"x" * (MAX_PAYLOAD_BYTES + 1))
    sensor.publish("clawland/sensor-01/b", b"y" * MAX_PAYLOAD_BYTES)

    assert (await gateway.delivery()).topic == "clawland/sensor-01/b"


async def test_a_gateway_reaches_the_manager_on_its_up_going_topics(hub: Site) -> None:
    own = [f"clawland/gateway-01/{verb}" for verb in UP_TO_HUB]

    assert await heard(hub, "gateway-01", own, "manager", "#", "clawland/gateway-01/ack") == own


async def test_a_gateway_publishes_nothing_else(hub: Site) -> None:
    foreign = [f"clawland/gateway-02/{verb}" for verb in UP_TO_HUB]
    foreign += [f"clawland/gateway-01/{verb}" for verb in (*DOWN_TO_GATEWAY, "invented", "batch/gz/x")]
    foreign += ["clawland/gateway-01", "elsewhere"]

    assert await heard(hub, "gateway-01", foreign, "manager", "#", "clawland/gateway-01/ack") == []


@pytest.mark.parametrize("verb", DOWN_TO_GATEWAY)
async def test_the_manager_reaches_a_gateway_on_its_down_going_topics(hub: Site, verb: str) -> None:
    topic = f"clawland/gateway-01/{verb}"

    assert await heard(hub, "manager", [topic], "gateway-01", topic, topic) == [topic]


async def test_the_manager_cannot_speak_for_a_gateway(hub: Site) -> None:
    manager = await hub.connect("manager")
    await manager.subscribe("#")
    for verb in ("batch", "heartbeat", "status", "ack"):
        manager.publish(f"clawland/gateway-01/{verb}", b"invented")
    manager.publish("clawland/gateway-01/cmd", b"its right")

    assert (await manager.delivery()).payload == b"its right"


@pytest.mark.parametrize("topic_filter", ["#", "clawland/gateway-02/cmd", "clawland/gateway-02/#", "clawland/+/config"])
async def test_a_gateway_hears_nothing_that_is_for_another(hub: Site, topic_filter: str) -> None:
    curious = await hub.connect("gateway-01")
    await curious.subscribe("clawland/gateway-01/cmd")
    await curious.subscribe(topic_filter)
    other = await hub.connect("gateway-02")
    other.publish("clawland/gateway-02/batch", b"private")
    await other.ping()
    manager = await hub.connect("manager")
    for verb in ("cmd", "config"):
        manager.publish(f"clawland/gateway-02/{verb}", b"private")
    manager.publish("clawland/gateway-01/cmd", b"mine")

    assert (await curious.delivery()).payload == b"mine"
