"""A bare MQTT 3.1.1 client over a socket, with its own encoding, so that tests can also say what no library would."""

import asyncio
import ssl
import struct
from dataclasses import dataclass
from typing import Self

CONNACK, PUBLISH, PUBACK, PUBREC, PUBCOMP, SUBACK, PINGRESP = 2, 3, 4, 5, 7, 9, 13

WAIT_S = 5.0  # for an answer from a process on the same machine


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("!H", len(raw)) + raw


def packet(first: int, body: bytes = b"") -> bytes:
    length, rest = bytearray(), len(body)
    while True:
        length.append(rest % 128 | (128 if rest >= 128 else 0))
        rest //= 128
        if not rest:
            return bytes([first]) + bytes(length) + body


def connect_packet(
    client_id: str,
    username: str | None = None,
    password: str | bytes | None = None,
    *,
    clean: bool = True,
    keepalive_s: int = 0,
    will: tuple[str, bytes] | None = None,
    level: int = 4,
) -> bytes:
    flags = 2 * clean | 0x04 * (will is not None) | 0x80 * (username is not None) | 0x40 * (password is not None)
    body = text("MQTT") + bytes([level, flags]) + struct.pack("!H", keepalive_s) + text(client_id)
    for field in (*(will or ()), username, password):
        if field is not None:
            body += text(field)
    return packet(0x10, body)


def publish_packet(topic: str, payload: bytes, qos: int = 0, packet_id: int = 1, retain: bool = False) -> bytes:
    identifier = struct.pack("!H", packet_id) if qos else b""
    return packet(0x30 | qos << 1 | retain, text(topic) + identifier + payload)


def subscribe_packet(topic_filter: str, qos: int = 0, packet_id: int = 1) -> bytes:
    return packet(0x82, struct.pack("!H", packet_id) + text(topic_filter) + bytes([qos]))


@dataclass(frozen=True)
class Delivery:
    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    packet_id: int


class RawClient:
    """One socket. Reading raises EOFError when the broker has closed it, TimeoutError when it is silent too long."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int, tls: ssl.SSLContext | None = None) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=tls))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def read(self, within_s: float = WAIT_S) -> tuple[int, int, bytes]:
        """Type, flags and body of the next packet."""
        async with asyncio.timeout(within_s):
            try:
                first = (await self.reader.readexactly(1))[0]
                length, place = 0, 0
                while (byte := (await self.reader.readexactly(1))[0]) >= 128:
                    length, place = length | (byte & 127) << place, place + 7
                return first >> 4, first & 15, await self.reader.readexactly(length | byte << place)
            except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError) as error:
                raise EOFError("the broker closed the connection") from error

    async def expect(self, kind: int) -> bytes:
        received, _, body = await self.read()
        assert received == kind, f"expected packet type {kind}, received {received}: {body!r}"
        return body

    async def refusal(self) -> int | None:
        """The return code of CONNACK, or None if the broker closes without one."""
        try:
            return (await self.expect(CONNACK))[1]
        except EOFError:
            return None

    async def delivery(self, within_s: float = WAIT_S) -> Delivery:
        """The next message."""
        received, flags, body = await self.read(within_s)
        assert received == PUBLISH, f"expected a message, received packet type {received}: {body!r}"
        end = 2 + int.from_bytes(body[:2], "big")
        qos = flags >> 1 & 3
        packet_id = int.from_bytes(body[end : end + 2], "big") if qos else 0
        payload = body[end + 2 :] if qos else body[end:]
        return Delivery(body[2:end].decode(), payload, qos, bool(flags & 1), bool(flags & 8), packet_id)

    async def subscribe(self, topic_filter: str, qos: int = 0) -> int:
        """Returns the SUBACK code."""
        self.send(subscribe_packet(topic_filter, qos))
        return (await self.expect(SUBACK))[2]

    def publish(self, topic: str, payload: bytes, qos: int = 0, packet_id: int = 1, retain: bool = False) -> None:
        self.send(publish_packet(topic, payload, qos, packet_id, retain))

    def acknowledge(self, delivery: Delivery) -> None:
        self.send(packet(0x40, struct.pack("!H", delivery.packet_id)))

    async def ping(self) -> None:
        """Returns once the broker has dealt with all that was sent before."""
        self.send(packet(0xC0))
        await self.expect(PINGRESP)

    async def is_closed_by_broker(self) -> bool:
        """Whether the broker closes the connection, whatever it says before."""
        try:
            while True:
                await self.read()
        except EOFError:
            return True
        except TimeoutError:
            return False

    def disconnect(self) -> None:
        self.send(packet(0xE0))
        self.writer.close()

    def drop(self) -> None:
        """End the connection without DISCONNECT."""
        self.writer.transport.abort()
