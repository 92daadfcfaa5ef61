"""A voltage at an ADC pin, as a soil probe or a battery divider gives it, on a line through two known points."""

from firmware.drivers import Fault

SAMPLES = 5  # the median of them: one that a radio disturbs does not count
FULL = 65535
RAIL = 200  # so near to an end of the range nothing is connected, or it is shorted


class Analog:
    """`adc` has `read_u16`, as MicroPython's `machine.ADC`."""

    def __init__(self, adc, name: str, exp: int, low: "tuple[int, int]", high: "tuple[int, int]") -> None:
        """`low` and `high`: (raw, value) of two points, values in units of 10^-exp. Raises ValueError when they are one
        point."""
        if low[0] == high[0]:
            raise ValueError("two points of one raw value")
        self._adc = adc
        self._name = name
        self._low = low
        self._high = high
        self.exp = {name: exp}
        self.ready_ms = 0

    def begin(self, now_ms: int) -> None:
        """It is always ready."""
        self.ready_ms = now_ms

    def read(self, now_ms: int) -> dict:
        """The value. Raises `Fault`."""
        raw = sorted([self._adc.read_u16() for _ in range(SAMPLES)])[SAMPLES // 2]
        if not RAIL <= raw <= FULL - RAIL:
            raise Fault("not connected, or shorted")
        span = self._high[0] - self._low[0]
        rise = (raw - self._low[0]) * (self._high[1] - self._low[1])
        return {self._name: self._low[1] + (2 * rise + span) // (2 * span)}
