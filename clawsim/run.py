"""Running a scenario: the world, whoever listens, the judgement at the end."""

import asyncio
import errno
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clawsim.airbook import AirBook
from clawsim.expect import Milestones, judge
from clawsim.garbage import rare_collections
from clawsim.ledger import Account, Ledger
from clawsim.scenario.plan import Plan
from clawsim.trace import EventLog, TraceEvent
from clawsim.verdict import Outcome
from clawsim.virtual.machines import Cores
from clawsim.virtual.world import VirtualWorld

PROGRESS_US = 10_000_000
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@dataclass
class Status:
    """How far a run is, for the live line."""

    t_us: int = 0
    end_us: int = 0
    produced: int = 0
    stored: int = 0
    last: TraceEvent | None = None


Progress = Callable[[Status], None]


@dataclass
class Run:
    """A finished run with its milestones, for the report."""

    outcome: Outcome
    events: list[TraceEvent] = field(default_factory=list)
    complaint: str = ""
    """Why it was broken off, with the last words of what died."""


def run_virtual(
    plan: Plan, out: Path | None = None, progress: Progress | None = None, cores: type[Cores] = Cores
) -> Run:
    """Run `plan` in the virtual world; `out` gets `events.jsonl` and `summary.json`. Raises OSError for `out`."""
    started = time.monotonic()  # noqa: TID251 - how long it took, for the summary
    log = EventLog(_prepare(out))
    ledger, milestones, air = Ledger(log), Milestones(log, plan), AirBook(log)
    world = VirtualWorld(plan, log, cores)
    status = Status(end_us=plan.duration_us)
    with _closing(log, out) as digest, rare_collections():
        for t_us in world.run(PROGRESS_US):
            if progress:
                status.t_us, status.produced, status.stored = t_us, ledger.produced, ledger.stored
                status.last = milestones.events[-1] if milestones.events else None
                progress(status)
    account = ledger.close(world.delivered(), world.buffered())
    outcome = Outcome(
        scenario=plan.name,
        world="virtual",
        seed=plan.seed,
        simulated_s=world.env.now_us / 1e6,
        wall_s=time.monotonic() - started,  # noqa: TID251
        account=account,
        judgements=judge(plan, milestones.events, account, world.operator.answers),
        events_sha256=digest[0],
        without_effect=world.faults.without_effect,
        impossible=world.operator.impossible,
        messages=world.messages(),
        air=air.nodes,
    )
    write_summary(out, outcome)
    return Run(outcome, milestones.events)


def run_live(
    plan: Plan, run_dir: Path, out: Path | None, progress: Progress | None, real: frozenset[str], **options: Any
) -> Run:
    """Run `plan` paced by the wall clock with what is `real` as processes; `options`: timescale, broker,
    nodes_as.

    Raises what `clawsim.live.run.run_live` does, OSError for `out`, and KeyboardInterrupt when it was told to end; then
    `events.jsonl` holds what happened so far.
    """
    from clawsim.live.options import LiveOptions
    from clawsim.live.radio import unreachable
    from clawsim.live.run import run_live as run_world
    from clawsim.live.selection import everything

    log = EventLog(_prepare(out))
    ledger, milestones, air = Ledger(log), Milestones(log, plan), AirBook(log)
    if impossible := unreachable(plan, real):
        log.close()
        world = "live" if real == everything(plan) else "mixed"
        outcome = Outcome(plan.name, world, plan.seed, 0, 0, Account(), [], None, impossible=impossible)
        write_summary(out, outcome)
        return Run(outcome)
    counter = _Counter(plan.duration_us, progress)
    given = LiveOptions(run_dir=run_dir, real=real, sink=counter.count, progress=counter.reached, **options)
    with _closing(log, out) as digest:
        try:
            result = asyncio.run(run_world(plan, log, given))
        except asyncio.CancelledError:  # SIGTERM cancels the run, as Ctrl-C does
            raise KeyboardInterrupt from None
    account = ledger.close(result.delivered, result.buffered)
    outcome = Outcome(
        scenario=plan.name,
        world="live" if real == everything(plan) else "mixed",
        seed=plan.seed,
        simulated_s=result.end_us / 1e6,
        wall_s=result.wall_s,
        account=account,
        judgements=judge(plan, milestones.events, account, result.answers),
        events_sha256=None if real else digest[0],
        without_effect=result.without_effect,
        impossible=[*result.impossible, *_holes(result.broken_lines)],
        failures=result.failures,
        remarks=[*result.remarks, *_strangers(result.strangers)],
        lag_p99_ms=result.lag_p99_ms,
        trip_lag_ms=result.trip_lag_ms,
        messages=result.messages,
        air=air.nodes,
    )
    write_summary(out, outcome)
    return Run(outcome, milestones.events, result.complaint)


def _holes(broken_lines: int) -> list[str]:
    return [f"{broken_lines} lines of the processes' traces are no events: the story has holes"] if broken_lines else []


def _strangers(strangers: Mapping[str, int]) -> list[str]:
    return [f"{count} connections of strangers to {broker} were refused" for broker, count in sorted(strangers.items())]


class _Counter:
    """Counts what comes in while a live run goes on, for the status line."""

    def __init__(self, end_us: int, progress: Progress | None) -> None:
        self._status = Status(end_us=end_us)
        self._progress = progress

    def count(self, event: TraceEvent) -> None:
        """One more event."""
        self._status.produced += event.kind == "reading.produced"
        self._status.stored += event.kind == "reading.stored"
        if not event.kind.startswith(("reading.", "batch.", "host.")):
            self._status.last = event

    def reached(self, t_us: int) -> None:
        """The run is at `t_us`."""
        if self._progress:
            self._status.t_us = t_us
            self._progress(self._status)


def write_summary(out: Path | None, outcome: Outcome) -> None:
    """`summary.json` in `out`."""
    if out:
        path = out / "summary.json"
        with naming(path):
            path.write_text(summary_text(outcome) + "\n", encoding="utf-8")


@contextmanager
def _closing(log: EventLog, out: Path | None) -> Iterator[list[str]]:
    """Closes the log at the end, however that comes; its SHA-256 is then in the list that is given."""
    digest: list[str] = []
    with naming(out / "events.jsonl" if out else None):
        try:
            yield digest
        finally:
            digest.append(log.close())


@contextmanager
def naming(path: Path | None) -> Iterator[None]:
    """Says which file it was when a disk is full or broken: such an OSError knows no name."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_ERRORS and error.filename is None and path is not None:
            error.filename = str(path)
        raise


def _prepare(out: Path | None) -> Path | None:
    if out is None:
        return None
    out.mkdir(parents=True, exist_ok=True)
    return out / "events.jsonl"


def summary_text(outcome: Outcome) -> str:
    """The summary as `--json` prints it."""
    found: dict[str, Any] = outcome.as_json()
    return json.dumps(found, indent=2, ensure_ascii=False)
