"""A board at a serial port, as `firmware flash` and `firmware bench` use it: MicroPython's raw REPL by mpremote.

A port is whatever pyserial opens: /dev/ttyACM0, a PTY, socket://host:port, rfc2217://host:port.
"""

import ast
import contextlib
import io
import time
from binascii import b2a_base64
from collections.abc import Callable, Iterable, Iterator
from typing import Any

MAX_LINE_BYTES = 4096
_OPEN_EVERY_S = 0.3
_ANSWER_S = 5.0  # one answer of a board that is busy with its flash
_LONGEST_S = 20.0
"""Of one turn; a board that restarted by itself talks on, and never says what mpremote waits for."""
_CHUNK_BYTES = 1536
"""2 KB in Base64: what the smallest of these boards compiles with ease, and as few turns as can be."""
_REMOVE = """
import os
def _rm(path):
    try:
        kind = os.stat(path)[0]
    except OSError:
        return
    if kind & 0x4000:
        for name in os.listdir(path):
            _rm(path + "/" + name)
        os.rmdir(path)
    else:
        os.remove(path)
"""
_HASH = """
import binascii, hashlib
def _hash(path):
    found, piece = hashlib.sha256(), bytearray(512)
    with open(path, "rb") as file:
        while True:
            size = file.readinto(piece)
            if not size:
                return binascii.hexlify(found.digest()).decode()
            found.update(memoryview(piece)[:size])
"""
_MAKE = """
import os
def _make(path):
    try:
        os.mkdir(path)
    except OSError:
        pass
"""


class PortError(Exception):
    """The board cannot be reached, or does not do what it is told; the message says what to do."""


class BoardPort:
    """An open port with the board at its raw REPL: whatever it ran is interrupted."""

    def __init__(self, url: str, wait_s: float) -> None:
        """Raises `PortError` when there is no MicroPython at the port within `wait_s`."""
        self.url = url
        self._transport = _bounded(_open(url, wait_s))
        self._lost = False
        try:
            self._call(self._transport.enter_raw_repl, soft_reset=False)
        except PortError:
            self.close()
            raise PortError(
                f"{url}: no MicroPython answers there. Is it a board with MicroPython on it? Press its reset button "
                "and try again at once"
            ) from None

    def close(self) -> None:
        """Let go of the port."""
        with contextlib.suppress(OSError):
            self._transport.close()

    def run(self, code: str) -> str:
        """What `code` prints."""
        return str(self._call(self._transport.exec, code).decode(errors="replace"))

    def answer(self, code: str) -> Any:
        """What `code` prints, a literal."""
        try:
            return ast.literal_eval(self.run(code).strip())
        except (ValueError, SyntaxError):
            raise PortError(f"{self.url}: the board answers what makes no sense") from None

    def write(self, path: str, data: bytes) -> None:
        """Write a file; its directory must be there."""
        for at in range(0, max(len(data), 1), _CHUNK_BYTES):
            piece, mode = b2a_base64(data[at : at + _CHUNK_BYTES]), "ab" if at else "wb"
            self.run(f"import binascii\nwith open({path!r}, {mode!r}) as f: f.write(binascii.a2b_base64({piece!r}))")

    def make_directories(self, paths: Iterable[str]) -> None:
        """Make directories, parents first; what is there already stays."""
        self.run(f"{_MAKE}\nfor path in {list(paths)!r}: _make(path)")

    def remove(self, path: str) -> None:
        """Remove a file or a whole directory, if it is there."""
        self.run(f"{_REMOVE}\n_rm({path!r})")

    def rename(self, old: str, new: str) -> None:
        """Put one file in the place of another, in one step."""
        self.run(f"import os\nos.rename({old!r}, {new!r})")

    def text(self, path: str) -> str | None:
        """The beginning of a text file, None when there is none."""
        code = f"try:\n    print(repr(open({path!r}).read(2048)))\nexcept OSError:\n    print(None)"
        found = self.answer(code)
        return None if found is None else str(found)

    def hashes(self, paths: Iterable[str]) -> dict[str, str]:
        """SHA-256 of files as the board reads them back, in hexadecimal."""
        wanted = list(paths)
        self.run(_HASH)
        found = self.run(f"for path in {wanted!r}: print(_hash(path))").split()
        return dict(zip(wanted, found, strict=False))

    def reset(self) -> None:
        """Restart the board, as its button does, and let go of the port; one that does not listen is left alone."""
        with contextlib.suppress(PortError):
            if not self._lost:
                self._call(self._transport.exec_raw_no_follow, "import machine\nmachine.reset()\n")
        self.close()

    def _call(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What mpremote does; it prints what it cannot make sense of, which helps nobody here."""
        from mpremote.transport import TransportError, TransportExecError

        try:
            with contextlib.redirect_stdout(io.StringIO()):
                return work(*args, **kwargs)
        except TransportExecError as error:
            last = str(error.error_output).strip().splitlines()[-1:] or ["an error"]
            raise PortError(f"{self.url}: the board says {last[0]}") from None
        except (TransportError, OSError, ValueError, IndexError) as error:
            self._lost = True
            # Not what it read instead: a board that restarted may echo what was on its way, and that may be a key.
            what = str(error).partition(":")[0].partition("(")[0].strip()
            why = "Did it restart, or is the cable loose? Try again"
            raise PortError(f"{self.url}: the connection to the board fails ({what}). {why}") from None


def lines(url: str, until_s: float, wait_s: float) -> Iterator[str]:
    """What the board says from now on, line by line, until the clock is at `until_s` (monotonic).

    Raises `PortError` when the port cannot be opened within `wait_s`; a port that vanishes ends it.
    """
    port = open_port(url, wait_s)
    rest = b""
    try:
        while time.monotonic() < until_s:
            rest += port.read(max(1, min(port.in_waiting, MAX_LINE_BYTES)))
            *whole, rest = rest.split(b"\n")
            yield from (readable(line) for line in whole)
            rest = rest[-MAX_LINE_BYTES:]
    except OSError:  # pyserial's own errors are among them
        return
    finally:
        with contextlib.suppress(OSError):
            port.close()


def readable(line: bytes) -> str:
    """A line as text that no terminal takes for a command."""
    text = line.decode("utf-8", errors="replace").rstrip("\r")
    return "".join(sign if sign.isprintable() or sign == "\t" else "\N{REPLACEMENT CHARACTER}" for sign in text)


def open_port(url: str, wait_s: float) -> Any:
    """The port by pyserial, once it is there. Raises `PortError`."""
    import serial

    deadline_s = time.monotonic() + wait_s
    while True:
        try:
            return serial.serial_for_url(url, baudrate=115200, timeout=0.2)
        except (OSError, ValueError) as error:
            if time.monotonic() >= deadline_s or isinstance(error, ValueError):
                raise PortError(_no_port(url, error)) from None
        time.sleep(_OPEN_EVERY_S)


def need_libraries() -> None:
    """Raises `PortError` where mpremote is not installed; it brings pyserial along."""
    try:
        import mpremote  # noqa: F401
        import serial  # noqa: F401
    except ImportError:
        raise PortError("mpremote is missing: pip install 'clawsim[node]'") from None


def _open(url: str, wait_s: float) -> Any:
    need_libraries()
    from mpremote.transport import TransportError
    from mpremote.transport_serial import SerialTransport

    deadline_s = time.monotonic() + wait_s
    while True:
        open_port(url, max(deadline_s - time.monotonic(), 0)).close()  # mpremote does not say why it cannot
        try:
            return SerialTransport(url, timeout=_ANSWER_S)
        except (TransportError, OSError) as error:
            if time.monotonic() >= deadline_s:
                raise PortError(_no_port(url, error)) from None
        time.sleep(_OPEN_EVERY_S)


def _bounded(transport: Any) -> Any:
    """mpremote's transport, in which no turn lasts for ever."""
    read = transport.read_until

    def read_until(*args: Any, **kwargs: Any) -> Any:
        kwargs["timeout_overall"] = min(kwargs.get("timeout_overall") or _LONGEST_S, _LONGEST_S)
        return read(*args, **kwargs)

    transport.read_until = read_until
    return transport


def _no_port(url: str, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or error
    return (
        f"{url}: cannot be opened: {reason}. Is the board plugged in, the name right, "
        "and no other program (a terminal, `firmware monitor`) at the port? Permission comes with the group dialout"
    )
