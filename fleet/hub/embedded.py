"""The embedded MQTT 3.1.1 broker: the Event Hub, a gateway's local broker, the socket face of a virtual one."""

import asyncio
import contextlib
import errno
import logging
import resource
import socket
from collections import Counter
from types import TracebackType
from typing import Self

from amqtt.errors import BrokerError

from fleet.hub.access import Access
from fleet.hub.broker import HubBroker, Tap
from fleet.hub.errors import HubError
from fleet.hub.rejections import EventSink, Rejections, log
from fleet.hub.tls import HubTls, TlsFiles
from fleet.hub.topics import is_topic

_SPARE_FILES = 128  # for what else the process has open
_LOOK_AGAIN_S = 1.0  # at the files of certificates: a revocation takes effect within that


class EmbeddedBroker:
    """A broker inside this process, on one TCP address.

    `on_event(kind, fields)` is told of `client.connected`, `client.disconnected`, `client.refused` and
    `message.rejected`, the last two with a `reason`, by which they are counted in `rejected`. It and the taps are
    called in the event loop and must not block.

    A payload above `max_payload_bytes` is dropped and counted, a packet that could not hold one of that size closes its
    connection. More than `max_clients` connections are refused.

    With `tls` clients must bring a certificate of that authority, and `access.identify` is asked with its common name.
    One that is revoked, or runs out, ends its owner's connection within `_LOOK_AGAIN_S`.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        access: Access,
        max_payload_bytes: int,
        max_clients: int = 2000,
        on_event: EventSink | None = None,
        tls: TlsFiles | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self._wanted_port = port
        self._access = access
        self._max_payload_bytes = max_payload_bytes
        self._max_clients = max_clients
        self._rejections = Rejections(on_event)
        self._taps: list[Tap] = []
        self._tls_files = tls
        self._tls: HubTls | None = None
        self._watch: asyncio.Task[None] | None = None
        self._broker: HubBroker | None = None

    @property
    def rejected(self) -> Counter[str]:
        """How often each reason made the broker refuse a client or drop a message, since it was made."""
        return self._rejections.counts.copy()

    async def start(self) -> None:
        """Listen. `port` is the real one afterwards.

        Raises HubError when the address cannot be had, the certificates cannot be used, or when it runs already.
        """
        if self._broker is not None:
            raise HubError(f"the broker on {self.host}:{self.port} is running already")
        self._tls = None if self._tls_files is None else HubTls(self._tls_files)
        listening = listen_on(self.host, self._wanted_port)
        self.port = listening.getsockname()[1]
        logging.getLogger("transitions").setLevel(logging.WARNING)  # amqtt's state machine tells its every step
        self._broker = HubBroker(
            listening,
            access=self._access,
            rejections=self._rejections,
            taps=self._taps,
            max_payload_bytes=self._max_payload_bytes,
            max_clients=_affordable_clients(self._max_clients),
            tls=self._tls,
        )
        try:
            await self._broker.start()
        except BrokerError as error:
            self._broker = None
            listening.close()
            raise HubError(f"the broker on {self.host}:{self.port} cannot start: {error}") from error
        if self._tls is not None:
            self._watch = asyncio.get_running_loop().create_task(self._watch_certificates())

    async def stop(self) -> None:
        """Close every connection and the port, end every task. Idempotent; the broker can be started again."""
        broker, self._broker = self._broker, None
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch
        if broker is not None:
            await broker.shutdown()
            await asyncio.sleep(0)  # transports tell of their end in the loop's next turn

    async def publish(self, topic: str, payload: bytes, qos: int = 0) -> None:
        """Publish as the broker itself: no rights are asked and no tap sees it.

        Raises HubError for a topic that cannot be published to, or while the broker is not running.
        """
        if self._broker is None:
            raise HubError(f"the broker on {self.host}:{self.port} is not running")
        if not is_topic(topic) or topic.startswith("$") or qos not in (0, 1):
            raise HubError(f"cannot publish to {topic!r} at QoS {qos}")
        self._broker.deliver(topic, payload, qos)

    def tap(self, callback: Tap) -> None:
        """Call `callback(identity, topic, payload)` for each publish that is accepted from a client."""
        self._taps.append(callback)

    def disconnect(self, identity: str) -> None:
        """Close the connection of `identity`, if it has one; its will is published."""
        if self._broker is not None:
            self._broker.disconnect(identity)

    def refresh_certificates(self) -> None:
        """Take changed certificate files into force now; nobody keeps a connection whose certificate is over."""
        if self._tls is None or self._broker is None:
            return
        try:
            self._tls.refresh()
        except HubError as error:
            log.error("%s; what was in force stays", error)
        self._broker.end_stale(self._tls)

    async def _watch_certificates(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_AGAIN_S)
            self.refresh_certificates()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def listen_on(host: str, port: int) -> socket.socket:
    """A listening TCP socket. Raises HubError that says what is wrong with the address.

    Unlike one of `socket.create_server` it names its protocol: only then does asyncio set TCP_NODELAY on connections.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except (OSError, OverflowError) as error:
        raise HubError(_why_not(host, port, error)) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()
    except (OSError, OverflowError) as error:
        listening.close()
        raise HubError(_why_not(host, port, error)) from error
    return listening


def _why_not(host: str, port: int, error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        return f"port {port} on {host} is in use by another program: choose another port or stop it"
    if number == errno.EACCES:
        return f"port {port} on {host} is not permitted: choose one above 1023"
    return f"cannot listen on {host} port {port}: {error}"


def _affordable_clients(wanted: int) -> int:
    """As many as open files allow, raising this process's soft limit if that is what it takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _SPARE_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    if allowed < needed:
        log.warning("the limit of open files (%d) allows fewer than %d clients", allowed, wanted)
    return min(wanted, max(1, max(soft, allowed) - _SPARE_FILES))
