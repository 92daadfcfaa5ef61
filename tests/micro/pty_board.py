"""A board that is a process: MicroPython with its own raw REPL on a PTY, a directory for its flash, a fake `machine`.

What a reset ends is begun again, as on a desk.
"""

import os
import pty
import subprocess
import termios
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.micro import boards

PARTS = Path(__file__).with_name("board")
HEAP = "160k"  # about what an ESP32 or a Pico W has free
RESET = 75


class PtyBoard:
    """On its desk for the length of a `with`; `url` is its port."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.starts = 0
        self._on = True

    def __enter__(self) -> Self:
        self._ours, theirs = pty.openpty()
        self._theirs = theirs  # kept open: a board without power is still a port
        self.url = os.ttyname(theirs)
        mode = termios.tcgetattr(theirs)
        mode[0] = mode[1] = 0
        mode[3] = termios.ISIG | termios.NOFLSH
        termios.tcsetattr(theirs, termios.TCSANOW, mode)
        self._start()
        self._keeper = threading.Thread(target=self._keep)
        self._keeper.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.power_off()
        self._keeper.join()
        os.close(self._ours)
        os.close(self._theirs)

    def power_off(self) -> None:
        """At once, and for good."""
        self._on = False
        self._process.kill()

    def _start(self) -> None:
        self.starts += 1
        command = boards.command(PARTS / "power_on.py", heap=HEAP)
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            cwd=self.root, env={**os.environ, "MICROPYPATH": str(PARTS)},
            stdin=self._theirs, stdout=self._theirs, stderr=self._theirs,
        )  # fmt: skip

    def _keep(self) -> None:
        while self._process.wait() == RESET and self._on:
            self._start()
