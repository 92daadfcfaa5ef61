"""`clawsim run`: carries out a request and tells the person at the terminal; every way it can end has an exit code."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from clawsim import run as runner
from clawsim.junit import write_junit
from clawsim.report import clock, show
from clawsim.run import Run, Status
from clawsim.scenario.plan import Plan

EXIT_USAGE = 2
EXIT_MISSING = 3
EXIT_INTERRUPTED = 130
EXIT_FAILED = 1


@dataclass(frozen=True)
class Request:
    """What `clawsim run` was asked for."""

    world: str
    timescale: float
    broker: str
    real: tuple[str, ...]
    out: Path | None
    as_json: bool
    junit: Path | None


class Refused(Exception):
    """The run cannot be done as asked; the text says why, `exit_code` how it ends."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def execute(plan: Plan, request: Request, console: Console) -> int:
    """Run `plan`, report, and return the exit code."""
    try:
        _check_writable(request)
        with _ending_on_sigterm(), _progress(plan) as progress:
            found = _run(plan, request, progress)
        _report(found, request, console)
        if found.complaint:
            print(found.complaint, file=sys.stderr)
        return found.outcome.exit_code
    except KeyboardInterrupt:
        print("interrupted: nothing was left running", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return refusal.exit_code
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"{where}{error.strerror or error}", file=sys.stderr)
        return EXIT_MISSING


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """SIGTERM ends a run in good order, as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(plan: Plan, request: Request, progress: runner.Progress) -> Run:
    if request.world == "virtual" and not request.real:
        return runner.run_virtual(plan, request.out, progress)
    from clawsim.live.collect import CollectError
    from clawsim.live.deploy import DeployError
    from clawsim.live.processes import ProcessFailed
    from clawsim.live.run import MissingProgram

    real = _real_parts(plan, request)
    with _run_directory(request) as run_dir:
        try:
            options = {"timescale": request.timescale, "broker": request.broker}
            return runner.run_live(plan, run_dir, request.out, progress, real, **options)
        except (MissingProgram, DeployError) as error:
            raise Refused(str(error), EXIT_MISSING) from error
        except (ProcessFailed, CollectError) as error:
            raise Refused(str(error), EXIT_FAILED) from error


def _real_parts(plan: Plan, request: Request) -> frozenset[str]:
    from clawsim.live.selection import UnknownPart, everything, select

    if not request.real:
        return everything(plan)
    try:
        real = select(plan, request.real)
    except UnknownPart as error:
        raise Refused(f"--real: {error}", EXIT_USAGE) from error
    if not real:
        raise Refused("--real: names nothing", EXIT_USAGE)
    return real


@contextmanager
def _run_directory(request: Request) -> Iterator[Path]:
    """Where the processes keep their state: beside the results, or in a temporary place."""
    if request.out is not None:
        path = request.out / "run"
        _clear(path)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="clawsim-", ignore_cleanup_errors=True) as path_text:
        yield Path(path_text) / "run"


def _clear(path: Path) -> None:
    """Removes what an earlier run left at `path`; what is not a run's is not ours to remove."""
    if path.exists() and any(path.iterdir()) and not (path / "inventory.json").exists():
        raise Refused(f"--out: {path} exists and is not the state of an earlier run; choose another place", EXIT_USAGE)
    shutil.rmtree(path, ignore_errors=True)


def _check_writable(request: Request) -> None:
    if request.out is not None:
        try:
            request.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Refused(f"--out {request.out}: {error.strerror}", EXIT_USAGE) from error
        if not os.access(request.out, os.W_OK):
            raise Refused(f"--out {request.out}: cannot be written to", EXIT_USAGE)
    if request.junit is not None:
        _check_junit(request.junit)


def _check_junit(path: Path) -> None:
    if path.is_dir():
        raise Refused(f"--junit {path}: is a directory", EXIT_USAGE)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"--junit {path}: {error.strerror}", EXIT_USAGE) from error
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise Refused(f"--junit {path}: cannot be written to", EXIT_USAGE)


def _report(found: Run, request: Request, console: Console) -> None:
    if request.junit is not None:
        with runner.naming(request.junit):
            write_junit(request.junit, found.outcome)
    if request.as_json:
        print(runner.summary_text(found.outcome))
        return
    show(console, found.outcome, found.events)
    if request.out is not None:
        console.print(f"Events and summary are in {request.out}")


@contextmanager
def _progress(plan: Plan) -> Iterator[runner.Progress]:
    """A live line on the terminal: a bar over simulated time, readings, and the last thing that happened."""
    console = Console(stderr=True, markup=False, highlight=False)
    with ExitStack() as stack:
        if not console.is_terminal:
            yield lambda status: None
            return
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[at]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[state]}", markup=False),
            console=console,
            transient=True,
        )
        stack.enter_context(bar)
        task = bar.add_task(plan.name, total=plan.duration_us, at="", state="starting")

        def update(status: Status) -> None:
            last = f", {status.last.kind} {status.last.who}" if status.last else ""
            bar.update(
                task,
                completed=min(status.t_us, status.end_us),
                at=f"{clock(status.t_us)} of {clock(status.end_us)}",
                state=f"{status.produced:,} readings, {status.stored:,} stored{last}",
            )

        yield update
