"""What a running daemon says about itself: a small JSON file beside its outbox, and the lock that shows it runs."""

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from firmware.hosting.lifecycle import CannotRun

STATUS_FILE = "status.json"
LOCK_FILE = "lock"


class DataLock:
    """The right to use a data directory; raises `CannotRun` when another daemon has it or it cannot be used."""

    def __init__(self, directory: Path) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._fd = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CannotRun(f"cannot use the data directory {directory}: {error.strerror}") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise CannotRun(
                f"another gateway is running on {directory}: stop it, or use another data directory"
            ) from None

    def close(self) -> None:
        """Let go of the directory."""
        os.close(self._fd)


def is_running(directory: Path) -> bool:
    """Whether a daemon has the data directory; looking leaves nothing there.

    Raises PermissionError for a user who may not look.
    """
    try:
        lock = os.open(directory / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        raise
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # two who look do not take each other for a daemon
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def write_status(directory: Path, status: dict[str, Any]) -> None:
    """Replace the status file in one step. Raises OSError."""
    fresh = directory / (STATUS_FILE + ".new")
    fresh.write_text(json.dumps(status))
    fresh.replace(directory / STATUS_FILE)


def read_status(directory: Path) -> dict[str, Any]:
    """The last status that was written; {} when there is none or it is damaged."""
    try:
        status = json.loads((directory / STATUS_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}


def moved_aside(directory: Path) -> list[str]:
    """Outboxes that could not be read and lie beside the one in use, for somebody to look at or to remove."""
    return sorted(
        path.name
        for path in directory.glob("outbox.sqlite.broken-*")
        if path.suffix.removeprefix(".broken-").isdecimal()
    )
