"""One server per data directory, or several that share a database elsewhere: a lock that dies with its process."""

import fcntl
import os
from pathlib import Path

from firmware.hosting.lifecycle import CannotRun

LOCK_FILE = "server.lock"


class DirectoryLock:
    """Holds `DIR/server.lock` from construction until `release`; raises CannotRun when another process has it."""

    def __init__(self, data: Path, shared: bool = False) -> None:
        """`shared`: beside others that share it; what needs the directory for itself waits for all of them to go."""
        try:
            data.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._handle = os.open(data / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CannotRun(f"{data}: {error.strerror}") from None
        try:
            fcntl.flock(self._handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._handle, 32, 0).decode(errors="replace").strip()
            os.close(self._handle)
            raise CannotRun(f"{data}: another fleet server works in this directory (process {holder or '?'})") from None
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Lets the next server in."""
        os.close(self._handle)
