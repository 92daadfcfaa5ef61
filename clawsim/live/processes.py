"""The child processes of a live run: how they are started, faulted and ended, and that none is left behind.

Three things end a child whose parent is gone, however it went: its stdin ends (the `--sim-clock` protocol), the kernel
sends it SIGKILL (PR_SET_PDEATHSIG), and a parent that still can kills the child's whole process group.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psutil

READY_TIMEOUT_S = 30.0
"""Wall time that a process has to load its libraries and bind its sockets."""
GRACE_S = 10.0
"""Wall time that a process has to end by itself once asked to."""
LOG_TAIL_LINES = 12
LOG_TAIL_BYTES = 8192
MOST_READY_LINE_BYTES = 65_536

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_libc = ctypes.CDLL(None, use_errno=True)

T = TypeVar("T")


class ProcessFailed(Exception):
    """A child could not start, or ended when nobody had asked it to; the message has the last lines of its log."""

    def __init__(self, who: str, what: str, log_tail: str = "", reason: str = "") -> None:
        super().__init__(f"{who} {what}{log_tail}")
        self.who = who
        self.what = what
        self.reason = reason or what


def python_command(module: str, *arguments: str) -> list[str]:
    """The command line of one of our own console commands, run by this interpreter: ``module`` is ``fleet.cli``."""
    return [sys.executable, "-P", "-c", f"from {module} import main; main()", *arguments]


def _environment() -> dict[str, str]:
    # Ours alone is what a run is told. And without compiled files each start would compile all its libraries anew.
    unwanted = ("CLAWLAND_", "PYTHONDONTWRITEBYTECODE")
    return {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """One process and the group that it leads; made by :meth:`Supervisor.spawn`, ready when that returns."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log_path: Path) -> None:
        self.name = name
        self.log_path = log_path
        self.ready: Mapping[str, Any] = {}
        self.may_exit = False
        """Set before anything is done that ends the process: whoever sets it answers for the exit."""
        self._process = process
        self._drain: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for a signal; ``None`` while it runs."""
        return self._process.returncode

    @property
    def is_running(self) -> bool:
        return self.returncode is None

    @property
    def is_alive(self) -> bool:
        """Whether the kernel still runs it; a killed one is dead before anyone has reaped it."""
        return self.is_running and self._state() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)

    @property
    def is_stopped(self) -> bool:
        """Whether the kernel has stopped it (SIGSTOP)."""
        return self._state() == psutil.STATUS_STOPPED

    async def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Reads the ready line; :class:`ProcessFailed` when there is none in time."""
        try:
            line = await asyncio.wait_for(self._stdout().readline(), timeout_s)
        except TimeoutError:
            raise ProcessFailed(self.name, f"is not ready after {timeout_s:g} s", self.log_tail()) from None
        except ValueError:
            line = b"(a line too long)"
        if not line:
            await self._process.wait()
            raise self.failure("ended before it was ready")
        self.ready = self._parse_ready(line)
        self._drain = asyncio.create_task(self._drain_stdout())

    def give_clock(self, clock: Mapping[str, float]) -> None:
        """Starts the process's time: ``t0_monotonic_ns``, ``timescale``, ``epoch_utc_ms``. Nothing if it has died."""
        stdin = self._process.stdin
        if stdin is not None and self.is_running:
            stdin.write(json.dumps(dict(clock)).encode() + b"\n")

    def kill(self) -> None:
        """SIGKILL to the whole group: no last words."""
        self.may_exit = True
        self._signal_group(signal.SIGKILL)

    def stop(self) -> None:
        """SIGSTOP to the whole group."""
        self._signal_group(signal.SIGSTOP)

    def cont(self) -> None:
        """SIGCONT to the whole group."""
        self._signal_group(signal.SIGCONT)

    def send(self, number: signal.Signals) -> None:
        """A signal to the process itself."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def terminate(self, grace_s: float = GRACE_S) -> bool:
        """SIGTERM, then SIGKILL after ``grace_s``; whether it went by itself."""
        self.may_exit = True
        self.cont()
        self.send(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), grace_s)
        except TimeoutError:
            self.kill()
            await self._process.wait()
            return False
        self._signal_group(signal.SIGKILL)  # what it may have left behind in its group
        return True

    async def wait(self) -> int:
        """Waits for its end and returns the exit code."""
        return await self._process.wait()

    async def release(self) -> None:
        """Lets go of the pipes of a process that has ended."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._drain is not None:
            self._drain.cancel()

    def how_it_ended(self) -> str:
        """The exit code or the signal, in words."""
        code = self.returncode
        if code is None:
            return "still running"
        return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"

    def failure(self, what: str) -> ProcessFailed:
        """``what`` happened to it, with the way in which it ended and its last words."""
        ended = self.how_it_ended()
        return ProcessFailed(self.name, f"{what} ({ended})", self.log_tail(), ended)

    def log_tail(self) -> str:
        """The last lines of its log, indented under a heading; empty when it wrote none."""
        with contextlib.suppress(OSError), self.log_path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()[-LOG_TAIL_LINES:]
            if lines:
                return f"; the end of {self.log_path}:\n" + "\n".join("    " + line for line in lines)
        return ""

    def _parse_ready(self, line: bytes) -> Mapping[str, Any]:
        with contextlib.suppress(ValueError):
            said = json.loads(line)
            if isinstance(said, dict) and said.get("ready") is True:
                return said
        raise ProcessFailed(self.name, f"did not say that it is ready, but {line[:200]!r}", self.log_tail())

    def _state(self) -> str:
        with contextlib.suppress(psutil.NoSuchProcess):
            return str(psutil.Process(self.pid).status())
        return str(psutil.STATUS_DEAD)

    def _stdout(self) -> asyncio.StreamReader:
        if self._process.stdout is None:
            raise ProcessFailed(self.name, "has no stdout")
        return self._process.stdout

    async def _drain_stdout(self) -> None:
        with self.log_path.open("ab") as log:
            while chunk := await self._stdout().read(65_536):
                log.write(chunk)

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


class Supervisor:
    """Owns the children: leaving its context kills and reaps every one of them, whatever the reason for leaving.

    SIGTERM to this process cancels the task that entered the context, as Ctrl-C does under :func:`asyncio.run`.
    ``log_dir`` gets one log file a child.
    """

    def __init__(self, log_dir: Path) -> None:
        self.children: list[Child] = []
        self._log_dir = log_dir
        self._watchers: set[asyncio.Task[None]] = set()
        self._crash: asyncio.Future[ProcessFailed] | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._crash = loop.create_future()
        owner = asyncio.current_task()
        if owner is not None:
            with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread
                loop.add_signal_handler(signal.SIGTERM, owner.cancel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for child in self.children:
            child.kill()
        await asyncio.shield(self._reap())
        with contextlib.suppress(ValueError, RuntimeError):
            asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)

    async def spawn(self, name: str, command: Sequence[str], ready_timeout_s: float = READY_TIMEOUT_S) -> Child:
        """Starts ``command`` and waits for its ready line; :class:`ProcessFailed` when it does not come.

        A program that is not there is :class:`ProcessFailed` too. Several children of one name share its log.
        """
        child = await self._start(name, command)
        self.children.append(child)
        await child.wait_ready(ready_timeout_s)
        watcher = asyncio.create_task(self._watch(child))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        return child

    async def guard(self, work: Awaitable[T]) -> T:
        """What ``work`` returns; :class:`ProcessFailed` when a child ends unasked before, which cancels it."""
        if self._crash is None:
            raise RuntimeError("guard() belongs inside the context")
        task = asyncio.ensure_future(work)
        try:
            both: set[asyncio.Future[Any]] = {task, self._crash}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise self._crash.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _start(self, name: str, command: Sequence[str]) -> Child:
        log_path = self._log_dir / f"{name}.log"
        with log_path.open("ab") as log:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=log,
                    cwd=self._log_dir,
                    env=_environment(),
                    start_new_session=True,
                    preexec_fn=_die_with_parent,
                    limit=MOST_READY_LINE_BYTES,
                )
            except OSError as error:
                raise ProcessFailed(name, f"cannot start: {command[0]}: {error.strerror}") from None
        return Child(name, process, log_path)

    async def _watch(self, child: Child) -> None:
        await child.wait()
        if not child.may_exit and self._crash is not None and not self._crash.done():
            self._crash.set_result(child.failure("ended unexpectedly"))

    async def _reap(self) -> None:
        for child in self.children:
            await child.wait()
            await child.release()
        for watcher in list(self._watchers):
            watcher.cancel()
