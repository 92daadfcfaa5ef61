"""The `--sim-clock` protocol: a process is started, says that it is ready, and is handed the clock of the run.

1. With its sockets bound the process prints one JSON line on stdout: `{"ready": true, "pid": 4711, …ports}`.
2. It reads one JSON line from stdin, `{"t0_monotonic_ns": …, "timescale": 30, "epoch_utc_ms": …}`, and only then opens
   its state and starts its core: a stand-by process may be spawned early.
3. When stdin ends, the process exits, so that whoever started it leaves no orphan even when killed.

A process that restarts itself (`execv`) hands the clock on in its environment and skips steps 1 and 2.
"""

import asyncio
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from firmware.hosting.clock import Clock, ScaledClock, WallClock

INHERITED_CLOCK = "CLAWLAND_INHERITED_CLOCK"
MAX_LINE_BYTES = 4096
# After the end of stdin a process has this long to stop by itself.
ORPHAN_GRACE_S = 3.0


class SimClockError(Exception):
    """The line on stdin is not a clock; the message says why."""


class Orphaned(Exception):
    """Stdin ended before the clock came: nobody is waiting for this process."""


async def start_clock(sim_clock: bool, ports: Mapping[str, int], stop: asyncio.Event) -> Clock:
    """The clock of this process: the wall's, or with `sim_clock` the one that stdin brings.

    Returns once the run's time has begun. `ports` goes into the ready line; `stop` is set when stdin ends. Raises
    `SimClockError` or `Orphaned`.
    """
    if not sim_clock:
        return WallClock()
    inherited = os.environ.pop(INHERITED_CLOCK, None)
    if inherited is None:
        _print_ready(ports)
    first_line = _watch_stdin(stop, wants_line=inherited is None)
    clock = parse_clock(inherited if inherited is not None else await first_line)
    await asyncio.sleep(clock.wall_s(-clock.now_ms()))  # t0 may lie ahead, so that all start together
    return clock


def inheritable(clock: Clock) -> dict[str, str]:
    """The environment variable with which a process hands its clock to the image that replaces it."""
    return {INHERITED_CLOCK: json.dumps(clock.as_dict())} if isinstance(clock, ScaledClock) else {}


def parse_clock(line: str | bytes) -> ScaledClock:
    """The clock that a JSON line describes; raises `SimClockError`."""
    try:
        return ScaledClock.from_dict(json.loads(line))
    except ValueError as error:
        raise SimClockError(f"--sim-clock: stdin must bring one JSON line with the clock: {error}") from None


def _print_ready(ports: Mapping[str, int]) -> None:
    line: dict[str, Any] = {"ready": True, "pid": os.getpid(), **ports}
    print(json.dumps(line), flush=True)


def _watch_stdin(stop: asyncio.Event, wants_line: bool) -> asyncio.Future[bytes]:
    """Read stdin in a thread (it may be a file, a pipe or a terminal), for one line and then for its end."""
    loop = asyncio.get_running_loop()
    line: asyncio.Future[bytes] = loop.create_future()
    watcher = threading.Thread(target=_read_stdin, args=(loop, line, stop, wants_line), name="stdin", daemon=True)
    watcher.start()
    return line


def _read_stdin(
    loop: asyncio.AbstractEventLoop, line: asyncio.Future[bytes], stop: asyncio.Event, wants_line: bool
) -> None:
    if wants_line:
        first = _read_line()
        with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
            loop.call_soon_threadsafe(_resolve, line, first)
    while _read_some():
        pass
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(stop.set)
    time.sleep(ORPHAN_GRACE_S)
    os._exit(1)


def _read_line() -> bytes:
    """Stdin up to its first line feed, unbuffered so that an `execv` loses nothing."""
    line = b""
    while not line.endswith(b"\n") and len(line) < MAX_LINE_BYTES:
        byte = os.read(sys.stdin.fileno(), 1)
        if not byte:
            break
        line += byte
    return line


def _read_some() -> bytes:
    try:
        return os.read(sys.stdin.fileno(), 4096)
    except OSError:
        return b""


def _resolve(line: asyncio.Future[bytes], value: bytes) -> None:
    if line.done():
        return
    if value:
        line.set_result(value)
    else:
        line.set_exception(Orphaned("stdin ended before it brought a clock"))
