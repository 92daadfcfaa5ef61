"""The simulator's clock: a SimPy environment in integer microseconds, with calls at instants as its events.

Milliseconds would be too coarse: a LoRa symbol is shorter than one. What is due is a call and its one argument; SimPy's
own events are calls of `_process`. Half a million calls make a virtual hour of 500 nodes, so none is an object.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from simpy import Environment
from simpy.core import EmptySchedule
from simpy.events import NORMAL, Event

Callback = Callable[[Any], None]


class Clock(Environment):
    """Time is `_now`, an integer in microseconds; the inner loops read it without the property's call."""

    _now: int

    def __init__(self) -> None:
        super().__init__(0)
        # (when, priority, number, call, argument): one more than SimPy's own entries, which would be the event alone.
        self._calls: list[Any] = self._queue

    @property
    def now_us(self) -> int:
        """Microseconds since the start of the run."""
        return self._now

    def call_at(self, at_us: int, callback: Callback, value: Any = None) -> None:
        """Call `callback(value)` at `at_us`, which is not in the past."""
        heappush(self._calls, (at_us, NORMAL, next(self._eid), callback, value))

    def schedule(self, event: Event, priority: int = NORMAL, delay: float = 0) -> None:
        """An event of SimPy's is due in `delay` microseconds."""
        heappush(self._calls, (self._now + int(delay), priority, next(self._eid), _process, event))

    def step(self) -> None:
        """Let the next thing happen. Raises simpy.core.EmptySchedule when there is none."""
        if not self._calls:
            raise EmptySchedule
        self._now, _, _, callback, value = heappop(self._calls)
        callback(value)

    def run_until(self, until_us: int) -> None:
        """Let everything happen that is due before `until_us`, which it is afterwards."""
        calls = self._calls
        while calls:
            entry = heappop(calls)
            at_us, _, _, callback, value = entry
            if at_us >= until_us:
                heappush(calls, entry)
                break
            self._now = at_us
            callback(value)
        self._now = until_us


def _process(event: Event) -> None:
    """What SimPy does with an event that is due: a failure that nobody took up is raised."""
    callbacks, event.callbacks = event.callbacks, None  # type: ignore[assignment]  # as SimPy marks it done
    for callback in callbacks:
        callback(event)
    if not event._ok and not hasattr(event, "_defused"):
        raise event._value
