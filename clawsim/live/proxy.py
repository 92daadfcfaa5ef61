"""A TCP fault proxy: one in front of every broker, on a port that stays the same when the broker moves.

A connection's link is told by the client's source address: each client binds an address of its own in 127.0.0.0/8,
all of which is local on Linux. A cut link is a black hole: established connections stall, new ones are accepted by the
kernel and stay silent. When the cut is cleared, connections whose both ends are still open resume with what TCP would
have repeated, those with a closed end are reset, and new ones proceed.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
from collections.abc import Mapping

from clawsim.live.link import Link
from clawsim.live.pipe import Pipe

MOST_CONNECTIONS = 64
"""Connections of one link at a time; a further one is reset. Ours hold one, and a few wait behind a cut."""
RECEIVE_BUFFER_BYTES = 128 * 1024
"""The kernel's share of what a stalled connection can hold, each way."""
_TCP_ESTABLISHED = 1  # <netinet/tcp.h>, enum tcp_state: the first octet of struct tcp_info
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s


def _socket_of(transport: asyncio.Transport) -> socket.socket:
    found: socket.socket = transport.get_extra_info("socket")
    return found


def _is_open(transport: asyncio.Transport | None) -> bool:
    """Whether the peer has closed nothing, asked of the kernel because a stalled end is not being read."""
    if transport is None or transport.is_closing():
        return False
    state = _socket_of(transport).getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return state[0] == _TCP_ESTABLISHED


def _unread_bytes(transport: asyncio.Transport | None) -> int:
    if transport is None or transport.is_closing():
        return 0
    answer = fcntl.ioctl(_socket_of(transport).fileno(), termios.FIONREAD, b"\0\0\0\0")
    count: int = struct.unpack("i", answer)[0]
    return count


def _reset(transport: asyncio.Transport | None) -> None:
    if transport is None:
        return
    with contextlib.suppress(OSError):
        _socket_of(transport).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()


class _End(asyncio.Protocol):
    """One socket of a connection: what it says goes into ``speaks``, what it hears comes out of ``hears``."""

    def __init__(self, connection: _Connection, speaks: Pipe, hears: Pipe) -> None:
        self._connection, self._speaks, self._hears = connection, speaks, hears

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # it is a stream
        # Asyncio does this only for sockets made with the protocol's number, which those of a server are not.
        _socket_of(transport).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.set_write_buffer_limits(high=0)
        self._speaks.source = self._hears.sink = transport
        # Asyncio starts to read just after this call, and before Python 3.11.4 even from a transport paused in here.
        asyncio.get_running_loop().call_soon(self._connection.begin)

    def data_received(self, data: bytes) -> None:
        self._speaks.feed(data)

    def eof_received(self) -> bool:
        self._speaks.feed(None)
        return True

    def pause_writing(self) -> None:
        self._hears.sink_is_full(True)

    def resume_writing(self) -> None:
        self._hears.sink_is_full(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.lost_one_end()


class _Connection:
    """A client's connection and the one that the proxy made for it to the broker."""

    def __init__(self, proxy: FaultProxy, link: Link) -> None:
        self.link = link
        self._proxy = proxy
        self._up, self._down = Pipe(link, self._settle), Pipe(link, self._settle)
        self.client_end = _End(self, speaks=self._up, hears=self._down)
        self._is_stalled = False
        self._connecting: asyncio.Task[None] | None = None

    @property
    def is_pending(self) -> bool:
        """Whether the broker does not know of it yet."""
        return self._up.sink is None

    @property
    def client_is_open(self) -> bool:
        return _is_open(self._up.source)

    @property
    def held_bytes(self) -> int:
        """Bytes that wait on this side of the far end, in the kernel or here."""
        unread = _unread_bytes(self._up.source) + _unread_bytes(self._down.source)
        return unread + self._up.queued_bytes + self._down.queued_bytes

    def begin(self) -> None:
        """Lets bytes flow, and connects to the broker if need be, unless the link is cut."""
        self._up.flush()
        self._down.flush()
        if self.link.is_cut:
            self._stall()
        elif self.is_pending and self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def slip_in(self, packet: bytes) -> None:
        """Sends an MQTT packet as if the client had."""
        self._up.slip_in(packet)

    def link_changed(self) -> None:
        """Stalls, resumes or resets, as the link's faults now ask for."""
        if self.link.is_cut:
            self._stall()
        elif self._is_stalled:
            self._resume()

    def lost_one_end(self) -> None:
        """One end is gone without a word: so is the other, but for a cut link, which keeps it from knowing."""
        if not self.link.is_cut:
            self.drop(reset=True)

    def drop(self, reset: bool = False) -> None:
        """Ends the connection on both sides; with ``reset`` whatever was under way is lost."""
        if self._connecting is not None:
            self._connecting.cancel()
        for transport in (self._up.source, self._up.sink):
            if reset:
                _reset(transport)
            elif transport is not None:
                transport.close()
        self._up.close()
        self._down.close()
        self._proxy.forget(self)

    def _settle(self) -> None:
        if self._up.finished and self._down.finished:
            self.drop()

    async def _connect(self) -> None:
        broker_end = _End(self, speaks=self._down, hears=self._up)
        try:
            await asyncio.get_running_loop().create_connection(lambda: broker_end, *self._proxy.upstream())
        except OSError:
            self.drop(reset=True)

    def _stall(self) -> None:
        self._is_stalled = True
        self._up.flush()
        self._down.flush()

    def _resume(self) -> None:
        self._is_stalled = False
        self.link.counters.held_bytes += self.held_bytes
        if not self.client_is_open or not (self.is_pending or _is_open(self._up.sink)):
            self.drop(reset=True)
        elif self.is_pending:
            self.begin()
        else:
            self._up.flush()
            self._down.flush()


class FaultProxy:
    """Stands in front of one broker; ``addresses`` maps each client's source address to its id.

    Durations are core milliseconds and divided by ``timescale``. ``strangers`` counts connections from addresses that
    belong to no client: they are reset.
    """

    def __init__(
        self, broker: str, addresses: Mapping[str, str], timescale: float = 1.0, latency_ms: float = 0.0
    ) -> None:
        self.broker = broker
        self.port = 0
        self.strangers = 0
        self._addresses = addresses
        self._timescale = timescale
        self._latency_ms = latency_ms
        self._upstream: tuple[str, int] | None = None
        self._links: dict[str, Link] = {}
        self._connections: dict[str, list[_Connection]] = {}
        self._server: asyncio.Server | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listens and returns the port; :class:`OSError` when it is taken."""
        listening = socket.create_server((host, port), backlog=1024)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self._server = await asyncio.get_running_loop().create_server(lambda: _Caller(self), sock=listening)
        self.port = listening.getsockname()[1]
        return self.port

    async def close(self) -> None:
        """Stops listening and resets every connection."""
        if self._server is not None:
            self._server.close()
        for connection in [one for each in self._connections.values() for one in each]:
            connection.drop(reset=True)
        await asyncio.sleep(0)  # transports close their sockets in the loop's next round

    def point_at(self, host: str, port: int) -> None:
        """Connections from now on go to ``host:port``; those that exist stay where they are."""
        self._upstream = (host, port)

    def upstream(self) -> tuple[str, int]:
        """Where the broker is; :class:`ConnectionRefusedError` before anyone said."""
        if self._upstream is None:
            raise ConnectionRefusedError(f"{self.broker} is not running")
        return self._upstream

    def link(self, client: str) -> Link:
        """The link of ``client`` to this broker, made when first asked for."""
        if client not in self._links:
            link = Link(client, self.broker, self._timescale, self._latency_ms)
            link.on_change(lambda: self._link_changed(client))
            self._links[client] = link
        return self._links[client]

    def held(self, client: str) -> tuple[int, int]:
        """(bytes, connections) that a cut of this link keeps back at this moment."""
        if not self.link(client).is_cut:
            return 0, 0
        stalled = self._connections.get(client, [])
        return sum(connection.held_bytes for connection in stalled), len(stalled)

    def slip_in(self, client: str, packet: bytes) -> bool:
        """Sends an MQTT packet to the broker within the client's own connection; false when it has none.

        A second connection of the same identity would cost the first its session.
        """
        talking = [one for one in self._connections.get(client, []) if not one.is_pending and one.client_is_open]
        if talking:
            talking[-1].slip_in(packet)
        return bool(talking)

    def admit(self, address: str) -> _Connection | None:
        """The connection for a client at ``address``, or ``None`` when it is to be turned away."""
        client = self._addresses.get(address)
        if client is None:
            self.strangers += 1
            return None
        self._prune(client)
        here = self._connections.setdefault(client, [])
        if len(here) >= MOST_CONNECTIONS:
            return None
        connection = _Connection(self, self.link(client))
        here.append(connection)
        return connection

    def forget(self, connection: _Connection) -> None:
        """The connection is over."""
        here = self._connections.get(connection.link.client, [])
        if connection in here:
            here.remove(connection)

    def _prune(self, client: str) -> None:
        for connection in list(self._connections.get(client, [])):
            if connection.is_pending and not connection.client_is_open:
                connection.link.counters.held_bytes += connection.held_bytes
                connection.drop(reset=True)

    def _link_changed(self, client: str) -> None:
        for connection in list(self._connections.get(client, [])):
            connection.link_changed()


class _Caller(asyncio.Protocol):
    """Asyncio asks for a protocol before it tells who is calling: this one finds out and steps aside."""

    def __init__(self, proxy: FaultProxy) -> None:
        self._proxy = proxy

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # it is a stream
        connection = self._proxy.admit(transport.get_extra_info("peername")[0])
        if connection is None:
            _reset(transport)
            return
        transport.set_protocol(connection.client_end)
        connection.client_end.connection_made(transport)
