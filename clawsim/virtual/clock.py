"""The simulator's clock: a SimPy environment in integer microseconds, with calls at instants as its events.

Milliseconds would be too coarse: a LoRa symbol is shorter than one. `run_until` does what `Environment.run` does with
`until`, without a function call and an exception handler an event: nothing here fails by an event, and half a million
events make a virtual hour of 500 nodes.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from simpy import Environment
from simpy.events import NORMAL, Event

Callback = Callable[[Any], None]


class Call(Event):
    """An event at an instant: `callback(event)` is called then, with `value` as `event._value`."""

    _ok = True
    _defused = False

    def __init__(self, clock: "Clock", at_us: int, callback: Callback, value: Any) -> None:
        self.callbacks = [callback]
        self._value = value
        heappush(clock._queue, (at_us, NORMAL, next(clock._eid), self))


class Clock(Environment):
    """Time is `_now`, an integer in microseconds; the inner loops read it without the property's call."""

    _now: int

    def __init__(self) -> None:
        super().__init__(0)

    @property
    def now_us(self) -> int:
        """Microseconds since the start of the run."""
        return self._now

    def call_at(self, at_us: int, callback: Callback, value: Any = None) -> None:
        """Call `callback(event)` at `at_us`, which is not in the past, with `event._value` being `value`."""
        Call(self, at_us, callback, value)

    def run_until(self, until_us: int) -> None:
        """Let everything happen that is due before `until_us`, which it is afterwards."""
        queue = self._queue
        while queue:
            entry = heappop(queue)
            at_us = entry[0]
            if at_us >= until_us:
                heappush(queue, entry)
                break
            self._now = at_us  # type: ignore[assignment]  # every event of this clock has an integer time
            event = entry[3]
            callbacks, event.callbacks = event.callbacks, None  # type: ignore[assignment]  # as SimPy marks it done
            for callback in callbacks:
                callback(event)
        self._now = until_us
