"""The port `up` of a node at a cable: `firmware.wire.serial_session` on a serial port; it never retries.

The counterpart of `firmware.hosting.mqtt.MqttPort`, with the same verbs, so that a node's process takes either.
"""

import asyncio
import logging
from typing import Any

from firmware.cable.stream import SerialStream
from firmware.hosting.clock import Clock
from firmware.hosting.mqtt import Listener
from firmware.wire.serial import SESSION_BITS, fits
from firmware.wire.serial_session import NodeSession

_log = logging.getLogger("clawland.serial")


class SerialPort:
    """`connect(url)` opens the port, says hello, and reports `link_up` once the gateway answers, `link_down` when that
    fails or ends later. `disconnect()` closes the port and reports nothing."""

    def __init__(self, name: str, who: str, key: bytes, speed: int, rng: Any, clock: Clock, listener: Listener) -> None:
        """`who` is the node with this `key`; `rng` draws the numbers of sessions; `clock` is the core's."""
        self.name = name
        self.dropped = 0
        self.rejected = 0
        self._who = who
        self._key = key
        self._speed = speed
        self._rng = rng
        self._clock = clock
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._stream: SerialStream | None = None
        self._closing: SerialStream | None = None  # it has to let go before the next one opens
        self._session: NodeSession | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writing = False
        self._opening: asyncio.Task[None] | None = None

    def connect(self, url: str) -> None:
        """Make one attempt."""
        self.disconnect()
        self._stream = stream = SerialStream(self, url, self._speed)
        self._opening = self._loop.create_task(self._open(stream, self._closing))

    def disconnect(self) -> None:
        """Drop the connection or the attempt under way; nothing of it is heard afterwards."""
        if self._stream is not None:
            self._stream.leave()
            self._closing = self._stream
        self._stream = self._session = None
        self._arm()

    def send(self, topic: str, payload: bytes) -> bool:
        """Send a message, at most once; false when the gateway is not there, too much waits, or it fits no line."""
        session = self._session
        if not fits(self._who, topic.rpartition("/")[2], payload):
            _log.warning("%s: a message on %s is too long for a line: %d bytes", self.name, topic, len(payload))
        sent = session is not None and session.publish(topic, payload, self._clock.now_ms()) is not None
        self.dropped += not sent
        self._flush()
        return sent

    async def close(self) -> None:
        """Close the port, and wait until it is."""
        self.disconnect()
        if self._closing is not None:
            await self._closing.closed()

    # what a stream reports; one that has been left says nothing

    def opened(self, stream: SerialStream) -> None:
        """Say hello."""
        self._writing = False
        self._session = NodeSession(self._who, self._key, self._rng.getrandbits(SESSION_BITS), self._clock.now_ms())
        self._flush()

    def data(self, stream: SerialStream, data: bytes) -> None:
        """Bytes from the gateway."""
        if self._session is not None:
            self._tell(self._session.receive(data, self._clock.now_ms()))

    def written(self, stream: SerialStream, count: int) -> None:
        """The port has taken what it was given."""
        self._writing = False
        if self._session is not None:
            self._session.sent(count)
            self._flush()

    def lost(self, stream: SerialStream, reason: str) -> None:
        """The port could not be opened, or is gone."""
        self._down(reason)

    def congested(self) -> bool:
        """Whether the core has enough to do."""
        return self._listener.congested()

    def _tell(self, events: list[Any]) -> None:
        for event in events:
            if event[0] == "up":
                self._listener.link_up(self.name)
            elif event[0] == "message":
                self._listener.receive(self.name, event[1], event[2])
            elif event[0] == "rejected":
                self.rejected += 1
                _log.warning("%s: refused: %s", self.name, event[1])
            else:
                self._down(event[1])
                return
        self._flush()

    def _down(self, reason: str) -> None:
        if self._stream is not None:
            _log.info("%s: the line at %s ended: %s", self.name, self._stream.url, reason)
            self.disconnect()
            self._listener.link_down(self.name)

    def _flush(self) -> None:
        if self._stream is not None and self._session is not None and self._session.out and not self._writing:
            self._writing = True
            self._stream.write(bytes(self._session.out))
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_ms = None if self._session is None else self._session.next_deadline()
        if due_ms is not None:
            self._timer = self._loop.call_later(self._clock.wall_s(due_ms - self._clock.now_ms()), self._on_timer)

    def _on_timer(self) -> None:
        if self._session is not None:
            self._tell(self._session.on_timer(self._clock.now_ms()))

    async def _open(self, stream: SerialStream, before: SerialStream | None) -> None:
        if before is not None:
            await before.closed()
        if stream is self._stream:
            stream.open()
        else:
            stream.released.set()
