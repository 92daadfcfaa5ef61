"""The node's own MQTT client says what amqtt's codec reads, reads what it says, and survives everything else."""

import asyncio
from typing import Any

import pytest
from amqtt.adapters import BufferReader
from amqtt.mqtt.connack import ConnackPacket
from amqtt.mqtt.connect import ConnectPacket
from amqtt.mqtt.disconnect import DisconnectPacket
from amqtt.mqtt.packet import MQTTFixedHeader
from amqtt.mqtt.pingreq import PingReqPacket
from amqtt.mqtt.pingresp import PingRespPacket
from amqtt.mqtt.puback import PubackPacket
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.suback import SubackPacket
from amqtt.mqtt.subscribe import SubscribePacket
from hypothesis import given
from hypothesis import strategies as st

from firmware.wire.mqtt import MAX_PACKET_BYTES, MAX_UNSENT_BYTES, Client, MqttError

PATTERNS = ["clawland/sensor-01/cmd", "clawland/sensor-01/received"]
names = st.text("abcxyz0123456789-/é€", min_size=1, max_size=40)
payloads = st.binary(max_size=512)


def parsed(data: bytes, kind: Any) -> Any:
    """amqtt's view of `data`, which must be one packet of that kind and nothing else."""

    async def read() -> Any:
        reader = BufferReader(bytes(data))
        packet = await kind.from_stream(reader, fixed_header=await MQTTFixedHeader.from_stream(reader))
        assert await reader.read(1) == b""
        return packet

    return asyncio.run(read())


def said(client: Client) -> bytes:
    """What the client wants to send; the network takes it."""
    data = bytes(client.out)
    client.sent(len(data))
    return data


def connected(**options: Any) -> Client:
    client = Client("sensor-01", b"secret", PATTERNS, 0, **options)
    said(client)
    answer = ConnackPacket.build(0, 0).to_bytes()
    assert client.receive(answer, 0) == []
    request = parsed(said(client), SubscribePacket)
    assert client.receive(SubackPacket.build(request.variable_header.packet_id, [0, 0]).to_bytes(), 0) == [("up",)]
    return client


def publication(topic: str, payload: bytes, qos: int = 0, packet_id: int | None = None) -> bytes:
    return bytes(PublishPacket.build(topic, payload, packet_id, False, qos, False).to_bytes())


def test_it_logs_in_with_its_id_as_user_name_and_a_clean_session() -> None:
    packet = parsed(said(Client("sensor-01", b"secret", PATTERNS, 0, keepalive_s=30)), ConnectPacket)
    assert (packet.client_id, packet.username, packet.password) == ("sensor-01", "sensor-01", "secret")
    assert (packet.keep_alive, packet.clean_session_flag, packet.will_flag) == (30, True, False)


def test_it_can_leave_a_will() -> None:
    packet = parsed(said(Client("s", b"", PATTERNS, 0, will=("clawland/s/gone", b"{}"), qos=1)), ConnectPacket)
    assert (packet.will_topic, bytes(packet.will_message), packet.will_qos) == ("clawland/s/gone", b"{}", 1)
    assert not packet.username_flag


def test_it_subscribes_once_it_is_let_in_and_is_up_once_the_broker_agrees() -> None:
    client = Client("sensor-01", b"secret", PATTERNS, 0, qos=1)
    said(client)
    assert client.publish("clawland/sensor-01/temp", b"{}", 0) is None
    client.receive(b"\x20\x02\x00\x00", 0)
    packet = parsed(said(client), SubscribePacket)
    assert packet.payload.topics == [(pattern, 1) for pattern in PATTERNS]
    with pytest.raises(MqttError, match="refused a subscription"):
        client.receive(SubackPacket.build(packet.variable_header.packet_id, [0, 0x80]).to_bytes(), 0)


@pytest.mark.parametrize(("code", "why"), [(4, "bad user name or password"), (5, "not authorised"), (77, "code 77")])
def test_a_refusal_says_why(code: int, why: str) -> None:
    with pytest.raises(MqttError, match=f"refused: .*{why}"):
        Client("s", b"", PATTERNS, 0).receive(bytes([0x20, 2, 0, code]), 0)


@given(names, payloads, st.sampled_from([0, 1]))
def test_what_it_publishes_is_what_amqtt_reads(topic: str, payload: bytes, qos: int) -> None:
    client = connected()
    packet_id = client.publish(topic, payload, 0, qos)
    packet = parsed(said(client), PublishPacket)
    assert (packet.topic_name, bytes(packet.data or b""), packet.qos) == (topic, payload, qos)
    assert (packet.retain_flag, packet.dup_flag) == (False, False)
    if qos:
        assert packet.packet_id == packet_id
        answer = PubackPacket.build(packet.packet_id).to_bytes()
        assert client.receive(answer + answer, 0) == [("acknowledged", packet_id)]


@given(st.lists(st.tuples(names, payloads, st.sampled_from([0, 1])), min_size=1, max_size=5), st.data())
def test_what_amqtt_publishes_arrives_however_the_network_cuts_it(
    messages: list[tuple[str, bytes, int]], data: st.DataObject
) -> None:
    client = connected()
    stream = b"".join(publication(topic, body, qos, 7 if qos else None) for topic, body, qos in messages)
    events: list[Any] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        events += client.receive(stream[:size], 0)
        stream = stream[size:]
    assert events == [("message", topic, body) for topic, body, _ in messages]
    assert said(client) == PubackPacket.build(7).to_bytes() * sum(qos for _, _, qos in messages)


@given(st.binary(max_size=200), st.booleans())
def test_garbage_ends_the_connection_or_is_rejected_and_nothing_else(data: bytes, login: bool) -> None:
    client = connected() if login else Client("s", b"", PATTERNS, 0)
    try:
        events = client.receive(data, 0)
    except MqttError as error:
        assert str(error)
    else:
        assert {event[0] for event in events} <= {"up", "message", "rejected", "acknowledged"}


def test_a_packet_that_is_too_long_is_thrown_away_and_the_next_one_arrives() -> None:
    client = connected()
    stream = publication("t", bytes(70_000)) + publication("t", b"next")
    events = []
    for at in range(0, len(stream), 100):
        events += client.receive(stream[at : at + 100], 0)
        assert len(client._in) <= MAX_PACKET_BYTES + 100
    assert [event[0] for event in events] == ["rejected", "message"]


def test_what_the_network_does_not_take_is_bounded() -> None:
    client = connected()
    taken = 0
    while client.publish("clawland/sensor-01/temp", bytes(100), 0) is not None:
        taken += 1
    assert 30 < taken < 40
    assert len(client.out) <= MAX_UNSENT_BYTES
    with pytest.raises(MqttError, match="takes nothing"):
        client.receive(publication("t", b"", 1, 7) * 3000, 0)


def test_no_more_than_sixteen_messages_wait_for_an_acknowledgement() -> None:
    client = connected()
    ids = [client.publish("t", b"", 0, 1) for _ in range(17)]
    assert len(set(ids[:16])) == 16
    assert ids[16] is None
    client.receive(PubackPacket.build(ids[3]).to_bytes(), 0)
    assert client.publish("t", b"", 0, 1) not in ids


def test_it_pings_when_it_has_nothing_to_say_and_gives_up_when_nobody_answers() -> None:
    client = connected(keepalive_s=60)
    client.publish("t", b"", 5000)
    said(client)
    assert client.next_deadline() == 65_000
    client.on_timer(64_999)
    assert said(client) == b""
    client.on_timer(65_000)
    assert parsed(said(client), PingReqPacket)
    client.receive(PingRespPacket.build().to_bytes(), 65_100)
    client.on_timer(125_000)
    assert said(client)
    with pytest.raises(MqttError, match="no answer to a ping"):
        client.on_timer(135_000)


def test_it_says_goodbye() -> None:
    client = connected()
    client.disconnect()
    assert parsed(said(client), DisconnectPacket)
