"""A serial cable between two PTYs, in the hands of a test: unplugged, and made to spoil what it carries."""

import asyncio
import contextlib
import os
import tty
from collections.abc import Callable
from pathlib import Path

Spoil = Callable[[bytes], bytes]
GATEWAY, NODE = "gateway", "node"


class Cable:
    """`gateway` and `node` are the two ends as devices whose names stay, as those that udev makes."""

    def __init__(self, directory: Path) -> None:
        self.gateway = directory / "ttyGateway"
        self.node = directory / "ttyNode"
        self.spoil: Spoil = lambda data: data
        self.carried: list[bytes] = []
        self._masters: dict[str, int] = {}
        self._loop = asyncio.get_running_loop()
        self.plug(GATEWAY)
        self.plug(NODE)

    def plug(self, end: str) -> None:
        """Make the device at this end."""
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        path = self._path(end)
        path.unlink(missing_ok=True)
        path.symlink_to(os.ttyname(slave))
        os.close(slave)
        self._masters[end] = master
        self._loop.add_reader(master, self._carry, end)

    def unplug(self, end: str) -> None:
        """The device vanishes, as when its plug is drawn."""
        master = self._masters.pop(end)
        self._loop.remove_reader(master)
        os.close(master)
        self._path(end).unlink()

    def put(self, end: str, data: bytes) -> None:
        """Bytes out of nowhere arrive at this end."""
        os.write(self._masters[end], data)

    def close(self) -> None:
        for end in list(self._masters):
            self.unplug(end)

    def _path(self, end: str) -> Path:
        return self.gateway if end == GATEWAY else self.node

    def _carry(self, end: str) -> None:
        try:
            data = os.read(self._masters[end], 4096)
        except OSError:  # nobody has the device open: it says so again and again, and is looked at later
            self._loop.remove_reader(self._masters[end])
            self._loop.call_later(0.05, self._look_again, end, self._masters[end])
            return
        self.carried.append(data)
        data = self.spoil(data)
        other = self._masters.get(NODE if end == GATEWAY else GATEWAY)
        if data and other is not None:
            with contextlib.suppress(BlockingIOError):  # nobody reads there, and its buffer is full: lost, as on a wire
                os.write(other, data)

    def _look_again(self, end: str, master: int) -> None:
        if self._masters.get(end) == master:
            self._loop.add_reader(master, self._carry, end)
