"""QEMU's Cortex-M3 board with the firmware frozen in, driven through the raw REPL on its UART."""

import socket
import subprocess
from types import TracebackType
from typing import Self

from tests.micro import boards

WAIT_S = 30.0


class EmulatedBoard:
    """A board that is switched on for the length of a `with`; its UART is a TCP connection that QEMU makes to us."""

    def __enter__(self) -> Self:
        boards.micropython()
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(WAIT_S)
            uart = f"tcp:127.0.0.1:{server.getsockname()[1]},nodelay=on"
            command = ["qemu-system-arm", "-machine", "mps2-an385", "-nographic", "-monitor", "none", "-semihosting"]
            image = boards.ROOT / ".cache" / "boards" / "mps2.elf"
            self._qemu = subprocess.Popen([*command, "-kernel", image, "-serial", uart])
            self._uart, _ = server.accept()
        self._uart.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._uart.settimeout(WAIT_S)
        self._until(b">>> ")
        self._uart.sendall(b"\x01")
        self._until(b"raw REPL; CTRL-B to exit\r\n>")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._uart.close()
        self._qemu.kill()
        self._qemu.wait()

    def run(self, code: str) -> str:
        """What `code` prints; an exception on the board fails the test."""
        self._uart.sendall(code.encode() + b"\x04")
        said, error, _ = self._until(b"\x04>").split(b"\x04")
        assert not error, error.decode()
        return said.decode().removeprefix("OK").replace("\r\n", "\n")

    def _until(self, end: bytes) -> bytes:
        data = b""
        while not data.endswith(end):
            more = self._uart.recv(4096)
            assert more, f"the board has died after {data!r}"
            data += more
        return data
