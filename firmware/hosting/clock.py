"""Clocks of real hosts: a core's milliseconds, its UTC, and how long to wait for them on the wall.

CLOCK_MONOTONIC is one for all processes of a machine, so processes that are handed the same t0 agree on the time.
"""

import time
from dataclasses import asdict, dataclass
from typing import Protocol, Self

NS_PER_MS = 1_000_000


class Clock(Protocol):
    """What a host needs to know about time."""

    def now_ms(self) -> int:
        """Monotonic core time in milliseconds."""

    def utc_ms(self) -> int:
        """UTC in milliseconds since 1970, to stamp records with; it never drives a timer."""

    def wall_s(self, core_ms: int) -> float:
        """How many seconds of the wall `core_ms` milliseconds of core time last; never negative."""


class WallClock:
    """The machine's own clock; `now_ms` counts from the moment of construction (a process's power-on)."""

    def __init__(self) -> None:
        self._t0_ns = time.monotonic_ns()

    def now_ms(self) -> int:
        return (time.monotonic_ns() - self._t0_ns) // NS_PER_MS

    def utc_ms(self) -> int:
        return time.time_ns() // NS_PER_MS

    def wall_s(self, core_ms: int) -> float:
        return max(core_ms, 0) / 1000


@dataclass(frozen=True)
class ScaledClock:
    """A scenario's clock: `timescale` core milliseconds a wall millisecond since `t0_monotonic_ns`.

    `epoch_utc_ms` is the UTC of t0, so scaled processes agree on UTC too, whatever the machine's date is.
    """

    t0_monotonic_ns: int
    timescale: float
    epoch_utc_ms: int

    def now_ms(self) -> int:
        """Core time; negative before t0, which a readiness barrier may place in the future."""
        return max(0, int((time.monotonic_ns() - self.t0_monotonic_ns) * self.timescale / NS_PER_MS))

    def utc_ms(self) -> int:
        return self.epoch_utc_ms + self.now_ms()

    def wall_s(self, core_ms: int) -> float:
        return max(core_ms, 0) / 1000 / self.timescale

    def as_dict(self) -> dict[str, int | float]:
        """The JSON object that `from_dict` reads, to hand the clock to another process."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """The clock that a JSON object describes; raises ValueError saying what is wrong with it."""
        if not isinstance(data, dict):
            raise ValueError("the clock must be a JSON object")
        t0, scale, epoch = (_number(data, key) for key in ("t0_monotonic_ns", "timescale", "epoch_utc_ms"))
        if scale <= 0:
            raise ValueError(f"timescale must be above 0, not {scale}")
        return cls(int(t0), scale, int(epoch))


def _number(data: dict[str, object], key: str) -> int | float:
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{key} must be a number, not {value!r}")
    return value
