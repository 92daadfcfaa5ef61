"""Whether the disk of a run can still take what its processes write.

A process whose disk is full cannot even say so: its log lies there too. So the run asks for itself, now and then, and
whenever a process has died.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

LEAST_FREE_BYTES = 256 * 1024
"""With less than this an outbox, a database or a trace may fail at its next write."""
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def check_room(directory: Path) -> None:
    """Raises OSError, naming ``directory``, when its disk is full or broken."""
    probe = os.open(directory / ".room", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(probe, 0, LEAST_FREE_BYTES)
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise OSError(error.errno, error.strerror, str(directory)) from None
    finally:
        os.ftruncate(probe, 0)
        os.close(probe)
