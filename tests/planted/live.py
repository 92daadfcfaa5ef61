"""Bugs planted in the live world: a fault that real processes do not feel must never count as rehearsed."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from clawsim.live.link import Link
from clawsim.live.machines import RealMachine
from clawsim.live.proxy import FaultProxy
from clawsim.live.selection import everything
from clawsim.live.world import LiveWorld
from clawsim.run import run_live
from clawsim.scenario import Plan
from clawsim.verdict import Outcome
from tests.planted.catalogue import NOTHING_MISSING
from tests.virtual.scenes import fault, scene

TIMESCALE = 60.0


class _Deaf(Link):
    """What a connection sees of a link when it never asks whether that is cut."""

    def __init__(self, link: Link) -> None:
        self.__dict__ = link.__dict__

    @property
    def is_cut(self) -> bool:
        return False


class IgnoresItsCuts(FaultProxy):
    """Says that a link is cut, and passes every byte."""

    _admitting = False

    def link(self, client: str) -> Link:
        found = super().link(client)
        return _Deaf(found) if self._admitting else found

    def admit(self, address: str) -> Any:
        self._admitting = True
        try:
            return super().admit(address)
        finally:
            self._admitting = False


class WithLeakingProxies(LiveWorld):
    def _proxy(self, broker: str) -> FaultProxy:
        made = super()._proxy(broker)
        return IgnoresItsCuts(broker, made._addresses, made._timescale)


class _Immortal(RealMachine):
    def kill(self, silent: bool) -> None:
        """Sends no signal."""


class WithImmortalProcesses(LiveWorld):
    async def set_up(self) -> None:
        await super().set_up()
        for machine in self.real_machines():
            machine.kill = _Immortal.kill.__get__(machine)  # type: ignore[method-assign]


@dataclass(frozen=True)
class LiveBug:
    """`caught_by` is the reason that the run gives for being INVALID."""

    name: str
    caught_by: str
    world: type[LiveWorld]


LIVE_BUGS = (
    LiveBug("a fault proxy that ignores its cuts", "fault outage had no effect", WithLeakingProxies),
    LiveBug("a kill that no process receives", "fault crash had no effect", WithImmortalProcesses),
)


def disturbed() -> Plan:
    """A minute without the cloud, and a node that dies for half of one."""
    timeline = [
        fault("cut", "gateway-01 <-> cloud", at="40 s", for_="70 s", name="outage"),
        fault("kill", "sensor-01", at="60 s", for_="30 s", name="crash"),
    ]
    return scene(duration="3 min", expect=NOTHING_MISSING, timeline=timeline)


def run_disturbed(world: type[LiveWorld] = LiveWorld) -> Outcome:
    """The outcome of the plan in this world."""
    plan = disturbed()
    with tempfile.TemporaryDirectory() as directory, patch("clawsim.live.run.LiveWorld", world):
        real = everything(plan)
        run = run_live(plan, Path(directory) / "run", None, None, real, timescale=TIMESCALE, broker="embedded")
    return run.outcome
