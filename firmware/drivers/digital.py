"""A contact at a digital input: a reed switch at a door, a PIR detector of motion, a water probe's comparator."""

from firmware.drivers.debounce import Debounce

POLL_MS = 5


class Digital:
    """Speaks for itself. `pin` has `value`, as MicroPython's `machine.Pin`."""

    def __init__(self, pin, active_low: bool, rise_ms: int, fall_ms: int) -> None:
        """`rise_ms` and `fall_ms`: see `Debounce`. A motion detector that retriggers wants a long `fall_ms`."""
        self._pin = pin
        self._active_low = active_low
        self._debounce = Debounce(rise_ms, fall_ms)
        self.due_ms = 0

    def poll(self, now_ms: int) -> "bool | None":
        """True when it has become active, false when it has ceased, None when nothing is new."""
        self.due_ms = now_ms + POLL_MS
        changed = self._debounce.push(bool(self._pin.value()) != self._active_low, now_ms)
        return self._debounce.level if changed else None


class Level:
    """The same contact, asked at intervals, as a water probe is."""

    def __init__(self, pin, name: str, active_low: bool) -> None:
        self._pin = pin
        self._name = name
        self._active_low = active_low
        self.exp = {name: 0}
        self.ready_ms = 0

    def begin(self, now_ms: int) -> None:
        """It is always ready."""
        self.ready_ms = now_ms

    def read(self, now_ms: int) -> dict:
        """Whether it is active."""
        return {self._name: bool(self._pin.value()) != self._active_low}
