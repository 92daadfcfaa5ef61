"""Clocks of MicroPython hosts, in core milliseconds, and how long to wait for them on the wall."""


class Uptime:
    """Milliseconds since construction, from a counter of ticks that wraps: ask more often than half its period."""

    def __init__(self, ticks_ms, ticks_diff) -> None:
        """`ticks_ms()` reads the counter and `ticks_diff(new, old)` knows its period, as in MicroPython's `time`."""
        self._ticks_ms = ticks_ms
        self._ticks_diff = ticks_diff
        self._ticks = ticks_ms()
        self._now_ms = 0

    def now_ms(self) -> int:
        ticks = self._ticks_ms()
        self._now_ms += self._ticks_diff(ticks, self._ticks)
        self._ticks = ticks
        return self._now_ms

    def wall_ms(self, core_ms: int) -> int:
        """How many milliseconds of the wall `core_ms` of core time last; never negative."""
        return max(core_ms, 0)


class RunClock:
    """A scenario's clock; see `firmware.hosting.clock.ScaledClock`."""

    def __init__(self, monotonic_ns, found: object) -> None:
        """`monotonic_ns()` reads the machine's CLOCK_MONOTONIC; `found` is the JSON object that describes the clock.

        Raises ValueError saying what is wrong with it."""
        if not isinstance(found, dict):
            raise ValueError("the clock must be a JSON object")
        for name in ("t0_monotonic_ns", "timescale", "epoch_utc_ms"):
            if type(found.get(name)) not in (int, float):
                raise ValueError("%s must be a number, not %r" % (name, found.get(name)))
        if found["timescale"] <= 0:
            raise ValueError("timescale must be above 0, not %r" % found["timescale"])
        self._monotonic_ns = monotonic_ns
        self._t0_ns = int(found["t0_monotonic_ns"])
        self._scale = found["timescale"]

    def now_ms(self) -> int:
        return max(int((self._monotonic_ns() - self._t0_ns) // 1000 * self._scale) // 1000, 0)

    def wall_ms(self, core_ms: int) -> int:
        """How many milliseconds of the wall `core_ms` of core time last, at least; never negative."""
        return max(int(core_ms / self._scale + 0.999), 0)

    def until_start_ms(self) -> int:
        """How long it is until the run's time begins, on the wall."""
        return max((self._t0_ns - self._monotonic_ns()) // 1000000 + 1, 0)
