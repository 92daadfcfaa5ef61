"""One direction of one proxied connection: bytes that wait for their time, then for room at the far end.

The kernel's buffers on both sides stand for those of the two TCP ends. A pipe whose link is cut stops reading, so that
the sender fills its window and stalls, as it would without an answer; nothing is dropped, nothing grows without bound.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

from clawsim.live.framing import Framing
from clawsim.live.link import Link

MOST_QUEUED_BYTES = 256 * 1024
"""Bytes under way in one direction before the source is no longer read."""
MOST_WRITTEN_BYTES = 64 * 1024
"""Bytes handed to the far end's socket in one go."""

Item = tuple[float, bytes | None]


class Pipe:
    """Moves what arrives from ``source`` to ``sink`` after the link's transit time, in order.

    Both transports are set by the connection when they exist; until then, and while the link is cut, everything waits.
    The end of the stream travels like a byte, ``None`` in the queue; ``on_finished`` is called when it arrives.
    """

    def __init__(self, link: Link, on_finished: Callable[[], None]) -> None:
        self.source: asyncio.Transport | None = None
        self.sink: asyncio.Transport | None = None
        self.finished = False
        self._link = link
        self._on_finished = on_finished
        self._framing = Framing()
        self._slipping_in: list[bytes] = []
        self._queue: deque[Item] = deque()
        self._queued_bytes = 0
        self._last_due_s = 0.0
        self._sink_is_full = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def queued_bytes(self) -> int:
        """Bytes read from the source and not yet handed to the sink."""
        return self._queued_bytes

    def feed(self, chunk: bytes | None) -> None:
        """Takes a chunk from the source, or ``None`` for the end of its stream."""
        edge = self._framing.feed(chunk) if chunk else None
        if chunk and edge is not None and self._slipping_in:
            chunk = chunk[:edge] + b"".join(self._slipping_in) + chunk[edge:]
            self._slipping_in.clear()
        self._enqueue(chunk)

    def slip_in(self, packet: bytes) -> None:
        """Sends an MQTT packet as if the source had: now, or as soon as the source has finished its own."""
        if self._framing.at_edge:
            self._enqueue(packet)
        else:
            self._slipping_in.append(packet)

    def sink_is_full(self, full: bool) -> None:
        """The far end's socket takes no more (or takes more again)."""
        self._sink_is_full = full
        if not full:
            self.flush()

    def flush(self) -> None:
        """Hands over what is due, and sets the timer for what is not."""
        self._cancel_timer()
        while self._may_write() and self._queue[0][0] <= asyncio.get_running_loop().time():
            self._write(cast(asyncio.Transport, self.sink), self._queue.popleft()[1])
        if self._may_write():
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._queue[0][0], self.flush)
        self._throttle()

    def close(self) -> None:
        """Forgets everything."""
        self._cancel_timer()
        self._queue.clear()
        self._queued_bytes = 0
        self.finished = True

    def _enqueue(self, chunk: bytes | None) -> None:
        now_s = asyncio.get_running_loop().time()
        transit_s = self._link.transit_s(len(chunk)) if chunk else 0.0
        self._last_due_s = max(self._last_due_s, now_s + transit_s)
        self._queue.append((self._last_due_s, chunk))
        self._queued_bytes += len(chunk or b"")
        self.flush()

    def _may_write(self) -> bool:
        return bool(self._queue) and self.sink is not None and not self._sink_is_full and not self._link.is_cut

    def _write(self, sink: asyncio.Transport, chunk: bytes | None) -> None:
        if chunk is None:
            self.finished = True
            if not sink.is_closing():
                sink.write_eof()
            self._on_finished()
            return
        now, later = chunk[:MOST_WRITTEN_BYTES], chunk[MOST_WRITTEN_BYTES:]
        if later:
            self._queue.appendleft((0.0, later))
        self._queued_bytes -= len(now)
        self._link.passed(len(now))
        sink.write(now)

    def _throttle(self) -> None:
        if self.source is None or self.source.is_closing():
            return
        if self._link.is_cut or self.sink is None or self._queued_bytes > MOST_QUEUED_BYTES:
            self.source.pause_reading()
        else:
            self.source.resume_reading()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
