"""A node's radio where there is none: frames go by UDP to a gateway's port for concentrators, as a packet forwarder's.

Node and concentrator are one here: what the node sends is heard after its time on air, and a downlink is heard if it
begins in the node's receive window. Times are the run's, so a scaled clock keeps the window where it is.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable
from typing import Any

from firmware.hosting.clock import Clock
from firmware.hosting.forwarder import EUI_BYTES, PULL_EVERY_MS, Order, PacketForwarder
from firmware.wire.airtime import time_on_air_us
from firmware.wire.lora import RECEIVE_DELAY_MS
from firmware.wire.outputs import Transmit

RSSI_DBM, SNR_DB = -60, 9.0  # across a table
WINDOW_SLACK_MS = 5  # a modem waits for 8 symbols of a preamble, which is 8 ms at SF7
RETRY_MS = 5_000

_log = logging.getLogger("clawland.radio")
Hear = Callable[[bytes], None]


class UdpRadio(asyncio.DatagramProtocol):
    """The radio of node `who`; `hear(frame)` is called for each downlink in a receive window."""

    def __init__(self, who: str, concentrator: tuple[str, int], clock: Clock, hear: Hear) -> None:
        """`concentrator`: host and port of the gateway's port."""
        self._forwarder = PacketForwarder(hashlib.sha256(who.encode()).digest()[:EUI_BYTES])
        self._target = concentrator
        self._clock = clock
        self._hear = hear
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.DatagramTransport | None = None
        self._window: tuple[int, int, int] | None = None  # frequency, spreading factor, when it opens (ms)
        self._timers: set[asyncio.TimerHandle] = set()
        self._opening: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Find the gateway, and pull from then on."""
        self._opening = self._loop.create_task(self._open())

    async def close(self) -> None:
        """No frame leaves or comes any more."""
        for timer in self._timers:
            timer.cancel()
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._transport is not None:
            self._transport.close()

    def transmit(self, output: Transmit) -> None:
        """A frame goes on the air now, and a receive window follows it."""
        air_ms = time_on_air_us(len(output.frame), output.sf) // 1000
        ends_ms = self._clock.now_ms() + air_ms
        self._window = (output.frequency_hz, output.sf, ends_ms + RECEIVE_DELAY_MS)
        self._later(air_ms, self._push, output, ends_ms)

    def datagram_received(self, data: bytes, address: Any) -> None:
        """A word of the gateway."""
        order, answer = self._forwarder.receive(data, self._now_us())
        if answer:
            self._send(answer)
        if order is None:
            return
        begins_ms = self._clock.now_ms() + order.in_us // 1000
        if self._is_in_window(order, begins_ms):
            air_ms = time_on_air_us(len(order.frame), order.sf, crc=False) // 1000
            self._later(begins_ms - self._clock.now_ms() + air_ms, self._hear, order.frame)

    def error_received(self, error: Exception) -> None:
        """Nobody listens there; frames are lost, as in the air."""
        _log.debug("the gateway's port does not answer: %s", error)

    async def _open(self) -> None:
        while True:
            try:
                self._transport, _ = await self._loop.create_datagram_endpoint(lambda: self, remote_addr=self._target)
                break
            except OSError as error:
                _log.warning("cannot reach %s:%d by UDP: %s", *self._target, error.strerror or error)
                await asyncio.sleep(self._clock.wall_s(RETRY_MS))
        self._pull()

    def _pull(self) -> None:
        self._send(self._forwarder.pull())
        self._later(PULL_EVERY_MS, self._pull)

    def _push(self, output: Transmit, ends_ms: int) -> None:
        """The stamp is the frame's end, however late the timer is: the answer's instant is counted from it."""
        frequency_hz, sf, frame = output
        self._send(self._forwarder.push(frame, ends_ms * 1000, frequency_hz, sf, RSSI_DBM, SNR_DB))

    def _is_in_window(self, order: Order, begins_ms: int) -> bool:
        if self._window is None or self._window[:2] != (order.frequency_hz, order.sf):
            return False
        return abs(begins_ms - self._window[2]) <= WINDOW_SLACK_MS

    def _send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.sendto(data)

    def _now_us(self) -> int:
        return self._clock.now_ms() * 1000

    def _later(self, delay_ms: int, call: Callable[..., None], *args: object) -> None:
        def run() -> None:
            self._timers.discard(timer)
            call(*args)

        timer = self._loop.call_later(max(0.0, self._clock.wall_s(delay_ms)), run)
        self._timers.add(timer)
