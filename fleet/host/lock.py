"""One server per data directory: a lock that dies with its process."""

import fcntl
import os
from pathlib import Path

from firmware.hosting.lifecycle import CannotRun

LOCK_FILE = "server.lock"


class DirectoryLock:
    """Holds `DIR/server.lock` from construction until `release`; raises CannotRun when another process has it."""

    def __init__(self, data: Path) -> None:
        try:
            data.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._handle = os.open(data / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CannotRun(f"{data}: {error.strerror}") from None
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = _holder(self._handle)[0]
            os.close(self._handle)
            raise CannotRun(f"{data}: another fleet server works in this directory (process {holder or '?'})") from None
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"{os.getpid()}\n".encode(), 0)

    def tell(self, url: str) -> None:
        """Where this server's API is, for whoever works on the same machine."""
        os.pwrite(self._handle, f"{os.getpid()}\n{url}\n".encode(), 0)

    def release(self) -> None:
        """Lets the next server in."""
        os.close(self._handle)


def is_held(data: Path) -> bool:
    """Whether a server works in `data`."""
    return _held_by(data) is not None


def running_at(data: Path) -> str | None:
    """The URL of the API of the server that works in `data`; None when none does, or it is not ready yet."""
    holder = _held_by(data)
    return None if holder is None else holder[1] or None


def _held_by(data: Path) -> tuple[str, str] | None:
    """The process that works in `data` and its URL, each empty when it is not known."""
    try:
        handle = os.open(data / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return _holder(handle)
    finally:
        os.close(handle)
    return None


def _holder(handle: int) -> tuple[str, str]:
    """The process that wrote the file, and its URL."""
    lines = os.pread(handle, 512, 0).decode(errors="replace").splitlines()
    process, url = [*lines, "", ""][:2]
    return process.strip(), url.strip()
