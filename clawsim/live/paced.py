"""Paces an ordinary SimPy environment by the wall clock, from asyncio.

It waits until the next event is due or an input arrives from outside, then steps; SimPy's own RealtimeEnvironment
blocks in `time.sleep` and knows no input from outside.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from simpy import Environment
from simpy.events import URGENT, Event

from clawsim.live.pace import Pace

MOST_WAIT_S = 0.2
"""Longest wait without a look at the clock."""


class Pacer:
    """Keeps ``env``'s clock, in microseconds, with ``pace``; both must start together.

    Events outside call `feed` or `advance`, so that the simulation has caught up with the moment in which they happen.
    """

    def __init__(self, env: Environment, pace: Pace) -> None:
        self._env = env
        self._pace = pace
        self._limit_us: int | None = None
        self._poked = asyncio.Event()
        self._failure: BaseException | None = None
        self._stepping = False
        self._over = False

    def advance(self) -> None:
        """Steps through everything that was due by now, and notes how late that was. Nothing while it is stepping."""
        if self._stepping:
            return
        now_us = self._pace.now_us()
        target_us = now_us if self._limit_us is None else min(now_us, self._limit_us)
        if target_us <= self._env.now:
            return
        due_us = self._env.peek()
        if due_us < target_us:
            self._pace.note(now_us, int(now_us - due_us) // 1000)
        self._stepping = True
        try:
            self._step_to(target_us)
        finally:
            self._stepping = False

    def feed(self, method: Callable[..., object], *args: Any) -> None:
        """An input from outside: happens now, after everything that was due before. Nothing once the run is over."""
        if self._over:
            return
        try:
            self.advance()
            method(*args)
        except Exception as error:
            self.fail(error)
        self._poked.set()

    def close(self) -> None:
        """The run is over: nobody inside hears anything any more."""
        self._over = True

    def fail(self, error: BaseException) -> None:
        """Ends `run` with ``error``."""
        self._failure = self._failure or error
        self._poked.set()

    def at_once(self) -> None:
        """Steps through what is due at this very instant, while time stands still."""
        while self._env.peek() <= self._env.now:
            self._env.step()

    async def run(self, until_us: int) -> None:
        """Runs the simulation with the wall clock up to ``until_us``; what was given to `fail` is raised."""
        self._limit_us = until_us
        while True:
            self._raise_failure()
            self.advance()
            if self._env.now >= until_us:
                return
            await self._wait(min(self._env.peek(), until_us))

    def _step_to(self, target_us: int) -> None:
        """Up to ``target_us`` and without what is due then. `Environment.run` would leave an event behind each time."""
        arrived = Event(self._env)
        arrived._ok, arrived._value = True, None
        self._env.schedule(arrived, URGENT, target_us - self._env.now)
        while not arrived.processed:
            self._env.step()

    async def _wait(self, due_us: float) -> None:
        self._poked.clear()
        wait_s = (due_us - self._pace.now_us()) / 1e6 / self._pace.clock.timescale
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._poked.wait(), min(max(wait_s, 0.0), MOST_WAIT_S))

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
