"""`fleet hub doctor`: which broker answers at an address, and where its limits are, found out by trying.

It comes under an identity of its own, so that it takes nobody's session over, and speaks on one topic of its own.
"""

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from amqtt.mqtt.packet import CONNACK, PUBLISH, SUBACK
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.subscribe import SubscribePacket

from fleet.hub.access import DOCTOR, DOCTOR_TOPIC, VERSION_TOPIC
from fleet.hub.frames import MQTT_3_1_1, MalformedPacketError, OversizePacketError, decode, read_frame

ANSWER_S = 5.0
VERSION_S = 0.5  # for a retained message that may not exist
KEEPALIVE_S = 1
# A broker may notice late: Mosquitto looks every 5 s. Beyond that silence goes unnoticed for any purpose of ours.
SILENCE_S = 10.0
_MQTT_5 = 5
_MAX_FRAME_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Finding:
    """One thing that was found out; `good` False means that a fleet cannot rely on this broker."""

    what: str
    found: str
    good: bool = True


@dataclass(frozen=True)
class Patient:
    """The broker to examine, and how to be let in."""

    host: str
    port: int
    context: ssl.SSLContext | None = None
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)


class Unreachable(Exception):
    """Nothing was found out: no connection, or not let in; the text is for the user."""


async def examine(patient: Patient, max_payload_bytes: int) -> list[Finding]:
    """All findings; `max_payload_bytes` is the largest message that the fleet sends. Raises Unreachable."""
    async with _connected(patient):
        pass  # so that what follows is about the broker, not about the way to it
    probes: list[Callable[[], Awaitable[Finding]]] = [
        lambda: _product(patient),
        lambda: _versions(patient),
        lambda: _strangers(patient),
        lambda: _qualities(patient),
        lambda: _retained(patient),
        lambda: _payload(patient, max_payload_bytes),
        lambda: _shared(patient),
        lambda: _keepalive(patient),
    ]
    return [await _guarded(probe) for probe in probes]


async def _guarded(probe: Callable[[], Awaitable[Finding]]) -> Finding:
    try:
        return await probe()
    except (_Gone, Unreachable) as error:
        return Finding("a probe", f"ended early: {error}", good=False)


# --- probes -----------------------------------------------------------------------------------------------------------


async def _product(patient: Patient) -> Finding:
    async with _connected(patient) as client:
        refused = await client.subscribe("#") > 2
        if await client.subscribe(VERSION_TOPIC) <= 2:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(VERSION_S):
                    _, version = await client.delivery()
                    return Finding("product", f"{version.decode(errors='replace')[:80]!r}, as {VERSION_TOPIC} says")
    if refused and not await _accepts(patient, _MQTT_5):
        return Finding("product", "Clawland's embedded hub, by its behaviour")
    return Finding("product", f"unknown: it says nothing on {VERSION_TOPIC} and behaves unlike the embedded hub")


async def _versions(patient: Patient) -> Finding:
    five = await _accepts(patient, _MQTT_5)
    return Finding("MQTT versions", "3.1.1 and 5" if five else "3.1.1, not 5")


async def _strangers(patient: Patient) -> Finding:
    """Without a name, a password or a certificate."""
    bare = None
    if patient.context is not None:
        bare = ssl.create_default_context()
        bare.check_hostname, bare.verify_mode = False, ssl.CERT_NONE  # whoever it is: the question is whom it lets in
    taken = await _accepts(Patient(patient.host, patient.port, bare), MQTT_3_1_1)
    return Finding("strangers", "let in: anybody may connect" if taken else "refused", good=not taken)


async def _qualities(patient: Patient) -> Finding:
    async with _connected(patient) as client:
        granted = await client.subscribe(DOCTOR_TOPIC, 2)
        client.publish(b"at least once", qos=1)
        _, payload = await client.delivery()
        works = granted >= 1 and payload == b"at least once"
        return Finding("quality of service", f"up to {granted} for a subscriber", good=works)


async def _retained(patient: Patient) -> Finding:
    async with _connected(patient) as client:
        client.publish(b"kept", retain=True)
        await client.subscribe(DOCTOR_TOPIC)
        client.publish(b"proof", qos=1)
        kept = (await client.until(b"proof"))[:1] == [b"kept"]
        client.publish(b"", retain=True)  # leave nothing behind
        await client.until(b"")
    return Finding("retained messages", "kept for later subscribers" if kept else "not kept")


async def _payload(patient: Patient, size: int) -> Finding:
    async with _connected(patient) as client:
        await client.subscribe(DOCTOR_TOPIC)
        client.publish(b"x" * size)
        client.publish(b"proof", qos=1)
        if not any(len(payload) == size for payload in await client.until(b"proof")):
            return Finding("largest message", f"below {size} bytes, which a batch of the fleet may have", good=False)
        client.publish(b"x" * (size + 1))
        client.publish(b"proof", qos=1)
        try:
            more = any(len(payload) == size + 1 for payload in await client.until(b"proof"))
        except _Gone:
            more = False
    return Finding("largest message", f"above {size} bytes" if more else f"{size} bytes, as the fleet needs")


async def _shared(patient: Patient) -> Finding:
    async with _connected(patient) as client:
        if await client.subscribe(f"$share/doctor/{DOCTOR_TOPIC}") > 2:
            return Finding("shared subscriptions", "refused")
        client.publish(b"shared", qos=1)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(VERSION_S):
                await client.delivery()
                return Finding("shared subscriptions", "work")
    return Finding("shared subscriptions", "granted, but nothing is delivered")


async def _keepalive(patient: Patient) -> Finding:
    loop = asyncio.get_running_loop()
    async with _connected(patient, KEEPALIVE_S) as client:
        began_s = loop.time()
        try:
            async with asyncio.timeout(SILENCE_S):
                await client.packet(SILENCE_S)
        except (_Gone, TimeoutError):
            pass
        silent_s = loop.time() - began_s
    if silent_s >= SILENCE_S:
        return Finding("keepalive", f"not enforced: silence for {SILENCE_S:.0f} times the interval is let pass", False)
    return Finding("keepalive", f"enforced: a silent client was cut off after {silent_s:.1f} times the interval")


# --- a client ---------------------------------------------------------------------------------------------------------


class _Gone(Exception):
    """The broker closed the connection, or did not answer."""


class _Client:
    """Just enough of a client, over the packets that the embedded hub itself uses."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def packet(self, within_s: float = ANSWER_S) -> tuple[int, Any]:
        """The next packet's type and content. Raises _Gone."""
        try:
            async with asyncio.timeout(within_s):
                frame = await read_frame(self._reader, _MAX_FRAME_BYTES)
                if frame is None:
                    raise _Gone("the broker closed the connection")
                return frame.packet_type, await decode(frame)
        except TimeoutError:
            raise _Gone("the broker does not answer") from None
        except (MalformedPacketError, OversizePacketError, OSError) as error:
            raise _Gone(f"the broker's answer cannot be read: {error}") from None

    async def subscribe(self, topic_filter: str, qos: int = 0) -> int:
        """The code of SUBACK: the quality granted, or 128 for a refusal."""
        self._writer.write(SubscribePacket.build([(topic_filter, qos)], 1).to_bytes())
        while True:
            kind, packet = await self.packet()
            if kind == SUBACK:
                return int(packet.payload.return_codes[0])

    def publish(self, payload: bytes, qos: int = 0, retain: bool = False) -> None:
        packet = PublishPacket.build(DOCTOR_TOPIC, payload, 1 if qos else None, False, qos, retain)
        self._writer.write(packet.to_bytes())

    async def delivery(self) -> tuple[str, bytes]:
        """The next message."""
        while True:
            kind, packet = await self.packet()
            if kind == PUBLISH:
                return str(packet.topic_name), bytes(packet.data or b"")

    async def until(self, proof: bytes) -> list[bytes]:
        """The messages before the one that surely comes."""
        found: list[bytes] = []
        while (message := (await self.delivery())[1]) != proof:
            found.append(message)
        return found


@asynccontextmanager
async def _connected(patient: Patient, keepalive_s: int = 0) -> AsyncIterator[_Client]:
    """Raises Unreachable."""
    where = f"{patient.host}:{patient.port}"
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(patient.host, patient.port, ssl=patient.context)
    except (OSError, TimeoutError) as error:
        raise Unreachable(f"{where}: {error or 'no answer'}") from None
    try:
        writer.write(_introduction(patient, MQTT_3_1_1, keepalive_s))
        client = _Client(reader, writer)
        try:
            kind, answer = await client.packet()
        except _Gone as error:
            raise Unreachable(f"{where}: {error}, without letting {DOCTOR!r} in") from None
        if kind != CONNACK or answer.variable_header.return_code != 0:
            raise Unreachable(f"{where}: the broker refuses {DOCTOR!r}: its password or certificate is not accepted")
        yield client
    finally:
        writer.transport.abort()


async def _accepts(patient: Patient, level: int) -> bool:
    """Whether a connection of that protocol level is let in."""
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(patient.host, patient.port, ssl=patient.context)
            writer.write(_introduction(patient, level, 0))
            try:
                frame = await read_frame(reader, _MAX_FRAME_BYTES)
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError, MalformedPacketError, OversizePacketError):
        return False
    return frame is not None and frame.packet_type == CONNACK and frame.body[1:2] == b"\0"


def _introduction(patient: Patient, level: int, keepalive_s: int) -> bytes:
    """CONNECT, by hand: amqtt knows no MQTT 5, in which an empty list of properties follows the keepalive."""
    named, secret = patient.username is not None, patient.password is not None
    body = b"\0\4MQTT" + bytes([level, 0x02 | 0x80 * named | 0x40 * secret]) + struct.pack("!H", keepalive_s)
    body += b"\0" if level == _MQTT_5 else b""
    for text in (DOCTOR.encode(), (patient.username or "").encode() if named else None, patient.password):
        if text is not None:
            body += struct.pack("!H", len(text)) + text
    return bytes([0x10, len(body)]) + body
