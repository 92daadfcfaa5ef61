"""A serial cable between two real processes: two PTYs, and between them what faults do, with a virtual link's face."""

from __future__ import annotations

import asyncio
import os
import random
import tty
from contextlib import suppress
from pathlib import Path

_CHUNK_BYTES = 4096


class RealCable:
    """The cable between the devices at ``ends``, which it makes; bytes that a cut swallows are gone, as on a wire.

    ``base_loss`` is the share of lines that the link's profile spoils; bits are drawn from ``rng``. A line takes what
    the kernel takes: a PTY has no speed. Delays are in core time, ``timescale`` times as fast as the wall's.
    """

    def __init__(self, ends: tuple[Path, Path], base_loss: float, rng: random.Random, timescale: float) -> None:
        self.base_loss = base_loss
        self.loss = base_loss
        self.extra_us = 0
        self.is_cut = False
        self.blocked = 0
        self.disturbed = 0
        self.crossed_while_cut = 0
        self._rng = rng
        self._timescale = timescale
        self._loop = asyncio.get_running_loop()
        self._ports = [self._make(path) for path in ends]
        for index, (master, _) in enumerate(self._ports):
            self._loop.add_reader(master, self._carry, master, self._ports[1 - index][0])

    def cut(self) -> None:
        """From now on nothing crosses."""
        self.is_cut = True

    def heal(self) -> None:
        """The plug is in again."""
        self.is_cut = False

    def close(self) -> None:
        """The devices vanish."""
        for master, slave in self._ports:
            self._loop.remove_reader(master)
            os.close(master)
            os.close(slave)
        self._ports = []

    @staticmethod
    def _make(path: Path) -> tuple[int, int]:
        """A device whose name stays. Its far side is kept open, so that it outlives the processes that use it."""
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        path.symlink_to(os.ttyname(slave))
        return master, slave

    def _carry(self, from_fd: int, to_fd: int) -> None:
        data = os.read(from_fd, _CHUNK_BYTES)
        if self.is_cut:
            self.blocked += 1
            return
        if self.loss:
            data = b"\n".join(self._perhaps_spoilt(line) for line in data.split(b"\n"))
        if self.extra_us:
            self.disturbed += 1
            self._loop.call_later(self.extra_us / 1e6 / self._timescale, self._arrive, to_fd, data)
        else:
            self._arrive(to_fd, data)

    def _arrive(self, to_fd: int, data: bytes) -> None:
        with suppress(OSError):  # full, for nobody reads there; or closed meanwhile
            if self._ports:
                os.write(to_fd, data)

    def _perhaps_spoilt(self, line: bytes) -> bytes:
        """A line with one bit turned, as often as `loss` says; one that comes in two pieces has two chances."""
        if not line or self._rng.random() >= self.loss:
            return line
        self.disturbed += self.loss > self.base_loss
        spoilt = bytearray(line)
        spoilt[self._rng.randrange(len(line))] ^= 1 << self._rng.randrange(8)
        return bytes(spoilt)
