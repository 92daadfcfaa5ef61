"""A loop whose time is virtual: it jumps to the next timer instead of waiting, so tests of timers take no time."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.time_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("the test waits for something that can never happen")
            self.time_s += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop on virtual time."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.time_s


class LoopClock:
    """A host's clock that reads the running (virtual) loop."""

    def __init__(self, timescale: float = 1.0) -> None:
        self._timescale = timescale

    def now_ms(self) -> int:
        return round(asyncio.get_running_loop().time() * 1000 * self._timescale)

    def utc_ms(self) -> int:
        return 1_700_000_000_000 + self.now_ms()

    def wall_s(self, core_ms: int) -> float:
        return max(core_ms, 0) / 1000 / self._timescale


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` on a virtual loop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main)
