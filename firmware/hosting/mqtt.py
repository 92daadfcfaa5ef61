"""One MQTT connection of a core, a port: it connects when told to, reports up, down and messages, and never retries.

paho-mqtt on asyncio, through paho's own hooks for foreign event loops. aiomqtt, the usual wrapper, cannot serve here:
in 2.5.1 (measured) an attempt that the broker drops before CONNACK waits out its whole time-out, and one that times out
leaves its socket open, to be logged in later. A core decides in its own milliseconds, and relies on hearing nothing
from a connection it has dropped.

QoS 0, clean session, no retained messages: delivery is the application's business.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from firmware.hosting.connection import Connection, Login

__all__ = ["Listener", "Login", "MqttPort", "split_target"]

_log = logging.getLogger("clawland.mqtt")

MAX_UNSENT = 1000


class Listener(Protocol):
    """Who hears about a port; a `Pump` is one."""

    def link_up(self, port: str) -> None: ...
    def link_down(self, port: str) -> None: ...
    def receive(self, port: str, topic: str, payload: bytes) -> None: ...
    def congested(self) -> bool: ...


class MqttPort:
    """The port `name` of a core.

    `connect(target)` makes one attempt and reports `link_up` once subscribed, or `link_down` when it fails or ends
    later. `disconnect()` drops connection or attempt and reports nothing; what was sent before still goes out.
    `bind_address` is the local address to connect from, `interface` the one to connect through. At most
    `max_unsent` messages wait for the network, newer ones are dropped and counted.
    """

    def __init__(
        self,
        name: str,
        login: Login,
        subscriptions: Sequence[str],
        listener: Listener,
        *,
        target: str = "",
        bind_address: str = "",
        interface: str = "",
        max_unsent: int = MAX_UNSENT,
    ) -> None:
        self.name = name
        self.sent = 0
        self.dropped = 0
        self.last_failure = ""
        self._login = login
        self._subscriptions = [(pattern, 0) for pattern in subscriptions]
        self._listener = listener
        self._target = target
        self._bind_address = bind_address
        self._interface = interface
        self._max_unsent = max_unsent
        self._connection: Connection | None = None
        self._up = False

    @property
    def up(self) -> bool:
        """Whether the port is connected and subscribed."""
        return self._up

    def connect(self, target: str | None = None) -> None:
        """Make one attempt at `target` ("host:port"), or at the port's own when None."""
        self.disconnect()
        self._connection = connection = Connection(self, self._login, self._bind_address, self._interface)
        try:
            host, port = split_target(self._target if target is None else target)
        except ValueError as error:
            asyncio.get_running_loop().call_soon(connection.fail, str(error))
        else:
            connection.open(host, port, self._subscriptions)

    def redirect(self, target: str, bind_address: str, interface: str) -> None:
        """The next attempt goes elsewhere, or another way."""
        self._target, self._bind_address, self._interface = target, bind_address, interface

    def disconnect(self) -> None:
        """Drop the connection or the attempt under way; nothing of it is heard afterwards."""
        connection, self._connection = self._connection, None
        self._up = False
        if connection is not None:
            connection.leave()

    def send(self, topic: str, payload: bytes) -> bool:
        """Publish, at most once; false when the port is not up or too much is waiting."""
        sent = self._up and self._connection is not None and self._connection.publish(topic, payload, self._max_unsent)
        self.sent += sent
        self.dropped += not sent
        return sent

    async def close(self) -> None:
        """Disconnect and wait until what was sent is out, a second at most."""
        connection = self._connection
        self.disconnect()
        if connection is not None:
            await connection.released.wait()

    # what a connection reports; one that has been replaced is not listened to

    def connection_up(self, connection: Connection) -> None:
        if connection is self._connection:
            self._up = True
            self._listener.link_up(self.name)

    def connection_down(self, connection: Connection, reason: str) -> None:
        if connection is self._connection:
            self._connection = None
            self._up = False
            self.last_failure = reason
            _log.info("%s: connection to %s ended: %s", self.name, connection.address, reason)
            self._listener.link_down(self.name)

    def message(self, connection: Connection, topic: str, payload: bytes) -> None:
        if connection is self._connection:
            self._listener.receive(self.name, topic, payload)

    def congested(self) -> bool:
        return self._listener.congested()


def split_target(target: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[v6]:port"; raises ValueError naming what is wrong."""
    host, colon, port = target.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"not host:port: {target!r}")
    return host, int(port)
