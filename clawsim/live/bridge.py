"""Where the virtual and the real meet: virtual clients on real brokers, and real clients on virtual brokers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from clawsim.live.deploy import LOOPBACK, Deployment
from clawsim.live.paced import Pacer
from clawsim.live.proxy import FaultProxy
from clawsim.virtual.router import TopicRouter
from clawsim.virtual.session import Session
from firmware.hosting.mqtt import Login, MqttPort
from fleet.hub.access import Access
from fleet.hub.embedded import EmbeddedBroker
from nanoclaw.host.discovery import Announcer

MAX_CLIENTS = 2_000


class Meeting(Protocol):
    """What both need of their world."""

    pacer: Pacer
    deployment: Deployment

    def background(self, work: Any) -> None: ...


class BridgedSession(Session):
    """A virtual client's port that can also `dial` a real broker, with the client's own credentials and address."""

    def __init__(
        self,
        meeting: Meeting,
        identity: str,
        password: bytes,
        filters: tuple[str, ...],
        on_up: Callable[[], None],
        on_down: Callable[[], None],
        on_message: Callable[[str, bytes], None],
    ) -> None:
        super().__init__(identity, password, filters, on_up, on_down, on_message)
        self._meeting = meeting
        self._real: MqttPort | None = None
        self._wanted_filters = filters
        self._up, self._down, self._message = on_up, on_down, on_message

    def dial(self, proxy: FaultProxy, end: str) -> None:
        """Make one attempt at the real broker behind ``proxy``, over the link with this ``end`` here."""
        self.close()
        if self._real is None:
            self._real = self._port(end)
        self._real.connect(f"{LOOPBACK}:{proxy.port}")

    def close(self) -> None:
        """The client drops the connection or the attempt."""
        super().close()
        if self._real is not None:
            self._real.disconnect()

    def send(self, send: Any) -> None:
        """Perform a core's Send; lost when not connected."""
        if self._real is not None and self._real.up:
            self._real.send(send.topic, send.payload)
        else:
            super().send(send)

    def _port(self, end: str) -> MqttPort:
        deployment = self._meeting.deployment
        login = Login(self.identity, deployment.password(self.identity))
        address = deployment.addresses.of[end]
        return MqttPort("real", login, self._wanted_filters, self, bind_address=address)

    # what the real connection reports

    def link_up(self, port: str) -> None:
        """The real broker took us and our subscriptions."""
        self.connected = True
        self._meeting.pacer.feed(self._up)

    def link_down(self, port: str) -> None:
        """The attempt failed, or the connection ended."""
        self.connected = False
        self._meeting.pacer.feed(self._down)

    def receive(self, port: str, topic: str, payload: bytes) -> None:
        """A message from the real broker."""
        self._meeting.pacer.feed(self._message, topic, payload)

    def congested(self) -> bool:
        """The simulation takes everything at once."""
        return False


class _RealClient:
    """A real client as its virtual broker sees it."""

    def __init__(self, identity: str, bridge: BrokerBridge) -> None:
        self.identity = identity
        self._bridge = bridge

    def path(self, topic: str) -> Callable[[str, bytes], None]:
        return self._bridge.deliver

    def dropped(self, silent: bool) -> None:
        """The virtual broker died; the bridge will see that it no longer runs."""


class BrokerBridge:
    """Real clients on a virtual broker: an embedded broker whose messages are the router's, and the other way round.

    It runs while the virtual one does (`follow`), grants what ``access`` grants, and is reached through ``proxy``.
    ``announcer`` makes what tells real nodes of a virtual gateway.
    """

    def __init__(
        self,
        meeting: Meeting,
        router: TopicRouter,
        access: Access,
        proxy: FaultProxy,
        max_payload_bytes: int,
        announcer: Callable[[], Announcer] | None = None,
    ) -> None:
        self._meeting = meeting
        self._router = router
        self._access = access
        self._proxy = proxy
        self._max_payload_bytes = max_payload_bytes
        self._make_announcer = announcer
        self._announcer: Announcer | None = None
        self._broker: EmbeddedBroker | None = None
        self._clients: dict[str, _RealClient] = {}
        self._from_real = ""  # the topic of a real client's message while the router has it
        self._changing = asyncio.Lock()

    async def follow(self) -> None:
        """Starts or stops as the virtual broker has."""
        async with self._changing:
            if self._router.running and self._broker is None:
                await self._start()
            elif not self._router.running and self._broker is not None:
                await self.stop()

    async def stop(self) -> None:
        """Closes every real connection, and takes the announcement back."""
        broker, self._broker = self._broker, None
        self._clients.clear()
        if broker is not None:
            await broker.stop()
        if self._announcer is not None:
            await self._announcer.stop()
            self._announcer = None

    def deliver(self, topic: str, payload: bytes) -> None:
        """A message of the router's for the real clients, unless it is one of theirs: those have it already.

        An answer that a virtual gateway gives at once comes in the same moment, on another topic, and has to go out.
        """
        if self._broker is not None and topic != self._from_real:
            self._meeting.background(self._broker.publish(topic, payload))

    async def _start(self) -> None:
        broker = EmbeddedBroker(
            host=LOOPBACK,
            access=self._access,
            max_payload_bytes=self._max_payload_bytes,
            max_clients=MAX_CLIENTS,
            on_event=self._on_event,
        )
        broker.tap(self._heard)
        try:
            await broker.start()
        except BaseException:
            await broker.stop()
            raise
        self._broker = broker
        self._proxy.point_at(LOOPBACK, broker.port)
        if self._make_announcer is not None:
            self._announcer = self._make_announcer()
            await self._announcer.start()

    def _on_event(self, kind: str, fields: dict[str, Any]) -> None:
        identity = str(fields.get("identity", ""))
        if kind == "client.connected":
            self._meeting.pacer.feed(self._joined, identity)
        elif kind == "client.disconnected" and identity in self._clients:
            self._meeting.pacer.feed(self._router.disconnect, self._clients.pop(identity))

    def _joined(self, identity: str) -> None:
        client = self._clients[identity] = _RealClient(identity, self)
        access: Any = self._router.access
        self._router.connect(client, access.password_of(identity), access.rights_of(identity).subscribe)

    def _heard(self, identity: str, topic: str, payload: bytes) -> None:
        self._meeting.pacer.feed(self._publish, identity, topic, payload)

    def _publish(self, identity: str, topic: str, payload: bytes) -> None:
        self._from_real = topic
        try:
            self._router.publish(identity, topic, payload)
        finally:
            self._from_real = ""
