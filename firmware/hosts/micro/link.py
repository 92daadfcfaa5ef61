"""The node's connection to its gateway: `firmware.wire.mqtt` on a socket that never blocks."""

import errno
import socket

from firmware.wire.mqtt import Client, MqttError

RECEIVE_BYTES = 512
_NOT_NOW = (errno.EAGAIN, errno.EINPROGRESS, errno.EALREADY, errno.ENOTCONN)


class MqttLink:
    """One connection after another, each made when told to; nothing is heard of one that was dropped.

    `poller` is a `select.poll()`, in which the socket is kept with what it waits for; times are those of the wall.
    """

    def __init__(
        self, poller, flags: "tuple[int, int]", login: "tuple[str, bytes]", subscriptions: "list[str]"
    ) -> None:
        """`flags`: the poller's for reading and writing. `login`: client id and password."""
        self.bind_address = ""
        self._poller = poller
        self._reading, self._writing = flags
        self._login = login
        self._subscriptions = subscriptions
        self._socket: socket.socket | None = None
        self._client: Client | None = None
        self._failed = ""
        self.target = ""

    def connect(self, target: str, now_ms: int) -> None:
        """Begin an attempt at "host:port"; how it goes is told by `serve`."""
        self.disconnect()
        self.target = target
        self._client = Client(self._login[0], self._login[1], self._subscriptions, now_ms)
        try:
            self._open(target)
        except (OSError, ValueError) as error:
            self._failed = str(error)

    def disconnect(self) -> None:
        """Drop the connection or the attempt; what was sent before goes out with a goodbye, as far as it fits."""
        self._failed = ""
        if self._client is not None and self._client.up:
            self._client.disconnect()
            try:
                self._flush()
            except OSError:
                pass
        self._close()
        self._client = None

    def send(self, topic: str, payload: bytes, now_ms: int) -> bool:
        """Publish, at most once; False when the connection is not up or does not take more."""
        return self._client is not None and self._client.publish(topic, payload, now_ms) is not None

    def next_deadline(self) -> "int | None":
        """When `serve` is wanted though nothing may have come."""
        if self._failed:
            return 0
        return self._client.next_deadline() if self._client is not None else None

    def serve(self, now_ms: int) -> list:
        """Move bytes both ways; gives the client's events, and `("down", reason)` for the end of the connection."""
        if self._client is None:
            return []
        events: list = []
        try:
            if self._failed:
                raise MqttError(self._failed)
            self._client.on_timer(now_ms)
            self._flush()
            self._receive(events, now_ms)
            self._flush()
            self._poller.modify(self._socket, self._reading | (self._writing if self._client.out else 0))
        except (OSError, MqttError) as error:
            self._close()
            self._client = None
            self._failed = ""
            events.append(("down", str(error)))
        return events

    def _open(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        found = socket.getaddrinfo(host.strip("[]"), int(port), 0, socket.SOCK_STREAM)[0]
        self._socket = made = socket.socket(found[0], socket.SOCK_STREAM)
        made.setblocking(False)
        if self.bind_address:
            made.bind(socket.getaddrinfo(self.bind_address, 0)[0][-1])
        try:
            made.connect(found[-1])
        except OSError as error:
            if error.errno not in _NOT_NOW:
                raise
        self._poller.register(made, self._reading | self._writing)

    def _receive(self, events: list, now_ms: int) -> None:
        while self._client is not None and self._socket is not None:
            try:
                data = self._socket.recv(RECEIVE_BYTES)
            except OSError as error:
                if error.errno in _NOT_NOW:
                    return
                raise
            if not data:
                raise MqttError("the gateway closed it")
            events += self._client.receive(data, now_ms)
            if len(data) < RECEIVE_BYTES:
                return

    def _flush(self) -> None:
        while self._client is not None and self._socket is not None and self._client.out:
            try:
                self._client.sent(self._socket.send(self._client.out))
            except OSError as error:
                if error.errno in _NOT_NOW:
                    return
                raise

    def _close(self) -> None:
        if self._socket is not None:
            try:
                self._poller.unregister(self._socket)
            except (OSError, KeyError):
                pass  # it failed before it was registered
            self._socket.close()
            self._socket = None
