"""The pump around a core: feeds it inputs, performs what it asks for in its order, keeps its one timer.

The pump decides nothing about the business. A handler performs one kind of output and may be slow: then it returns a
coroutine, and every later output waits for it while inputs still reach the core at once.
"""

import asyncio
import logging
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from firmware.hosting.clock import Clock
from firmware.hosting.trace import NoTrace, Tracer
from firmware.wire.outputs import Event

_log = logging.getLogger("clawland.pump")

# A handler returns None when it is done, or what to await before the next output.
Handler = Callable[[Any], "Awaitable[None] | None"]

T = TypeVar("T")

LAG_REPORT_MS = 30_000
# Outputs waiting behind a slow store: above the first figure ports stop reading, above the second the host gives up.
CONGESTED_OUTPUTS = 10_000
MAX_OUTPUTS = 1_000_000


class Core(Protocol):
    """The verbs that the pump itself needs; each host feeds the inputs of its own core."""

    def receive(self, port: str, topic: str, payload: bytes, now_ms: int) -> None: ...
    def link_up(self, port: str, now_ms: int) -> None: ...
    def link_down(self, port: str, now_ms: int) -> None: ...
    def on_timer(self, now_ms: int) -> None: ...
    def next_deadline(self) -> int | None: ...
    def take_outputs(self) -> list[Any]: ...


class HostError(Exception):
    """The host cannot go on: a core or a handler raised, or outputs piled up beyond all bounds."""


class Pump:
    """Runs one core on the current asyncio loop.

    `handlers` maps each output's type to what performs it; `Event` is the pump's own and goes to the tracer. A core or
    handler that raises ends the host: the pump stops, logs one line, and `failed` raises `HostError`.
    """

    def __init__(
        self, core: Core, clock: Clock, handlers: Mapping[type, Handler], tracer: Tracer | None = None
    ) -> None:
        self.core = core
        self._clock = clock
        self._tracer = NoTrace() if tracer is None else tracer
        self._handlers = {**handlers, Event: self._trace}
        self._queue: deque[tuple[Any, int]] = deque()
        self._now_ms = 0
        self._performing = False
        self._slow: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._armed_ms = 0
        self._due_ms = 0
        self._failure: asyncio.Future[None] = self._loop.create_future()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._lag = _Lag(clock.now_ms())

    # inputs

    def feed(self, method: Callable[..., object], *args: object, **kwargs: object) -> None:
        """Call `method(*args, now_ms)`, an input of the core, and perform what comes of it. Never raises."""
        if self._closed:
            return
        try:
            method(*args, self._clock.now_ms(), **kwargs)
        except Exception as error:
            self.fail(f"{type(self.core).__name__}.{getattr(method, '__name__', 'input')}", error)
        else:
            self._settle()

    def ask(self, request: Callable[[int], T]) -> T:
        """Call `request(now_ms)`, perform what comes of it and return its result.

        For an operator's request that the core may refuse: what it raises is the caller's, and the host goes on.
        """
        if self._closed:
            raise HostError("the host is stopping")
        try:
            return request(self._clock.now_ms())
        finally:
            self._settle()

    def start(self) -> None:
        """Perform what the core asked for at construction and arm its timer."""
        self.feed(lambda now_ms: None)

    def link_up(self, port: str) -> None:
        """An `MqttPort`'s news for the core."""
        self.feed(self.core.link_up, port)

    def link_down(self, port: str) -> None:
        """An `MqttPort`'s news for the core."""
        self.feed(self.core.link_down, port)

    def receive(self, port: str, topic: str, payload: bytes) -> None:
        """A message for the core."""
        self.feed(self.core.receive, port, topic, payload)

    def congested(self) -> bool:
        """Whether so many outputs wait that ports should stop reading."""
        return len(self._queue) >= CONGESTED_OUTPUTS

    # life

    def alive(self, late_ms: int) -> bool:
        """Whether inputs reach the core, and its timer is not overdue by more than `late_ms`."""
        due_ms = self.core.next_deadline()
        return not self._closed and (due_ms is None or self._clock.now_ms() - due_ms <= late_ms)

    async def failed(self) -> None:
        """Wait until the host has failed, and raise `HostError`; cancel it to stop waiting."""
        await asyncio.shield(self._failure)

    async def drained(self) -> None:
        """Wait until no output is waiting or being performed."""
        await self._idle.wait()

    def stop(self) -> None:
        """No further input, timer or output from now on."""
        self._closed = True
        self._queue.clear()
        self._disarm()
        self._idle.set()

    async def close(self) -> None:
        """Stop, and wait until what a slow handler has begun is finished."""
        self.stop()
        self._report_lag()
        if self._slow is not None:
            await asyncio.wait([self._slow])
        if self._failure.done():
            self._failure.exception()
        else:
            self._failure.cancel()

    def fail(self, where: str, error: BaseException) -> None:
        """The host cannot go on: what `where` names raised `error`. For a host's own background tasks."""
        self.stop()
        if not self._failure.done():
            failure = HostError(f"{where} raised {type(error).__name__}: {error}{_origin(error)}")
            _log.critical("the host stops: %s", failure)
            _log.debug("traceback", exc_info=error)
            failure.__cause__ = error
            self._failure.set_exception(failure)

    # outputs

    def _settle(self) -> None:
        now_ms = self._clock.now_ms()
        try:
            self._queue.extend((output, now_ms) for output in self.core.take_outputs())
            if len(self._queue) > MAX_OUTPUTS:
                raise HostError(f"{len(self._queue)} outputs are waiting for a store that does not finish")
        except Exception as error:
            self.fail(f"{type(self.core).__name__}.take_outputs", error)
        self._perform()

    def _perform(self) -> None:
        """Perform queued outputs until the queue is empty or one of them is slow; inner calls leave it to the outer."""
        if self._performing or self._closed:
            return
        self._performing = True
        try:
            self._run_queue()
        finally:
            self._performing = False
        if self._slow is None:
            self._idle.set()
        self._arm()

    def _run_queue(self) -> None:
        while self._queue and self._slow is None and not self._closed:
            output, at_ms = self._queue.popleft()
            self._now_ms = at_ms
            try:
                waiting = self._handlers[type(output)](output)
            except Exception as error:
                self.fail(_describe(output), error)
                return
            if waiting is not None:
                self._idle.clear()
                self._slow = self._loop.create_task(self._finish(output, waiting))

    async def _finish(self, output: Any, waiting: Awaitable[None]) -> None:
        try:
            await waiting
        except Exception as error:
            self.fail(_describe(output), error)
        finally:
            self._slow = None
        self._perform()

    def _trace(self, event: Any) -> None:
        self._tracer.write(event.kind, event.fields, self._now_ms)

    # the timer

    def _arm(self) -> None:
        deadline_ms = None if self._closed else self.core.next_deadline()
        if self._timer is not None and deadline_ms == self._armed_ms:
            return
        self._disarm()
        if deadline_ms is not None:
            wait_s = self._clock.wall_s(deadline_ms - self._clock.now_ms())
            self._timer = self._loop.call_later(wait_s, self._on_timer, deadline_ms)
            self._armed_ms = deadline_ms
            self._due_ms = max(deadline_ms, self._clock.now_ms())

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self, deadline_ms: int) -> None:
        self._timer = None
        now_ms = self._clock.now_ms()
        if now_ms < deadline_ms:  # the loop's clock is coarser than ours
            self._arm()
            return
        if self._lag.note(now_ms, now_ms - self._due_ms):
            self._report_lag()
        self.feed(self.core.on_timer)

    def _report_lag(self) -> None:
        if self._lag.timers:
            now_ms = self._clock.now_ms()
            self._tracer.write("host.lag", self._lag.take(now_ms), now_ms)


class _Lag:
    """How late timers were, in core milliseconds, since the last report."""

    def __init__(self, now_ms: int) -> None:
        self.timers = 0
        self._worst_ms = 0
        self._since_ms = now_ms

    def note(self, now_ms: int, late_ms: int) -> bool:
        """Count one timer; true when a report is due."""
        self.timers += 1
        self._worst_ms = max(self._worst_ms, late_ms)
        return now_ms - self._since_ms >= LAG_REPORT_MS

    def take(self, now_ms: int) -> dict[str, int]:
        report = {"worst_ms": self._worst_ms, "timers": self.timers}
        self.timers = self._worst_ms = 0
        self._since_ms = now_ms
        return report


def _origin(error: BaseException) -> str:
    """Where it was raised, " (file:line)": enough to find a bug from the one line that a log shows."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""


def _describe(output: object) -> str:
    return f"performing {type(output).__name__}"
