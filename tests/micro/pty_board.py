"""A board that is a process: MicroPython with its own raw REPL, a directory for its flash, and a fake `machine`.

Its serial port is a PTY on its side and a TCP connection on ours, `socket://`; what it says while nobody listens is
lost, as on USB. What a reset ends is begun again, as on a desk.
"""

import contextlib
import os
import pty
import select
import socket
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
        boards.micropython()
        self._ours, self._theirs = pty.openpty()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"socket://127.0.0.1:{self._server.getsockname()[1]}"
        self._start()
        self._threads = [threading.Thread(target=work) for work in (self._keep, self._relay)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._on = False
        self._process.kill()
        for thread in self._threads:
            thread.join()
        self._server.close()
        os.close(self._ours)
        os.close(self._theirs)

    def cut_power(self) -> None:
        """For a moment: SIGKILL, and a start from flash."""
        self._process.kill()

    def _start(self) -> None:
        self.starts += 1
        mode = termios.tcgetattr(self._theirs)
        mode[0] = mode[1] = 0
        mode[3] = termios.ISIG | termios.NOFLSH
        termios.tcsetattr(self._theirs, termios.TCSANOW, mode)
        command = boards.command(PARTS / "power_on.py", heap=HEAP)
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            cwd=self.root, env={**os.environ, "MICROPYPATH": str(PARTS)},
            stdin=self._theirs, stdout=self._theirs, stderr=self._theirs,
        )  # fmt: skip

    def _keep(self) -> None:
        while self._process.wait() is not None and self._on:
            self._start()

    def _relay(self) -> None:
        """Bytes both ways, to one listener at a time."""
        listener: socket.socket | None = None
        while self._on:
            wanted = [self._ours, self._server, *([listener] if listener else [])]
            for ready in select.select(wanted, [], [], 0.1)[0]:
                if ready is self._server:
                    if listener:
                        listener.close()
                    listener = self._server.accept()[0]
                elif ready == self._ours:
                    said = os.read(self._ours, 4096)
                    with contextlib.suppress(OSError):
                        if listener:
                            listener.sendall(said)
                elif listener:
                    listener = _taken(listener, self._ours)
        if listener:
            listener.close()


def _taken(listener: socket.socket, board: int) -> socket.socket | None:
    """What the listener sends goes to the board; None when it has gone."""
    try:
        data = listener.recv(4096)
    except OSError:
        data = b""
    if not data:
        listener.close()
        return None
    os.write(board, data)
    return listener
