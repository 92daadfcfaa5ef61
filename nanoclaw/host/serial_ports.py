"""The gateway's serial ports: each opened again when it is lost, with one node or many behind it.

All feed the core's port `nodes`, as the local broker does; who speaks was verified (`nanoclaw.core.serial_line`). What
the core sends to a node goes to the port where the node was last heard, and to the broker if that was no port.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

from firmware.cable.stream import SerialStream
from firmware.hosting.clock import Clock
from firmware.hosting.mqtt import Listener
from firmware.wire.auth import Sealer
from firmware.wire.backoff import Backoff
from firmware.wire.serial import SESSION_BITS
from firmware.wire.topics import split
from nanoclaw.core.serial_line import SerialLine
from nanoclaw.host.lines_config import SerialConfig

_log = logging.getLogger("clawland.serial")

Reject = Callable[[str, str, str], None]
SealerOf = Callable[[str], Sealer | None]
_OURS = ("/cmd", "/received")


class SerialPorts:
    """All serial ports of a gateway; none is the usual number, and costs nothing."""

    def __init__(
        self,
        configs: tuple[SerialConfig, ...],
        sealer_of: SealerOf,
        clock: Clock,
        listener: Listener,
        reject: Reject,
    ) -> None:
        """`sealer_of` a node of the roster; `clock` is the core's; `reject(topic, reason, sender)` counts."""
        self._listener = listener
        self._where: dict[str, SerialPort] = {}  # each node was last heard
        self._ports = [SerialPort(config, sealer_of, clock, self, reject) for config in configs]
        self._waiting = self._ports

    def start(self) -> None:
        """Open them all, if that was not done before: once it is known which nodes there are."""
        waiting, self._waiting = self._waiting, []
        for port in waiting:
            port.open()

    def send(self, topic: str, payload: bytes) -> bool:
        """Send to a node that was last heard on a port; false for any other."""
        port = self._where.get((split(topic) or ("",))[0]) if self._where else None
        if port is None:
            return False
        port.send(topic, payload)
        return True

    def receive(self, port: "SerialPort", topic: str, payload: bytes) -> None:
        """A port's news for the core."""
        self._listener.receive("nodes", topic, payload)

    def heard(self, port: "SerialPort", node: str) -> None:
        """A node said hello on this port."""
        self._where[node] = port

    def congested(self) -> bool:
        """Whether the core has enough to do."""
        return self._listener.congested()

    def beside(self, listener: Listener) -> Listener:
        """For the local broker's port: hands on to `listener`, and notes who is heard there rather than on a port."""
        return _Beside(listener, self._where) if self._ports else listener

    def views(self) -> list[dict[str, Any]]:
        """How each port is doing."""
        return [port.view() for port in self._ports]

    def failures(self) -> list[str]:
        """What is wrong with which; that they wait for the fleet manager is not."""
        tried = [port for port in self._ports if port not in self._waiting]
        return [f"serial port {port.name}: {port.failure}" for port in tried if port.failure]

    async def close(self) -> None:
        """Close them for good."""
        await asyncio.gather(*(port.close() for port in self._ports))


class _Beside:
    """The listener of the local broker's port where there are serial ports too."""

    def __init__(self, listener: Listener, where: dict[str, Any]) -> None:
        self.link_up = listener.link_up
        self.link_down = listener.link_down
        self.congested = listener.congested
        self._receive = listener.receive
        self._where = where

    def receive(self, port: str, topic: str, payload: bytes) -> None:
        if self._where and not topic.endswith(_OURS):
            self._where.pop((split(topic) or ("",))[0], None)
        self._receive(port, topic, payload)


class SerialPort:
    """One port, and the line behind it while it is open."""

    def __init__(
        self, config: SerialConfig, sealer_of: SealerOf, clock: Clock, ports: SerialPorts, reject: Reject
    ) -> None:
        self.name = config.name
        self.failure = "waits for the fleet manager to say which nodes there are"
        self._config = config
        self._sealer_of = sealer_of
        self._clock = clock
        self._ports = ports
        self._reject = reject
        self._rng = random.SystemRandom()
        self._backoff = Backoff(self._rng)
        self._loop = asyncio.get_running_loop()
        self._stream: SerialStream | None = None
        self._line: SerialLine | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._writing = False
        self._counts = {"opened": 0, "lost": 0, "messages": 0, "spoilt": 0, "rejected": 0, "dropped": 0}

    def open(self) -> None:
        """Make one attempt; each that fails is followed by another, later."""
        self._stream = SerialStream(self, self._config.url, self._config.speed)
        self._stream.open()

    def send(self, topic: str, payload: bytes) -> None:
        """Send to a node; dropped and counted when it is not there."""
        taken = self._line is not None and self._line.send(topic, payload, self._clock.now_ms())
        self._counts["dropped"] += not taken
        self._flush()

    def view(self) -> dict[str, Any]:
        """For status and metrics."""
        line = self._line
        counts = dict(self._counts)
        if line is not None:
            counts["messages"] += line.messages
            counts["spoilt"] += line.spoilt
        nodes = [] if line is None else line.nodes()
        state = "up" if line is not None else "down"
        return {"name": self.name, "url": self._config.url, "state": state, "nodes": nodes, **counts} | {
            "failure": self.failure
        }

    async def close(self) -> None:
        """Close it, and wait until it is closed."""
        for timer in (self._timer, self._retry):
            if timer is not None:
                timer.cancel()
        stream, self._stream, self._line = self._stream, None, None
        if stream is not None:
            stream.leave()
            await stream.closed()

    # what the stream reports; nothing once it was left

    def opened(self, stream: SerialStream) -> None:
        """The port is there (again)."""
        self._backoff.reset()
        self._writing = False
        self.failure = ""
        self._counts["opened"] += 1
        self._line = SerialLine(self._sealer_of, lambda: self._rng.getrandbits(SESSION_BITS))
        _log.info("serial port %s is open: %s", self.name, self._config.url)
        self._flush()

    def data(self, stream: SerialStream, data: bytes) -> None:
        """Bytes from the nodes."""
        if self._line is not None:
            self._tell(self._line.receive(data, self._clock.now_ms()))

    def written(self, stream: SerialStream, count: int) -> None:
        """The port has taken what it was given."""
        self._writing = False
        if self._line is not None:
            self._line.sent(count)
        self._flush()

    def lost(self, stream: SerialStream, reason: str) -> None:
        """It could not be opened, or is gone: try again later, for it may be plugged in again."""
        if self._line is not None:
            self._counts["lost"] += 1
            self._counts["messages"] += self._line.messages
            self._counts["spoilt"] += self._line.spoilt
            self._line = None
        wait_s = self._clock.wall_s(self._backoff.next_ms())
        if reason != self.failure:  # said once
            _log.warning("serial port %s (%s): %s; trying again", self.name, self._config.url, reason)
        self.failure = reason
        self._retry = self._loop.call_later(wait_s, self.open)
        self._arm()

    def congested(self) -> bool:
        """Whether the core has enough to do."""
        return self._ports.congested()

    def _tell(self, events: list[tuple[Any, ...]]) -> None:
        for event in events:
            if event[0] == "message":
                self._ports.receive(self, event[1], event[2])
            elif event[0] == "rejected":
                self._counts["rejected"] += 1
                self._reject(event[1], event[2], self.name)
            elif event[0] == "up":
                self._ports.heard(self, event[1])
                _log.info("serial port %s: %s is here", self.name, event[1])
            else:
                _log.info("serial port %s: %s is gone: %s", self.name, event[1], event[2])
        self._flush()

    def _flush(self) -> None:
        if self._stream is not None and self._line is not None and self._line.out and not self._writing:
            self._writing = True
            self._stream.write(bytes(self._line.out))
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_ms = None if self._line is None else self._line.next_deadline()
        if due_ms is not None:
            self._timer = self._loop.call_later(self._clock.wall_s(due_ms - self._clock.now_ms()), self._on_timer)

    def _on_timer(self) -> None:
        if self._line is not None:
            self._tell(self._line.on_timer(self._clock.now_ms()))
