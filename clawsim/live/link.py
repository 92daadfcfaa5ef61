"""One link of the live world, as TCP shows it: the faults that lie on it, and what it did to the bytes.

A link joins one client to one broker and may carry several connections at a time (a client that gave up one attempt
and makes the next). It knows nothing of sockets: :mod:`clawsim.live.proxy` asks it how long a chunk takes, and tells it
what crossed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

SEGMENT_BYTES = 1460
"""TCP's maximum segment on Ethernet (RFC 879: 1500 less 40): loss is drawn once for each of them."""
FIRST_RETRANSMISSION_MS = 200
"""Linux's least retransmission time-out (TCP_RTO_MIN); each further one waits twice as long (RFC 6298, 5.5)."""
MOST_RETRANSMISSIONS = 15
"""Linux's default of net.ipv4.tcp_retries2, after which a connection is given up."""


@dataclass(slots=True)
class LinkCounters:
    """What a link did so far; monotonic, so that two readings of it are evidence of what happened between them."""

    passed_bytes: int = 0
    """Handed to the far end, both directions."""
    held_bytes: int = 0
    """Kept back by cuts that are over, both directions; what a present cut keeps back, the proxy's `held()` adds."""
    delayed_bytes: int = 0
    """Delivered later than the link's own latency, because of a delay or a loss."""


@dataclass(frozen=True, slots=True)
class _Fault:
    cut: bool = False
    delay_ms: int = 0
    rate: float = 0.0
    rng: random.Random | None = None


class Link:
    """The faults on one link, each under the name of who asked for it, and the link's counters.

    Faults add up: the link is cut while anyone cuts it, delays are summed, losses are independent. Durations are core
    milliseconds; ``timescale`` is the number of core seconds in a wall second.
    """

    def __init__(self, client: str, broker: str, timescale: float = 1.0, latency_ms: float = 0.0) -> None:
        self.client = client
        self.broker = broker
        self.latency_ms = latency_ms
        self.counters = LinkCounters()
        self._timescale = timescale
        self._faults: dict[tuple[str, str], _Fault] = {}
        self._on_change: list[Callable[[], None]] = []

    @property
    def is_cut(self) -> bool:
        """Whether no byte may cross."""
        return any(fault.cut for fault in self._faults.values())

    def cut(self, by: str = "") -> None:
        """Turns the link into a black hole until ``by`` clears it."""
        self._put(("cut", by), _Fault(cut=True))

    def delay(self, delay_ms: int, by: str = "") -> None:
        """Adds ``delay_ms`` of core time to every byte in either direction; :class:`ValueError` when negative."""
        if delay_ms < 0:
            raise ValueError(f"a delay of {delay_ms} ms lies in the past")
        self._put(("delay", by), _Fault(delay_ms=delay_ms))

    def loss(self, rate: float, rng: random.Random, by: str = "") -> None:
        """Loses each segment with probability ``rate``: TCP repeats it, so it is late and everything behind it too."""
        if not 0 <= rate <= 1:
            raise ValueError(f"a loss rate lies between 0 and 1, not {rate}")
        self._put(("loss", by), _Fault(rate=rate, rng=rng))

    def clear(self, by: str = "") -> None:
        """Takes away every fault that ``by`` put on the link; clearing twice does no harm."""
        for key in [key for key in self._faults if key[1] == by]:
            del self._faults[key]
        self._changed()

    def on_change(self, callback: Callable[[], None]) -> None:
        """Calls ``callback`` after each change of the faults."""
        self._on_change.append(callback)

    def transit_s(self, size_bytes: int) -> float:
        """Wall seconds that a chunk of ``size_bytes`` needs; draws its losses."""
        extra_ms = sum(fault.delay_ms for fault in self._faults.values()) + self._repetitions_ms(size_bytes)
        if extra_ms:
            self.counters.delayed_bytes += size_bytes
        return (self.latency_ms + extra_ms) / 1000 / self._timescale

    def passed(self, size_bytes: int) -> None:
        """Counts bytes that were handed to the far end."""
        self.counters.passed_bytes += size_bytes

    def _repetitions_ms(self, size_bytes: int) -> int:
        lossy = [fault for fault in self._faults.values() if fault.rate and fault.rng]
        if not lossy:
            return 0
        rate = 1 - math.prod(1 - fault.rate for fault in lossy)
        segments = max(1, -(-size_bytes // SEGMENT_BYTES))
        rng = lossy[0].rng or random.Random(0)
        most_lost = max(self._losses(rate, rng) for _ in range(segments))
        return int(FIRST_RETRANSMISSION_MS * (2**most_lost - 1))

    @staticmethod
    def _losses(rate: float, rng: random.Random) -> int:
        lost = 0
        while lost < MOST_RETRANSMISSIONS and rng.random() < rate:
            lost += 1
        return lost

    def _put(self, key: tuple[str, str], fault: _Fault) -> None:
        self._faults[key] = fault
        self._changed()

    def _changed(self) -> None:
        for callback in self._on_change:
            callback()
