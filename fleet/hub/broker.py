"""amqtt's broker with what touches safety, truth and the 500-node case mended by subclassing.

amqtt's are the life cycle, the listener, the session and the packets. Replaced are how a connection becomes a session
(authenticated before anything else, one session an identity), who may publish and read, and the way of a message from
publisher to subscribers (direct, at the lower QoS, through bounded queues).
"""

import asyncio
import functools
import socket
import ssl
import time
from collections.abc import Callable

from amqtt.broker import Broker, RetainedApplicationMessage
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType
from amqtt.mqtt.connack import NOT_AUTHORIZED

from fleet.hub.access import Access
from fleet.hub.frames import Introduction, MalformedPacketError, OversizePacketError
from fleet.hub.handler import HubHandler
from fleet.hub.reception import Reception
from fleet.hub.rejections import Rejections, log, shown
from fleet.hub.session import MAX_GRANTED_QOS, HubSession, Message
from fleet.hub.tls import HubTls
from fleet.hub.topics import SubscriptionTable, is_filter, matches

Tap = Callable[[str, str, bytes], None]

REFUSED_SUBSCRIPTION = 0x80  # SUBACK return code, section 3.9.3

_LISTENER = "default"
_STOP_WITHIN_S = 2.0
PACKET_OVERHEAD_BYTES = 1024  # a topic, its length and a packet identifier, with room to spare
_MIN_QUEUED_BYTES = 8 * 1024 * 1024
_MAX_RETAINED = 1000
_BACKLOG = 4096  # Linux's own limit: 500 clients that connect at once must not wait for a retried SYN


class HubBroker(Broker):
    """The broker behind `EmbeddedBroker`, on a listening socket that it is given."""

    def __init__(
        self,
        listening: socket.socket,
        *,
        access: Access,
        rejections: Rejections,
        taps: list[Tap],
        max_payload_bytes: int,
        max_clients: int,
        tls: HubTls | None = None,
    ) -> None:
        host, port = listening.getsockname()[:2]
        # The socket is bound already: `bind` is what amqtt writes to its log.
        listener = ListenerConfig(type=ListenerType.TCP, bind=f"[{host}]:{port}")
        super().__init__(BrokerConfig(listeners={_LISTENER: listener}, plugins={}))
        self.max_packet_bytes = max_payload_bytes + PACKET_OVERHEAD_BYTES
        self._listening = listening
        self._access = access
        self._rejections = rejections
        self._taps = taps
        self._max_payload_bytes = max_payload_bytes
        self._max_clients = max_clients
        self._reception = Reception(access, rejections, self.max_packet_bytes, tls)
        self._table = SubscriptionTable()
        self._by_identity: dict[str, HubSession] = {}
        self._handlers: dict[str, HubHandler] = {}
        self._connections: dict[asyncio.Task[None], HubHandler] = {}
        self._stopping = False

    async def shutdown(self) -> None:
        """Stop listening, cut every connection, then let amqtt finish. Leaves no task and no open port."""
        self._stopping = True
        for server in self._servers.values():
            server.instance.close()
        tasks = list(self._connections)
        for handler in self._connections.values():
            handler.cut("broker stopped")
            handler.abort()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_STOP_WITHIN_S)
            for task in late:
                task.cancel()
        self._by_identity.clear()
        self._handlers.clear()
        self._table.clear()
        await super().shutdown()

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        """One client's connection from its first byte to its last."""
        handler = HubHandler(self, reader, writer)
        task = asyncio.current_task()
        if task is None:  # pragma: no cover
            raise RuntimeError("a connection is served by a task")
        self._connections[task] = handler
        reason = "connection lost"
        try:
            reason = await self._converse(handler)
        finally:
            del self._connections[task]
            self._release(handler, reason)
            handler.close()

    def publish_from(self, session: HubSession, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        """A client's message: dropped and counted unless it may be, as Mosquitto does, else told and delivered."""
        reason = self._objection(session.identity, topic, payload)
        if reason is not None:
            self._rejections.reject("message.rejected", reason, identity=session.identity, topic=shown(topic))
            return
        for tap in self._taps:
            self._tell(tap, session.identity, topic, payload)
        self.deliver(topic, payload, qos)
        if retain:
            self._retain(session, topic, payload, qos)

    def deliver(self, topic: str, payload: bytes, qos: int) -> None:
        """To every subscriber, without waiting for any of them."""
        receivers = self._table.receivers(topic)
        if receivers:
            message = Message.of(topic, payload, qos)
            for identity, granted_qos in receivers.items():
                self._offer(identity, message, granted_qos)

    def subscribe(self, session: HubSession, topic_filter: str, qos: int) -> int:
        """Returns the SUBACK code: the QoS granted, or 0x80."""
        identity = session.identity
        if not self._may_subscribe(identity, topic_filter):
            self._rejections.reject(
                "message.rejected", "subscription not allowed", identity=identity, topic=shown(topic_filter)
            )
            return REFUSED_SUBSCRIPTION
        granted_qos = min(qos, MAX_GRANTED_QOS)
        self._table.add(identity, topic_filter, granted_qos)
        return granted_qos

    def unsubscribe(self, session: HubSession, topic_filter: str) -> None:
        self._table.remove(session.identity, topic_filter)

    def send_retained(self, session: HubSession, topic_filter: str, granted_qos: int) -> None:
        """What is retained under a filter just granted, to its subscriber alone."""
        if granted_qos == REFUSED_SUBSCRIPTION:
            return
        for topic, retained in self._retained_messages.items():
            if matches(topic_filter, topic):
                message = Message.of(topic, bytes(retained.data), retained.qos or 0, retain=True)
                self._offer(session.identity, message, granted_qos)

    def disconnect(self, identity: str) -> None:
        """Close an identity's connection, if it has one."""
        handler = self._handlers.get(identity)
        if handler is not None:
            handler.cut("disconnected by the broker")

    def end_stale(self, tls: HubTls) -> None:
        """Close the connections of those whose certificate has been revoked or has run out."""
        now_s = time.time()
        for handler in list(self._handlers.values()):
            if handler.peer is not None and tls.is_over(handler.peer, now_s):
                name = shown(handler.peer.name)
                self._rejections.reject("client.refused", "certificate over", address=handler.address, username=name)
                handler.cut("its certificate was revoked or has run out")

    async def _create_server_instance(
        self,
        listener_name: str,
        listener_type: ListenerType,
        address: str | None,
        port: int,
        ssl_context: ssl.SSLContext | None,
    ) -> asyncio.Server:
        connected = functools.partial(self.stream_connected, listener_name=listener_name)
        return await asyncio.start_server(connected, sock=self._listening, backlog=_BACKLOG)

    # -- messages --------------------------------------------------------------------------------------------------

    def _objection(self, identity: str, topic: str, payload: bytes) -> str | None:
        if len(payload) > self._max_payload_bytes:
            return "oversize payload"
        if topic.startswith("$") or not self._access.may_publish(identity, topic):
            return "publish not allowed"
        return None

    def _may_subscribe(self, identity: str, topic_filter: str) -> bool:
        if topic_filter.startswith("$") or not is_filter(topic_filter):
            return False
        return self._access.may_subscribe(identity, topic_filter)

    def _tell(self, tap: Tap, identity: str, topic: str, payload: bytes) -> None:
        try:
            tap(identity, topic, payload)
        except Exception:
            log.exception("a tap of the broker failed")

    def _offer(self, identity: str, message: Message, granted_qos: int) -> None:
        if not self._by_identity[identity].offer(message, granted_qos):
            self._rejections.reject("message.rejected", "subscriber too slow", identity=identity)
        handler = self._handlers.get(identity)
        if handler is not None:
            handler.wake()

    def _retain(self, session: HubSession, topic: str, payload: bytes, qos: int) -> None:
        """Keep the topic's last message, and none if it is empty [MQTT-3.3.1-10]."""
        if not payload:
            self._retained_messages.pop(topic, None)
        elif topic in self._retained_messages or len(self._retained_messages) < _MAX_RETAINED:
            self._retained_messages[topic] = RetainedApplicationMessage(session, topic, payload, qos)
        else:
            self._rejections.reject("message.rejected", "too many retained", identity=session.identity)

    # -- connections -----------------------------------------------------------------------------------------------

    async def _converse(self, handler: HubHandler) -> str:
        try:
            if await self._begin(handler):
                return await handler.serve()
            return "refused"
        except MalformedPacketError as error:
            return self._offence(handler, "malformed packet", str(error))
        except OversizePacketError as error:
            return self._offence(handler, "oversize packet", str(error))
        except ConnectionError:
            return "connection lost"

    async def _begin(self, handler: HubHandler) -> bool:
        """From its first byte to a session. False if refused, without a trace in anyone's session."""
        if len(self._connections) > self._max_clients:
            self._reception.refuse(handler, "too many connections")
            return False
        found = await self._reception.identify(handler)
        if found is None:
            return False
        identity, introduction = found
        if introduction.will and self._objection(identity, introduction.will.topic, introduction.will.payload):
            self._reception.refuse(handler, "will not allowed", NOT_AUTHORIZED, identity=identity)
            return False
        self._admit(handler, identity, introduction)
        return True

    def _offence(self, handler: HubHandler, reason: str, detail: str) -> str:
        if handler.hub_session is None:
            self._rejections.reject("client.refused", reason, address=handler.address, detail=shown(detail))
        else:
            identity = handler.hub_session.identity
            self._rejections.reject("message.rejected", reason, identity=identity, detail=shown(detail))
        return reason

    def _admit(self, handler: HubHandler, identity: str, introduction: Introduction) -> None:
        """Take over or begin the identity's session. An earlier connection of the same identity ends here."""
        earlier = self._handlers.get(identity)
        if earlier is not None:
            earlier.cut("taken over by a new connection")
            self._release(earlier, earlier.ended_by)
        session, present = self._session_for(identity, introduction.clean)
        session.will = introduction.will
        session.connect()
        self._by_identity[identity] = session
        self._handlers[identity] = handler
        handler.welcome(session, introduction.keepalive_s, present)
        self._rejections.report("client.connected", identity=identity, address=handler.address)

    def _session_for(self, identity: str, clean: bool) -> tuple[HubSession, bool]:
        known = self._by_identity.get(identity)
        if known is not None and not clean:
            return known, True
        self._table.remove_all(identity)
        return HubSession(identity, clean, max(_MIN_QUEUED_BYTES, 16 * self._max_payload_bytes)), False

    def _release(self, handler: HubHandler, reason: str) -> None:
        """A connection ended: its will, if it did not say good-bye, and an end to its session unless that lasts."""
        session = handler.hub_session
        if session is None or self._handlers.get(session.identity) is not handler:
            return
        del self._handlers[session.identity]
        session.disconnect()
        if session.clean_session:
            self._table.remove_all(session.identity)
            del self._by_identity[session.identity]
        if session.will is not None and not handler.graceful and not self._stopping:
            will = session.will
            self.publish_from(session, will.topic, will.payload, will.qos, will.retain)
        self._rejections.report("client.disconnected", identity=session.identity, reason=reason)
