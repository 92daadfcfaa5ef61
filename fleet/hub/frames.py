"""MQTT 3.1.1 packets off a socket: bounded, whole, and refused when they are not exactly what they claim.

amqtt decodes and encodes the packets. What it lets through (a packet cut short inside, trailing bytes, text that is not
UTF-8, binary passwords read as text) is caught here, before anything acts on it.
"""

import asyncio
import struct
from dataclasses import dataclass
from typing import Any

from amqtt.adapters import BufferReader
from amqtt.codecs_amqtt import decode_data_with_length
from amqtt.errors import AMQTTError, CodecError, MQTTError, NoDataError
from amqtt.mqtt import packet_class
from amqtt.mqtt.connect import ConnectVariableHeader
from amqtt.mqtt.packet import CONNECT, PUBLISH, PUBREL, SUBSCRIBE, UNSUBSCRIBE, MQTTFixedHeader, MQTTPacket
from amqtt.mqtt.publish import PublishPacket

from fleet.hub.topics import is_topic

MQTT_3_1_1 = 4  # protocol level, MQTT 3.1.1 section 3.1.2.2

_LENGTH_BYTES = 4  # of the remaining length, section 2.2.3
_RESERVED_FLAGS = {PUBREL: 2, SUBSCRIBE: 2, UNSUBSCRIBE: 2}  # table 2.2; all others but PUBLISH have 0
_DECODE_ERRORS = (AMQTTError, MQTTError, CodecError, NoDataError, ValueError, IndexError, TypeError, struct.error)


class MalformedPacketError(Exception):
    """The bytes are not MQTT 3.1.1. The connection that sent them must be closed, section 4.8."""


class OversizePacketError(Exception):
    """A packet announces more bytes than the broker takes."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One packet as it came: type and flags of the fixed header, and all that follows the length."""

    packet_type: int
    flags: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Will:
    topic: str
    payload: bytes
    qos: int
    retain: bool


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a CONNECT packet says. `password` is binary data, as section 3.1.3.5 has it."""

    level: int
    client_id: str
    clean: bool
    keepalive_s: int
    username: str | None
    password: bytes | None
    will: Will | None


async def read_frame(reader: asyncio.StreamReader, max_bytes: int) -> Frame | None:
    """The next packet, or None where the peer hung up between packets or inside one.

    Raises MalformedPacketError for a length that never ends, OversizePacketError for more than `max_bytes` after it.
    """
    try:
        first = (await reader.readexactly(1))[0]
        length = await _read_length(reader)
        if length > max_bytes:
            raise OversizePacketError(f"{length} bytes announced, at most {max_bytes} allowed")
        return Frame(first >> 4, first & 0x0F, await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


async def _read_length(reader: asyncio.StreamReader) -> int:
    length = 0
    for place in range(_LENGTH_BYTES):
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return length
    raise MalformedPacketError("a length of more than four bytes")


async def decode(frame: Frame) -> MQTTPacket[Any, Any, Any]:
    """The packet in a frame. Raises MalformedPacketError unless it fills the frame exactly."""
    header = MQTTFixedHeader(frame.packet_type, frame.flags, len(frame.body))
    try:
        packet = await packet_class(header).from_stream(BufferReader(frame.body), header)
        if frame.packet_type == PUBLISH and isinstance(packet, PublishPacket):
            _check_publish(packet, frame)
        else:
            _check_exact(packet, frame)
    except _DECODE_ERRORS as error:
        raise MalformedPacketError(f"packet type {frame.packet_type}: {error or type(error).__name__}") from error
    return packet


def _check_publish(packet: PublishPacket, frame: Frame) -> None:
    topic = (packet.topic_name or "").encode()
    if frame.body[2 : 2 + len(topic)] != topic or len(topic) != int.from_bytes(frame.body[:2], "big"):
        raise MalformedPacketError("a topic that is not UTF-8")
    if packet.qos == 3 or packet.packet_id == 0:
        raise MalformedPacketError("QoS 3, or a packet identifier of 0")
    if not is_topic(topic.decode()):
        raise MalformedPacketError("a topic that is empty or has a wildcard")


def _check_exact(packet: MQTTPacket[Any, Any, Any], frame: Frame) -> None:
    """A packet that was read right encodes to the bytes that it was read from."""
    if frame.flags != _RESERVED_FLAGS.get(frame.packet_type, 0):
        raise MalformedPacketError(f"reserved flags of packet type {frame.packet_type}")
    encoded = packet.to_bytes()
    if not encoded.endswith(frame.body) or packet.fixed_header.remaining_length != len(frame.body):
        raise MalformedPacketError(f"the content of packet type {frame.packet_type}")


async def read_introduction(frame: Frame) -> Introduction:
    """What a first packet says. Raises MalformedPacketError unless it is a CONNECT of protocol "MQTT".

    For a protocol level other than 4 only `level` means anything: later versions put other fields there.
    """
    if frame.packet_type != CONNECT or frame.flags:
        raise MalformedPacketError(f"the first packet is not CONNECT but type {frame.packet_type}")
    try:
        return await _introduction(BufferReader(frame.body), frame)
    except _DECODE_ERRORS as error:
        raise MalformedPacketError(f"CONNECT: {error or type(error).__name__}") from error


async def _introduction(reader: BufferReader, frame: Frame) -> Introduction:
    header = await ConnectVariableHeader.from_stream(reader, MQTTFixedHeader(frame.packet_type))
    if header.proto_name not in ("MQTT", "MQIsdp"):
        raise MalformedPacketError("CONNECT for a protocol that is not MQTT")
    if header.proto_level != MQTT_3_1_1:
        return Introduction(header.proto_level, "", True, 0, None, None, None)
    _check_connect_flags(header)
    client_id = _text(await decode_data_with_length(reader))
    will = await _will(reader, header)
    username = _text(await decode_data_with_length(reader)) if header.username_flag else None
    password = bytes(await decode_data_with_length(reader)) if header.password_flag else None
    if await reader.read(1):
        raise MalformedPacketError("CONNECT with bytes after its end")
    return Introduction(
        header.proto_level, client_id, header.clean_session_flag, header.keep_alive, username, password, will
    )


def _check_connect_flags(header: ConnectVariableHeader) -> None:
    """Sections 3.1.2.3 to 3.1.2.9."""
    will_bits = header.will_qos or header.will_retain_flag
    if header.reserved_flag or header.will_qos == 3 or (will_bits and not header.will_flag):
        raise MalformedPacketError("CONNECT with flags that contradict each other")
    if header.password_flag and not header.username_flag:
        raise MalformedPacketError("CONNECT with a password but no user name")


async def _will(reader: BufferReader, header: ConnectVariableHeader) -> Will | None:
    if not header.will_flag:
        return None
    topic = _text(await decode_data_with_length(reader))
    if not is_topic(topic):
        raise MalformedPacketError("a will topic that is empty or has a wildcard")
    payload = bytes(await decode_data_with_length(reader))
    return Will(topic, payload, header.will_qos, header.will_retain_flag)


def _text(raw: bytes) -> str:
    text = bytes(raw).decode()
    if "\0" in text:
        raise MalformedPacketError("text with a NUL character")  # [MQTT-1.5.3-2]
    return text
