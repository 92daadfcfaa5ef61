"""How a process ends: a signal or the end of stdin asks it to stop, and exit codes say how it went."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Coroutine
from typing import Any, NoReturn, TypeVar

from firmware.hosting.pump import HostError
from firmware.hosting.simclock import Orphaned, SimClockError

EXIT_OK = 0
EXIT_FAILED = 1  # a bug or a broken machine: the log says which
EXIT_USAGE = 2  # bad command line or configuration
EXIT_MISSING = 3  # something the process needs is missing or taken: a port, a lock, a program

T = TypeVar("T")


class CannotRun(Exception):
    """Something that this process needs is missing or taken; the message is for the user."""


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set; whoever wants the process to stop may set it too."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def until(stop: asyncio.Event, *endings: Awaitable[None]) -> None:
    """Wait for `stop`, or for the first of `endings`, whose exception is raised."""
    tasks = [asyncio.ensure_future(waiting) for waiting in (stop.wait(), *endings)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()


async def unless_stopped(stop: asyncio.Event, waiting: Awaitable[T]) -> T | None:
    """What `waiting` gives, or None when `stop` is set before."""
    task, stopped = asyncio.ensure_future(waiting), asyncio.ensure_future(stop.wait())
    await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if task.done():
        return task.result()
    task.cancel()
    return None


def leave(code: int, message: str) -> NoReturn:
    """Print `message` on stderr and exit with `code`."""
    print(message, file=sys.stderr, flush=True)
    raise SystemExit(code)


def run_process(main: Coroutine[Any, Any, None]) -> None:
    """Run a host to its end and exit with the code that fits how it ended."""
    try:
        asyncio.run(main)
    except CannotRun as error:
        leave(EXIT_MISSING, f"error: {error}")
    except SimClockError as error:
        leave(EXIT_USAGE, f"error: {error}")
    except HostError:
        raise SystemExit(EXIT_FAILED) from None  # the pump has logged it
    except Orphaned:
        raise SystemExit(EXIT_OK) from None
