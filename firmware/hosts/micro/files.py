"""The flash ring on a board's file system: a file for each sector, which only grows until it is emptied.

A file system for flash (littlefs) writes little when something is appended, but all that follows when something is
changed in the middle; and what is appended is there whole or not at all when power goes. See
`firmware.hosts.micro.ring`.
"""

import errno
import os

_ERASED = b"\xff"


class SectorFiles:
    """Sectors in `directory`, which is made. Raises OSError when it cannot be.

    There are `sectors`, or as many as the directory has: it may have been made for more, and the latest lie in any."""

    def __init__(self, directory: str, sectors: int, sector_bytes: int) -> None:
        self._directory = directory
        self._size = sector_bytes
        try:
            os.mkdir(directory)
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise
        self.sectors = max([sectors] + [number + 1 for number in _numbers(directory)])
        open(self._path(self.sectors - 1), "ab").close()  # so that the next start knows how many there are
        self._lengths = [self._length(sector) for sector in range(self.sectors)]
        self._reading: tuple | None = None  # (sector, file): a mount reads a sector in many pieces

    def read(self, at: int, size: int) -> bytes:
        """What lies there; what was never written is erased."""
        sector, offset = divmod(at, self._size)
        left = self._lengths[sector] - offset
        if left <= 0:
            return _ERASED * size
        file = self._opened(sector)
        file.seek(offset)
        data: bytes = file.read(min(left, size))
        return data + _ERASED * (size - len(data))

    def write(self, at: int, data: bytes) -> None:
        """Written when it returns. Raises OSError."""
        self._close()
        sector, offset = divmod(at, self._size)
        if offset == 0 and self._lengths[sector]:
            return self.erase(at, self._size)  # a beginning is spoilt to be erased, which here is one step
        with open(self._path(sector), "ab") as file:
            gap = offset - self._lengths[sector]  # behind what a loss of power has left
            written = file.write(_ERASED * gap + data)
        if written != gap + len(data):
            raise OSError(errno.ENOSPC if hasattr(errno, "ENOSPC") else 28)
        self._lengths[sector] = offset + len(data)

    def erase(self, at: int, size: int) -> None:
        """Empty a sector."""
        self._close()
        sector = at // self._size
        open(self._path(sector), "wb").close()
        self._lengths[sector] = 0

    def _path(self, sector: int) -> str:
        return "%s/%d.ring" % (self._directory, sector)

    def _length(self, sector: int) -> int:
        try:
            return int(os.stat(self._path(sector))[6])
        except OSError:
            return 0

    def _opened(self, sector: int):
        if self._reading is None or self._reading[0] != sector:
            self._close()
            self._reading = (sector, open(self._path(sector), "rb"))
        return self._reading[1]

    def _close(self) -> None:
        if self._reading is not None:
            self._reading[1].close()
            self._reading = None


def _numbers(directory: str) -> "list[int]":
    """Of the sectors that have files."""
    names = [name[:-5] for name in os.listdir(directory) if name.endswith(".ring")]
    return [int(name) for name in names if name.isdigit()]
