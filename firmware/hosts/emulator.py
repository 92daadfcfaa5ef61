"""Boards that QEMU emulates: a Cortex-M3 each, whose UART is a TCP port of this machine and whose flash is a file.

The file is the board's memory behind the program's (`firmware.hosts.micro.memory`), shared with QEMU: what the node
has written there outlives QEMU, however it ends. A board dies with the process that started it.
"""

import os
import random
import shutil
import socket
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from firmware.hosting.config import ConfigError
from firmware.hosting.lifecycle import CannotRun
from firmware.hosts.build import node_json, refuse_board
from firmware.hosts.flash import MEMORY_FILE, FlashInUse, lock_flash
from firmware.hosts.micro import memory
from firmware.hosts.settings import NodeSettings

IMAGE = Path(__file__).resolve().parents[2] / ".cache" / "boards" / "mps2.elf"
TARGET = "the serial line"
"""Where a board's gateway is, as its log lines say."""
_MOST_TIMESCALE = 100
_CODE_CACHE_MB = 16
"""For what QEMU translates of the program, per board."""


@dataclass(frozen=True)
class Emulation:
    """How boards are to run: the image of their program, how much faster than the wall their time goes, and where
    their events go, one file a board, if anywhere."""

    image: Path = IMAGE
    timescale: float = 1
    traces: Path | None = None

    def prepare(self) -> None:
        """Raises `CannotRun` when something is missing, and `ConfigError` for what cannot be."""
        if not self.image.is_file():
            raise CannotRun(f"{self.image}: there is no such image of a board: `make boards` builds one")
        for program in ("qemu-system-arm", "setpriv"):
            if shutil.which(program) is None:
                raise CannotRun(f"the program {program} is not installed: `make boards` installs what boards need")
        if not 0 < self.timescale <= _MOST_TIMESCALE:
            raise ConfigError(f"--timescale: must be above 0 and at most {_MOST_TIMESCALE}, not {self.timescale:g}")
        if self.traces is not None:
            try:
                self.traces.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise CannotRun(f"{self.traces}: cannot be made: {error.strerror}") from None


class EmulatedBoard:
    """One board, switched on from construction until `stop`."""

    def __init__(self, settings: NodeSettings, source: Path, emulation: Emulation, port: int = 0) -> None:
        """`source` is where the settings came from; a `port` of 0 lets the system choose.

        Raises `ConfigError` for what no board can do and `CannotRun` for what is missing or taken."""
        self.id = settings.id
        self.memory_file = settings.data / MEMORY_FILE
        told = told_to_board(settings, source, emulation)
        try:
            settings.data.mkdir(parents=True, exist_ok=True)
            self._lock = lock_flash(settings.data)
        except (OSError, FlashInUse) as error:
            raise CannotRun(f"{self.id}: {error}") from None
        try:
            lay_out(self.memory_file, told)
            with socket.create_server(("127.0.0.1", port)) as uart:
                self.url = f"socket://127.0.0.1:{uart.getsockname()[1]}"
                self._qemu = _start(self._command(emulation, uart.fileno()), uart.fileno())
        except OSError as error:
            os.close(self._lock)
            raise CannotRun(f"{self.id}: {error.filename or f'port {port}'}: {_reason(error)}") from None

    @property
    def pid(self) -> int:
        """QEMU's process."""
        return self._qemu.pid

    def ended(self) -> int | None:
        """QEMU's exit code (negative for a signal) when it has ended by itself."""
        return self._qemu.poll()

    def stop(self) -> None:
        """Switch the board off, as a loss of power does."""
        self._qemu.kill()
        self._qemu.wait()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _command(self, emulation: Emulation, uart: int) -> list[str]:
        ram = f"memory-backend-file,id=ram,size={memory.MEMORY_BYTES},share=on,mem-path={_quoted(self.memory_file)}"
        command = ["setpriv", "--pdeathsig", "KILL", "qemu-system-arm", "-machine", "mps2-an385,memory-backend=ram"]
        command += ["-object", ram, "-accel", f"tcg,tb-size={_CODE_CACHE_MB}", "-kernel", str(emulation.image)]
        command += ["-display", "none", "-monitor", "none"]
        command += ["-chardev", f"socket,id=line,fd={uart},server=on,wait=off,nodelay=on", "-serial", "chardev:line"]
        command += ["-chardev", "file,id=log,append=on,path=/dev/stderr", "-serial", "chardev:log"]
        if emulation.traces is not None:
            trace = _quoted(emulation.traces / f"{self.id}.trace")
            command += ["-chardev", f"file,id=trace,append=on,path={trace}", "-serial", "chardev:trace"]
        return command


def told_to_board(settings: NodeSettings, source: Path, emulation: Emulation) -> dict[str, Any]:
    """What the board reads at power-on. It has no source of chance of its own, so it is given a new seed each time.

    Raises `ConfigError` for what it cannot be told."""
    refuse_board(settings, source)
    told = node_json(replace(settings, tls=None), source)  # its gateway is whoever is at the other end of the line
    told["core"]["wired"] = True
    told["core"]["home"]["target"] = TARGET
    if told["seed"] is None:
        told["seed"] = random.SystemRandom().getrandbits(30)
    told["timescale"] = emulation.timescale
    told["trace"] = emulation.traces is not None
    return told


def lay_out(path: Path, told: dict[str, Any]) -> None:
    """Write what the board is told into its memory, and leave what is in its flash. Raises OSError."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "r+b") as file:
        before = memory.decode(file.read(memory.FLASH_AT))
        if before is not None:  # a smaller backlog must not cut off what is kept already
            told["flash"]["sectors"] = max(told["flash"]["sectors"], before["flash"]["sectors"])
        file.truncate(memory.MEMORY_BYTES)
        file.seek(0)
        file.write(memory.encode(told))


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def _start(command: list[str], uart: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[uart], start_new_session=True)


def _quoted(path: Path) -> str:
    """A path in a list of QEMU's options, where two commas stand for one."""
    return str(path.resolve()).replace(",", ",,")
