"""Plays a plan in the live world and keeps what came of it."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from clawsim.ledger import Account, Ledger
from clawsim.live.options import LiveOptions, LiveResult
from clawsim.live.run import run_live
from clawsim.live.selection import select
from clawsim.scenario.plan import Plan
from clawsim.trace import EventLog, TraceEvent

TIMESCALE = 60.0
WITH_WALL_TIME_IN_IT = 30.0
"""For stories in which something takes a time of the wall's: an mDNS query, the start of a Python process."""


@dataclass
class Played:
    result: LiveResult
    events: list[TraceEvent]
    account: Account

    def of(self, kind: str, who: str | None = None) -> list[TraceEvent]:
        return [event for event in self.events if event.kind == kind and who in (None, event.who)]

    def first_s(self, kind: str, who: str | None = None) -> float:
        found = self.of(kind, who)
        assert found, f"no {kind} of {who}; seen: {sorted({event.kind for event in self.events})}"
        return found[0].t_us / 1e6


async def play(
    plan: Plan, directory: Path, real: Iterable[str] = (), timescale: float = TIMESCALE, **options: Any
) -> Played:
    log = EventLog()
    events: list[TraceEvent] = []
    log.listen(events.append)
    ledger = Ledger(log)
    chosen = select(plan, real) or None
    result = await run_live(plan, log, LiveOptions(directory / "run", timescale, real=chosen, **options))
    return Played(result, events, ledger.close(result.delivered, result.buffered))


def children_of(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [child for child in psutil.Process(pid).children(recursive=True) if not gone(child.pid)]
    return []


def gone(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    return True


def ports_of(pids: Iterable[int]) -> set[int]:
    """The TCP ports that these processes listen on."""
    ports: set[int] = set()
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            listening = psutil.Process(pid).net_connections("tcp")
            ports |= {each.laddr.port for each in listening if each.status == psutil.CONN_LISTEN}
    return ports


def nobody_listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def eventually(claim: Callable[[], bool], timeout_s: float = 10) -> bool:
    """Polls: what happens in other processes sends us no event."""
    deadline_s = time.monotonic() + timeout_s
    while not claim() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return claim()
