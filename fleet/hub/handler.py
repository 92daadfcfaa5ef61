"""One client's connection: reads packets, answers them, and writes what its session has waiting."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from amqtt.mqtt.connack import ConnackPacket
from amqtt.mqtt.packet import (
    DISCONNECT,
    PINGREQ,
    PUBACK,
    PUBLISH,
    PUBREL,
    SUBSCRIBE,
    UNSUBSCRIBE,
    MQTTPacket,
)
from amqtt.mqtt.pingresp import PingRespPacket
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.mqtt.puback import PubackPacket
from amqtt.mqtt.pubcomp import PubcompPacket
from amqtt.mqtt.pubrec import PubrecPacket
from amqtt.mqtt.suback import SubackPacket
from amqtt.mqtt.unsuback import UnsubackPacket

from fleet.hub.frames import Frame, MalformedPacketError, decode, read_frame
from fleet.hub.session import UNUSED, HubSession
from fleet.hub.tls import NoPeerError, Peer, peer_of

if TYPE_CHECKING:
    from fleet.hub.broker import HubBroker

_HIGH_WATER_BYTES = 262_144  # written and not yet taken by the peer; beyond it messages wait in the session
_FRAMES_A_TURN = 64  # before another connection gets its turn
_BATCH = 64  # messages that may wait for the end of the turn, to be written in one go
_LINGER_S = 1.0  # for a peer to take the last bytes before its connection is cut
_KEEPALIVE_FACTOR = 1.5  # [MQTT-3.1.2-24]

_Packet = MQTTPacket[Any, Any, Any]


class HubHandler(BrokerProtocolHandler):
    """amqtt's handler with its data path replaced: no task for each packet, bounded queues, keepalive enforced."""

    def __init__(self, broker: "HubBroker", stream: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        super().__init__(broker.plugins_manager)
        self._pending_subscriptions = self._pending_unsubscriptions = UNUSED
        self.stream = stream
        self.hub_session: HubSession | None = None
        self.peer: Peer | None = None
        self.graceful = False
        self.ended_by = ""
        self._broker = broker
        self._out = out
        self._heard_at_s = self._loop.time()
        self._keepalive_timer: asyncio.TimerHandle | None = None
        self._pump_scheduled = False
        self._drainer: asyncio.Task[None] | None = None
        self._closed = False
        self._limit_buffer()
        self._answers: dict[int, Callable[[Any], Awaitable[None]]] = {
            PUBLISH: self._on_publish,
            PUBACK: self._on_puback,
            PUBREL: self._on_pubrel,
            SUBSCRIBE: self._on_subscribe,
            UNSUBSCRIBE: self._on_unsubscribe,
            PINGREQ: self._on_pingreq,
            DISCONNECT: self._on_disconnect,
        }

    @property
    def address(self) -> str:
        peer = self._out.get_extra_info("peername")
        return f"{peer[0]}:{peer[1]}" if peer else "unknown"

    async def secure(self, context: ssl.SSLContext, within_s: float) -> None:
        """Go over to TLS; `peer` is then who came. Raises NoPeerError."""
        try:
            await self._out.start_tls(context, ssl_handshake_timeout=within_s)
        except OSError as error:  # ssl.SSLError is one; else it took too long, or the client hung up
            raise NoPeerError.of(error) from None
        self._limit_buffer()
        self.peer = peer_of(self._out.get_extra_info("peercert") or {})

    def _limit_buffer(self) -> None:
        self._out.transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)

    def welcome(self, session: HubSession, keepalive_s: int, session_present: bool) -> None:
        """Take a session up: acknowledge, watch the peer's silence, write what waited for it."""
        self.hub_session = session
        self.send(ConnackPacket.build(int(session_present), 0))
        if keepalive_s:
            self._watch_silence(keepalive_s * _KEEPALIVE_FACTOR)
        self.wake()

    def refuse(self, return_code: int) -> None:
        self.send(ConnackPacket.build(0, return_code))

    async def serve(self) -> str:
        """Answer packets until the connection ends. Returns why it did."""
        frames = 0
        while not self.ended_by:
            frame = await read_frame(self.stream, self._broker.max_packet_bytes)
            if frame is None:
                break
            self._heard_at_s = self._loop.time()
            await self._answer(frame)
            await self._keep_pace()
            frames += 1
            if frames % _FRAMES_A_TURN == 0:
                await asyncio.sleep(0)
        return self.ended_by or "connection closed by the peer"

    def send(self, packet: _Packet) -> None:
        """Write an answer at once. The reading of further packets waits while the peer takes none."""
        if not self._closed:
            self._out.write(packet.to_bytes())

    def wake(self) -> None:
        """The session has something to send: write it at the end of this turn, with whatever else comes by then."""
        if self.hub_session is not None and self.hub_session.waiting >= _BATCH:
            self._pump()
        elif not self._pump_scheduled:
            self._pump_scheduled = True
            self._loop.call_soon(self._pump)

    def cut(self, reason: str) -> None:
        """End the connection from this side."""
        self.ended_by = self.ended_by or reason
        self.close()

    def close(self) -> None:
        """Stop writing, and cut the connection if the peer does not take the last bytes in time. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for pending in (self._keepalive_timer, self._drainer):
            if pending is not None:
                pending.cancel()
        self._out.close()
        # Not feed_eof: TLS may bring data up to its own good-bye, and a stream takes none after its end.
        self.stream.set_exception(ConnectionAbortedError("closed from this side"))
        self._loop.call_later(_LINGER_S, self._out.transport.abort)

    def abort(self) -> None:
        self.close()
        self._out.transport.abort()

    async def stop(self) -> None:
        """What amqtt's broker calls at its shutdown."""
        self.abort()

    async def _answer(self, frame: Frame) -> None:
        answer = self._answers.get(frame.packet_type)
        if answer is None:
            raise MalformedPacketError(f"packet type {frame.packet_type} from a client that is connected")
        await answer(await decode(frame))

    async def _on_publish(self, packet: Any) -> None:
        session = self._session()
        repeated = packet.qos == 2 and packet.packet_id in session.received_qos2
        if not repeated:
            payload = bytes(packet.data or b"")
            self._broker.publish_from(session, packet.topic_name, payload, packet.qos, packet.retain_flag)
        if packet.qos == 1:
            self.send(PubackPacket.build(packet.packet_id))
        elif packet.qos == 2:
            session.received_qos2.add(packet.packet_id)
            self.send(PubrecPacket.build(packet.packet_id))

    async def _on_puback(self, packet: Any) -> None:
        self._session().acknowledge(packet.variable_header.packet_id)
        self.wake()

    async def _on_pubrel(self, packet: Any) -> None:
        packet_id = packet.variable_header.packet_id
        self._session().received_qos2.discard(packet_id)
        self.send(PubcompPacket.build(packet_id))

    async def _on_subscribe(self, packet: Any) -> None:
        wanted = packet.payload.topics
        if not wanted or any(qos > 2 for _, qos in wanted):
            raise MalformedPacketError("SUBSCRIBE without filters, or with a QoS above 2")
        session = self._session()
        codes = [self._broker.subscribe(session, topic_filter, qos) for topic_filter, qos in wanted]
        self.send(SubackPacket.build(packet.variable_header.packet_id, codes))
        for (topic_filter, _), code in zip(wanted, codes, strict=True):
            self._broker.send_retained(session, topic_filter, code)

    async def _on_unsubscribe(self, packet: Any) -> None:
        if not packet.payload.topics:
            raise MalformedPacketError("UNSUBSCRIBE without filters")
        for topic_filter in packet.payload.topics:
            self._broker.unsubscribe(self._session(), topic_filter)
        self.send(UnsubackPacket.build(packet.variable_header.packet_id))

    async def _on_pingreq(self, _packet: Any) -> None:
        self.send(PingRespPacket.build())

    async def _on_disconnect(self, _packet: Any) -> None:
        self.graceful = True
        self.ended_by = self.ended_by or "disconnected by the client"

    def _session(self) -> HubSession:
        if self.hub_session is None:
            raise MalformedPacketError("a packet before the connection was accepted")
        return self.hub_session

    def _watch_silence(self, allowed_s: float) -> None:
        silent_s = self._loop.time() - self._heard_at_s
        if silent_s >= allowed_s:
            self.cut("keepalive timeout")
            return
        self._keepalive_timer = self._loop.call_later(allowed_s - silent_s, self._watch_silence, allowed_s)

    async def _keep_pace(self) -> None:
        if self._out.transport.get_write_buffer_size() > _HIGH_WATER_BYTES:
            await self._out.drain()

    def _pump(self) -> None:
        """Write what waits until nothing does or the peer lags; then go on when it has caught up."""
        self._pump_scheduled = False
        if self._closed or self._drainer is not None or self.hub_session is None:
            return
        transport = self._out.transport
        while (room := _HIGH_WATER_BYTES - transport.get_write_buffer_size()) >= 0:
            batch = self.hub_session.next_frames(room)
            if not batch:
                return
            self._out.write(batch)
        self._drainer = self._loop.create_task(self._drain())

    async def _drain(self) -> None:
        try:
            await self._out.drain()
        except ConnectionError:
            self.cut("connection lost")
            return
        finally:
            self._drainer = None
        self._pump()
