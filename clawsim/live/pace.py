"""The time of a live run: one clock for all processes, and how late everyone was."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from clawsim.trace import TraceEvent
from firmware.hosting.clock import ScaledClock

REPORT_EVERY_US = 30_000_000
"""Hosts report the worst lag of their timers this often, in core time."""
REPORT_REACH_US = 31_000_000
"""How far back such a report may reach."""


@dataclass
class Pace:
    """The run's clock, and how late the world itself was: the worst in each 30 s of core time, as hosts report it."""

    clock: ScaledClock
    _worst_ms: dict[int, int] = field(default_factory=dict)

    def now_us(self) -> int:
        """Core time since the start of the run, in microseconds; negative before it."""
        wall_ns = time.monotonic_ns() - self.clock.t0_monotonic_ns
        return int(wall_ns * self.clock.timescale / 1000)

    def note(self, now_us: int, late_ms: int) -> None:
        """Something happened at ``now_us`` that was due ``late_ms`` earlier."""
        span = now_us // REPORT_EVERY_US
        self._worst_ms[span] = max(late_ms, self._worst_ms.get(span, 0))

    def reports_ms(self) -> list[int]:
        """The worst of each 30 s in which anything was due."""
        return list(self._worst_ms.values())


@dataclass(frozen=True, slots=True)
class Standstill:
    """A process that a fault stopped: its timers were late because they were meant to be."""

    who: str
    from_us: int
    until_us: int

    def covers(self, event: TraceEvent) -> bool:
        """Whether the `host.lag` event reports on a time in which its process stood still."""
        return event.who == self.who and self.from_us <= event.t_us <= self.until_us + REPORT_REACH_US


def lag_p99_ms(events: Iterable[TraceEvent], own_ms: Iterable[int], standstills: Iterable[Standstill]) -> int:
    """The 99th percentile (nearest rank) of the worst lag of each process in each 30 s, and of the world's own."""
    still = list(standstills)
    reports = (event for event in events if event.kind == "host.lag")
    samples = [int(event.fields["worst_ms"]) for event in reports if not any(each.covers(event) for each in still)]
    samples += own_ms
    samples.sort()
    return samples[math.ceil(0.99 * len(samples)) - 1] if samples else 0
