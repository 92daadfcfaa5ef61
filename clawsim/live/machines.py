"""A machine of the world that is a real process: powered, killed, frozen and thawed like a virtual one.

A process that is to take the place of a killed one is started at once and waits for the clock, so that loading Python's
libraries does not cost simulated minutes when the power returns.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from clawsim.live.collect import Identity, backlog, outbox
from clawsim.live.pace import Standstill
from clawsim.live.processes import Child
from clawsim.virtual.machines import Machine

Command = Callable[[Path], list[str]]
"""The command line of the next process, given the trace file it is to write."""
EFFECT_WITHIN_S = 1.0
LOOK_EVERY_S = 0.0005


class RealMachine(Machine):
    """One node, gateway, hub or fleet manager. ``on_started`` is told of each process that begins to run.

    The verbs return at once but for the moment that the kernel needs to carry out a signal, so that `running` and
    `responsive` are true to the kernel's own answer when they return.
    """

    def __init__(self, world: Any, who: str, command: Command, on_started: Callable[[Child], None], plan: Any) -> None:
        super().__init__(world, who)
        self.plan = plan
        self.child: Child | None = None
        self.standstills: list[Standstill] = []
        self._command = command
        self._on_started = on_started
        self._standby: asyncio.Task[Child] | None = None
        self._frozen_us: int | None = None

    @property
    def running(self) -> bool:
        """Whether its process lives, frozen or not."""
        return self.child is not None and self.child.is_alive

    @property
    def responsive(self) -> bool:
        """Whether it would answer now."""
        return self.running and self.child is not None and not self.child.is_stopped

    def nodes_here(self) -> int:
        """What it announces as its load is its own affair."""
        return 0

    def call(self, method: str, *args: Any) -> Any:
        """Its core is out of reach."""
        return None

    def stand_by(self) -> asyncio.Task[Child]:
        """Starts a process that loads its libraries, binds its sockets and waits for the clock."""
        if self._standby is None:
            self._standby = self.world.spawn(self.id, self._command)
        return self._standby

    def power_on(self, delay_us: int | None = None) -> None:
        """Lets the process that stands by run, ``delay_us`` from now."""
        if not self.powered:
            self.powered = True
            self._starts += 1
            self.stand_by()
            self.world.after(delay_us or 0, self._begin, self._starts)

    async def start(self) -> None:
        """Lets the process that stands by run; :class:`~clawsim.live.processes.ProcessFailed` when it cannot."""
        self.powered = True
        await self._take_over(self._starts)

    def kill(self, silent: bool) -> None:
        """SIGKILL; ``silent`` is the world's to arrange, on the links."""
        self.powered = False
        self._starts += 1
        if self.child is not None:
            child = self.child
            child.kill()
            _shortly(lambda: not child.is_alive)
        self.stand_by()

    def freeze(self) -> None:
        """SIGSTOP."""
        if self.child is not None:
            child = self.child
            child.stop()
            self._frozen_us = self.world.pace.now_us()
            _shortly(lambda: child.is_stopped)

    def thaw(self) -> None:
        """SIGCONT."""
        if self.child is not None:
            self.child.cont()
        if self._frozen_us is not None:
            self.standstills.append(Standstill(self.id, self._frozen_us, self.world.pace.now_us()))
            self._frozen_us = None

    async def end(self) -> None:
        """Ends its processes in good order."""
        if self._standby is not None:
            self._standby.cancel()
        if self.child is not None and self.child.is_running:
            await self.child.terminate()

    def _begin(self, start: int) -> None:
        self.world.background(self._take_over(start))

    async def _take_over(self, start: int) -> None:
        """The stand-by becomes the process, unless the power went again while it got ready."""
        child = await asyncio.shield(self.stand_by())
        if start != self._starts or self._standby is None:
            return
        self._standby = None
        if not child.is_running:
            raise child.failure("ended while it stood by")
        self.child = child
        child.give_clock(self.world.pace.clock.as_dict())
        self._on_started(child)


class RealNode(RealMachine):
    """A node's process, and what lies on its flash."""

    @property
    def flash(self) -> _Flash:
        """As it is on disk now."""
        return _Flash(backlog(self.world.deployment, self.id))


class RealGateway(RealMachine):
    """A gateway's daemon, and what lies in its outbox."""

    @property
    def disk(self) -> _Disk:
        """As it is on disk now."""
        return _Disk(outbox(self.world.deployment, self.id))


class RealFleet(RealMachine):
    """The fleet manager's server, and the rows that its API gave back."""

    rows: Sequence[dict[str, Any]] = ()

    @property
    def database(self) -> RealFleet:
        """Itself: what is stored is what its API says."""
        return self

    def identities(self) -> Iterator[Identity]:
        """The identity of each row that was read back, in the order of storage."""
        return ((row["node"], row["boot"], row["seq"]) for row in self.rows)


class _Flash(NamedTuple):
    readings: list[tuple[int, int]]


class _Disk(NamedTuple):
    items: dict[int, tuple[str, bytes]]


def _shortly(claim: Callable[[], bool]) -> None:
    """Gives the kernel a moment to carry out a signal; whoever wants to know how that went asks again."""
    deadline_s = time.monotonic() + EFFECT_WITHIN_S
    while not claim() and time.monotonic() < deadline_s:
        time.sleep(LOOK_EVERY_S)
