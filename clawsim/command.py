"""`clawsim run`: carries out a request and tells the person at the terminal; every way it can end has an exit code."""

import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clawsim import run as runner
from clawsim import rundir
from clawsim.junit import write_junit, write_unfinished
from clawsim.progress import live_line
from clawsim.report import show
from clawsim.run import Run
from clawsim.scenario.plan import Plan
from clawsim.terminal import Output, complain, say, stdout_is_plain

EXIT_USAGE = 2
EXIT_MISSING = 3
EXIT_INTERRUPTED = 130
EXIT_FAILED = 1
INTERRUPTED = "interrupted: nothing was left running"


@dataclass(frozen=True)
class Request:
    """What `clawsim run` was asked for."""

    world: str
    options: Mapping[str, Any]
    """Of a live run: timescale, broker, nodes_as."""
    real: tuple[str, ...]
    out: Path | None
    as_json: bool
    junit: Path | None


class Refused(Exception):
    """The run cannot be done as asked; the text says why, `exit_code` how it ends."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def execute(plan: Plan, request: Request) -> int:
    """Run `plan`, report, and return the exit code."""
    try:
        with _interruptible():
            return _carried_out(plan, request)
    except KeyboardInterrupt:
        code, why = EXIT_INTERRUPTED, INTERRUPTED
    except Refused as refusal:
        code, why = refusal.exit_code, str(refusal)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        code, why = EXIT_MISSING, f"{where}{error.strerror or error}"
    complain(why)
    unfinished(request.junit, plan.name, why)
    return code


def unfinished(junit: Path | None, scenario: str, why: str) -> None:
    """A CI system that reads `junit` is told that there was no verdict, and is not shown an older one."""
    if junit is not None and _junit_refusal(junit) is None:
        with suppress(OSError):  # a full disk was said where it mattered
            write_unfinished(junit, scenario, why)


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends a run in good order, as Ctrl-C does; whoever starts it with Ctrl-C ignored wants it so."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if before[signal.SIGINT] is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _carried_out(plan: Plan, request: Request) -> int:
    _check_writable(request)
    _forget_earlier(request)
    with live_line(plan.name, plan.duration_us) as progress:
        found = _run(plan, request, progress)
    _report(found, request)
    if found.complaint:
        complain(found.complaint)
    return found.outcome.exit_code


def _forget_earlier(request: Request) -> None:
    """What an earlier run says must not be taken for this one's word, should this one not come to its end."""
    for path in (request.out / "summary.json" if request.out else None, request.junit):
        if path is not None and path.resolve().is_file():
            path.resolve().unlink()


def _run(plan: Plan, request: Request, progress: runner.Progress) -> Run:
    if request.world == "virtual" and not request.real:
        return runner.run_virtual(plan, request.out, progress)
    from clawsim.live.collect import CollectError
    from clawsim.live.deploy import DeployError
    from clawsim.live.processes import ProcessFailed
    from clawsim.live.run import MissingProgram

    real = _real_parts(plan, request)
    place = rundir.temporary() if request.out is None else rundir.beside(request.out)
    try:
        with place as run_dir:
            return runner.run_live(plan, run_dir, request.out, progress, real, **request.options)
    except rundir.NotOurs as error:
        raise Refused(f"--out: {error}", EXIT_USAGE) from error
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


def _check_writable(request: Request) -> None:
    if request.out is not None:
        try:
            request.out.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise Refused(f"--out {request.out}: is not a directory", EXIT_USAGE) from error
        except OSError as error:
            raise Refused(f"--out {request.out}: {error.strerror}", EXIT_USAGE) from error
        if not os.access(request.out, os.W_OK):
            raise Refused(f"--out {request.out}: cannot be written to", EXIT_USAGE)
    if request.junit is not None and (why := _junit_refusal(request.junit)):
        raise Refused(f"--junit {request.junit}: {why}", EXIT_USAGE)


def _junit_refusal(path: Path) -> str | None:
    """Why no report can be written to `path`; its directory is made."""
    if path.is_dir():
        return "is a directory"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return error.strerror
    return None if os.access(path if path.exists() else path.parent, os.W_OK) else "cannot be written to"


def _report(found: Run, request: Request) -> None:
    if request.junit is not None:
        with runner.naming(request.junit):
            write_junit(request.junit, found.outcome)
    if request.as_json:
        say(json.dumps(found.outcome.as_json(), indent=2, ensure_ascii=stdout_is_plain()))
        return
    console = Output()
    show(console, found.outcome, found.events)
    if request.out is not None:
        console.print(f"Events and summary are in {request.out}")
