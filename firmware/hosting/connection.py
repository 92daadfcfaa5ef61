"""One MQTT connection, from the attempt to its end, on paho-mqtt and asyncio; used by `firmware.hosting.mqtt`."""

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import paho.mqtt.client as paho

from firmware.hosting.client import KEEPALIVE_S, new_client
from firmware.hosting.tls import Tls

_log = logging.getLogger("clawland.mqtt")

# A long safety net: a core's own time-outs come first, in its own time.
HANDSHAKE_S = 30.0
# How long a dropped connection may take to flush what was sent before it was dropped.
FLUSH_S = 1.0
MISC_S = 1.0
CONGESTION_POLL_S = 0.05


@dataclass(frozen=True)
class Login:
    """Who a port says it is; the client id is the user name. Never printed with its password.

    With `tls` the connection is TLS; without a password a certificate there says who it is instead.
    """

    client_id: str
    password: bytes = b""
    tls: Tls | None = None

    def __repr__(self) -> str:
        return f"Login({self.client_id!r})"


class Owner(Protocol):
    """Who a connection reports to."""

    def connection_up(self, connection: "Connection") -> None: ...
    def connection_down(self, connection: "Connection", reason: str) -> None: ...
    def message(self, connection: "Connection", topic: str, payload: bytes) -> None: ...
    def congested(self) -> bool: ...


class Connection:
    """One attempt and the connection that comes of it, never used again: connecting, logging in, subscribing, up."""

    def __init__(self, owner: Owner, login: Login, bind_address: str, interface: str = "") -> None:
        self.address = "?"
        self.released = asyncio.Event()
        self._owner = owner
        self._bind_address = bind_address
        self._tls = login.tls
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._unsent: deque[paho.MQTTMessageInfo] = deque()
        self._up = False
        self._over = False
        self._paused = False
        self._client = new_client(login.client_id, interface)
        self._certified = login.tls is not None and not login.password
        if not self._certified:
            self._client.username_pw_set(login.client_id, login.password.decode())
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.on_disconnect = self._on_disconnect
        # With this hook paho writes only when we say so, hence nothing before _attach.
        self._client.on_socket_register_write = self._on_register_write
        self._client.on_socket_unregister_write = self._on_unregister_write
        self._client.on_socket_close = self._on_socket_close

    def open(self, host: str, port: int, subscriptions: list[tuple[str, int]]) -> None:
        """Begin. TCP connects in a thread, since paho blocks there; the thread sends nothing."""
        self.address = f"{host}:{port}"
        self._subscriptions = subscriptions
        threading.Thread(target=self._tcp_connect, args=(host, port), name="mqtt-connect", daemon=True).start()

    def publish(self, topic: str, payload: bytes, max_unsent: int) -> bool:
        while self._unsent and self._unsent[0].is_published():
            self._unsent.popleft()
        if len(self._unsent) >= max_unsent:
            return False
        info = self._client.publish(topic, payload)
        if info.rc == paho.MQTT_ERR_SUCCESS:
            self._unsent.append(info)
        return info.rc == paho.MQTT_ERR_SUCCESS

    def leave(self) -> None:
        """Say goodbye after what is already queued, and vanish."""
        if self._over:
            return
        self._over = True
        self._cancel_timers()
        if self._socket is None:
            self.released.set()  # still connecting: _attach will close it
        elif self._up and self._client.disconnect() == paho.MQTT_ERR_SUCCESS:
            self._timers = [self._loop.call_later(FLUSH_S, self._release)]
        else:
            self._release()

    def fail(self, reason: str) -> None:
        """The attempt or the connection is over, and the port wants to know."""
        if not self._over:
            self._over = True
            self._release()
            self._owner.connection_down(self, reason)

    # connecting

    def _tcp_connect(self, host: str, port: int) -> None:
        failure = ""
        try:
            if self._tls is not None:
                self._client.tls_set_context(self._tls.context())
            self._client.connect(host, port, keepalive=KEEPALIVE_S, bind_address=self._bind_address)
            self._check_server()
        except (OSError, ValueError) as error:
            failure = _in_words(error)
        with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
            self._loop.call_soon_threadsafe(self._attach, failure)

    def _check_server(self) -> None:
        """Before the password is sent: `_attach` lets paho write. Raises OSError, with the connection closed."""
        connected: object = self._client.socket()
        if self._tls is not None and isinstance(connected, ssl.SSLSocket):
            try:
                self._tls.check(connected)
            except OSError:
                connected.close()
                raise

    def _attach(self, failure: str) -> None:
        connected = self._client.socket()
        if failure or not isinstance(connected, socket.socket):
            self.fail(failure or "no socket")
        elif self._over:
            connected.close()
        else:
            self._socket = connected
            self._loop.add_reader(connected, self._readable)
            self._loop.add_writer(connected, self._writable)
            self._timers = [self._loop.call_later(HANDSHAKE_S, self.fail, "the broker does not answer")]

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self.fail(f"refused: {reason}")
        elif self._subscriptions:
            self._client.subscribe(self._subscriptions)
        else:
            self._come_up()

    def _on_subscribe(self, _client: Any, _data: Any, _mid: int, reasons: Any, _properties: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self.fail("the broker refused a subscription")
        else:
            self._come_up()

    def _come_up(self) -> None:
        if not self._over and not self._up:
            self._cancel_timers()
            self._up = True
            self._housekeep()
            self._owner.connection_up(self)

    # connected

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        if self._over or not self._up:
            return
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return  # no broker may forward it, and no core could want it
        self._owner.message(self, topic, bytes(message.payload))
        if self._owner.congested() and self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._paused = True
            self._timers.append(self._loop.call_later(CONGESTION_POLL_S, self._read_again))

    def _read_again(self) -> None:
        if self._socket is None:
            return
        if self._owner.congested():
            self._timers.append(self._loop.call_later(CONGESTION_POLL_S, self._read_again))
        else:
            self._paused = False
            self._loop.add_reader(self._socket, self._readable)
            self._read_pending()

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        # Called inside paho's own clean-up: close the socket after it.
        hint = "" if self._up or not self._certified else "; does the broker still take this certificate?"
        self._loop.call_soon(self._ended, f"closed: {reason}{hint}")

    def _ended(self, reason: str) -> None:
        if self._over:
            self._release()
        else:
            self.fail(reason)

    def _housekeep(self) -> None:
        self._client.loop_misc()
        if not self._over:
            self._timers = [t for t in self._timers if not t.cancelled() and t.when() > self._loop.time()]
            self._timers.append(self._loop.call_later(MISC_S, self._housekeep))

    # the socket

    def _readable(self) -> None:
        if self._socket is not None:
            self._guarded(self._client.loop_read)
            self._read_pending()

    def _read_pending(self) -> None:
        """What TLS has decrypted already makes the socket readable no more, and paho reads one packet at a time."""
        if isinstance(self._socket, ssl.SSLSocket) and not self._paused and self._socket.pending():
            self._loop.call_soon(self._readable)

    def _writable(self) -> None:
        if self._client.want_write():
            self._guarded(self._client.loop_write)
        elif self._socket is not None:
            self._loop.remove_writer(self._socket)

    def _guarded(self, step: Callable[[], Any]) -> None:
        """A step of paho's; bytes that it cannot digest end the connection, not the process."""
        try:
            step()
        except Exception as error:
            _log.info("%s: paho gave up: %s", self.address, error)
            self._ended(f"protocol error: {error}")

    def _on_register_write(self, _client: Any, _data: Any, _socket: Any) -> None:
        if self._socket is not None:
            self._loop.add_writer(self._socket, self._writable)

    def _on_unregister_write(self, _client: Any, _data: Any, _socket: Any) -> None:
        if self._socket is not None:
            self._loop.remove_writer(self._socket)

    def _on_socket_close(self, _client: Any, _data: Any, _socket: Any) -> None:
        self._detach()

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers = []

    def _release(self) -> None:
        """Let go of the socket, whatever state it is in."""
        self._cancel_timers()
        used = self._detach()
        if used is not None:
            used.close()
        self.released.set()

    def _detach(self) -> socket.socket | None:
        """Take the socket off the loop; to be done before anyone closes it, for its number is soon another's."""
        used, self._socket = self._socket, None
        if used is not None:
            self._loop.remove_reader(used)
            self._loop.remove_writer(used)
        return used


def _in_words(error: OSError | ValueError) -> str:
    """Why an attempt failed, for people: the file if one is to blame, and no number."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    file = getattr(error, "filename", None)
    return f"{file}: {reason}" if file else reason
