"""A serial port on asyncio, by its pyserial URL: a device, a PTY, `socket://host:port`, `rfc2217://host:port`.

pyserial blocks, and not each of its ports has a file that one could wait for. So each port has a thread that reads and
one that writes; everything that its owner hears, it hears on the loop.
"""

import asyncio
import contextlib
import errno
import os
import pkgutil
import queue
import select
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

import serial
import serial.urlhandler

DEFAULT_SPEED = 115_200
LEAST_SPEED, MOST_SPEED = 9_600, 4_000_000
CLOSE_S = 3.0
_CHUNK_BYTES = 4096
_LOOK_S = 0.1  # how soon a thread notices that its port is wanted no more
_WRITE_TIMEOUT_S = 2.0
_CONGESTED_S = 0.05
_WORDS = {
    errno.ENOENT: "there is no such device",
    errno.ENXIO: "there is no such device",
    errno.EACCES: "no permission: its group (often dialout) may use it",
    errno.EAGAIN: "in use by another process",
    errno.EBUSY: "in use by another process",
    errno.EIO: "unplugged, or the other end closed it",
}


class Owner(Protocol):
    """Who hears about a stream. Nothing is heard after `leave`."""

    def opened(self, stream: "SerialStream") -> None: ...
    def data(self, stream: "SerialStream", data: bytes) -> None: ...
    def written(self, stream: "SerialStream", count: int) -> None: ...
    def lost(self, stream: "SerialStream", reason: str) -> None: ...
    def congested(self) -> bool: ...


class SerialStream:
    """One attempt to open a port, and the open port that comes of it; never used again after its end."""

    def __init__(self, owner: Owner, url: str, speed: int) -> None:
        """`url` is the port's, `speed` in baud where that means anything."""
        self.url = url
        self.released = asyncio.Event()
        """Set when the port is closed and may be opened by others."""
        self._owner = owner
        self._speed = speed
        self._loop = asyncio.get_running_loop()
        self._unwritten: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._over = False
        self._failed = ""

    def open(self) -> None:
        """Begin; the owner hears `opened`, or `lost` with the reason."""
        threading.Thread(target=self._run, name=f"serial {self.url}", daemon=True).start()

    def write(self, data: bytes) -> None:
        """Send; the owner hears `written` when the port has taken it."""
        self._unwritten.put(data)

    def leave(self) -> None:
        """Close the port, and be silent."""
        self._over = True

    async def closed(self) -> None:
        """Wait until the port is closed, or hangs in the midst of a write for longer than anybody has."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self.released.wait()

    # in the thread

    def _run(self) -> None:
        reason = ""
        try:
            port = open_port(self.url, self._speed)
        except (OSError, ValueError) as error:
            reason = reason_of(error)
        else:
            self._tell(self._owner.opened)
            writer = threading.Thread(target=self._write, args=(port,), name=f"serial {self.url}", daemon=True)
            writer.start()
            reason = self._read(port)
            self._unwritten.put(b"")
            writer.join()
            with contextlib.suppress(OSError):  # a device that is gone
                port.close()
        self._tell(self._owner.lost, reason)
        self._on_loop(self.released.set)

    def _read(self, port: Any) -> str:
        """Read until the port is lost or wanted no more; why it is lost."""
        read = _reader_of(port)
        try:
            while not self._over and not self._failed:
                if self._owner.congested():
                    time.sleep(_CONGESTED_S)
                elif data := read():
                    self._tell(self._owner.data, data)
        except (OSError, TypeError) as error:  # pyserial's own TypeError: closed under its hands
            return self._failed or reason_of(error)
        return self._failed

    def _write(self, port: Any) -> None:
        while data := self._unwritten.get():
            try:
                port.write(data)
            except serial.SerialTimeoutException:
                self._failed = "it takes no more bytes"
                return
            except OSError as error:
                self._failed = reason_of(error)
                return
            self._tell(self._owner.written, len(data))

    def _tell(self, news: Callable[..., None], *args: object) -> None:
        self._on_loop(lambda: None if self._over else news(self, *args))

    def _on_loop(self, call: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is there to hear it
            self._loop.call_soon_threadsafe(call)


def open_port(url: str, speed: int) -> Any:
    """The open port; raises OSError or ValueError (see `reason_of`). Nobody else can open a device meanwhile."""
    write_timeout_s = None if url.startswith("rfc2217:") else _WRITE_TIMEOUT_S  # of which that knows nothing
    try:
        return serial.serial_for_url(
            url, baudrate=speed, timeout=_LOOK_S, write_timeout=write_timeout_s, exclusive=True
        )
    except (NotImplementedError, ImportError) as error:  # of the rarer kinds of URL
        raise ValueError(str(error) or "it cannot be used here") from error


def reason_of(error: BaseException) -> str:
    """Why a port cannot be used, in words: pyserial hides what the system said in what it says itself."""
    cause: BaseException | None = error
    while cause is not None:
        number = getattr(cause, "errno", None)
        if number is not None:
            return _WORDS.get(number) or os.strerror(number).lower()
        cause = cause.__cause__ or cause.__context__
    return str(error)


def problem_of_url(url: str) -> str | None:
    """What is wrong with a port's URL, as far as its text says."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return None if url.startswith("/") else "must be a device as /dev/ttyUSB0, or a URL as socket://host:port"
    known = sorted(name[9:] for _, name, _ in pkgutil.iter_modules(serial.urlhandler.__path__))
    if scheme not in known:
        return f"{scheme}:// is not among {', '.join(known)}"
    if scheme in ("socket", "rfc2217"):
        return None if _has_host_and_port(url) else f"needs host and port, as {scheme}://host:4000, not {rest!r}"
    return None


def _has_host_and_port(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and bool(parts.port)
    except ValueError:
        return False


def _reader_of(port: Any) -> Callable[[], bytes]:
    """What waits `_LOOK_S` at most and gives what has come; raises OSError when the port is lost."""
    try:
        fd = port.fileno()
    except (OSError, AttributeError):
        return lambda: port.read(1) + port.read(min(port.in_waiting, _CHUNK_BYTES))

    def read() -> bytes:
        if not select.select([fd], [], [], _LOOK_S)[0]:
            return b""
        try:
            data = os.read(fd, _CHUNK_BYTES)
        except BlockingIOError:
            return b""
        if not data:
            raise OSError(errno.EIO, "end of file")
        return data

    return read
