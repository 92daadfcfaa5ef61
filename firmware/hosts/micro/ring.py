"""The flash of a board: a log of transactions in a ring of sectors, so that each sector is erased equally often.

A transaction is a line, `JSON crc32`: a list of writes `["put", slot, value]`, `["keep", boot, seq, reading]` and
`["drop", boot, first, upto]`. A sector begins with the line `["ring", n]`; n counts the sectors ever begun. What was
not written yet is 0xFF, which no line contains.

One sector is always free. When the newest is full the free one is begun, what still matters in the oldest is copied
into it, and then the oldest is erased. So whenever power goes, each transaction is there once, or twice, or (the one
being written) not at all; damage to a line costs that line.
"""

import binascii
import json

SECTOR_BYTES = 8192  # of two erase blocks of a usual flash: the longest transaction fits
CHUNK_BYTES = 256
RING_FILE = "flash.ring"  # in the data directory of a process
_ERASED = b"\xff"
_DROPS_TO_COME = 10  # readings that a log has beyond a full backlog before it says which have gone
_HALF = 1 << 29  # of the boot numbers: what is less than this behind the current boot came before it


class Ring:
    """The log on `device`, which has `sectors`, `read(at, size)`, `write(at, data)` and `erase(at, size)`, in bytes.

    `keeps(boot, seq)` says whether a reading still matters; it is set once there is a core to ask.
    """

    def __init__(self, device, sector_bytes: int = SECTOR_BYTES) -> None:
        """Raises ValueError when the device is too small to be a ring."""
        if device.sectors < 3:
            raise ValueError("a ring needs 3 sectors or more, not %d" % device.sectors)
        self.keeps = _all
        self.damaged = 0  # lines that were lost
        self.forgotten = 0  # readings that were more than `mount` was to restore, counting what was dropped afterwards
        self._device = device
        self._size = sector_bytes
        self._newest: dict = {}  # by slot: the n of the sector with its latest value
        self._n = 0
        self._at = sector_bytes  # where the next line goes in the newest sector; nothing is begun yet
        self._used: dict = {}  # sectors by their n

    def mount(self, most: "int | None" = None) -> dict:
        """What the log amounts to, as a core gets it at power-on; {} for a blank board.

        `most` readings, the latest, so that whatever the flash holds, a heap made for so many holds what comes back."""
        self._find_sectors()
        found = _Found(most)
        for n in sorted(self._used):
            self._n = n
            self._replay(n, found)
        restored = found.restored()
        self.forgotten = found.forgotten
        return restored

    def write(self, writes: list) -> None:
        """Make one transaction. Raises OSError when there is no room, or the device's own; then nothing is kept."""
        line = encode(writes)
        if len(line) > self._size - len(_header(self._n)) - 8:
            raise OSError("a transaction of %d bytes does not fit a sector" % len(line))
        if self._at + len(line) > self._size:
            self._advance(len(line))
        self._append(line)
        for write in writes:
            if write[0] == "put":
                self._newest[write[1]] = self._n

    # --- at power-on ----------------------------------------------------------------------------------------------

    def _find_sectors(self) -> None:
        for sector in range(self._device.sectors):
            head = decode(self._first_line(sector))
            if head and head[0] == "ring":
                self._used[head[1]] = sector
            elif not self._is_blank(sector):
                self._erase(sector)
        if len(self._used) == self._device.sectors:
            # Power went before the oldest sector was erased: the newest has nothing but copies from it.
            self._erase(self._used.pop(max(self._used)))

    def _first_line(self, sector: int) -> bytes:
        return self._device.read(sector * self._size, 32).split(b"\n")[0]

    def _is_blank(self, sector: int) -> bool:
        for at in range(0, self._size, CHUNK_BYTES):
            if self._device.read(sector * self._size + at, CHUNK_BYTES).strip(_ERASED):
                return False
        return True

    def _replay(self, n: int, found: "_Found") -> None:
        at = 0
        for line, ended in self._lines(self._used[n]):
            writes = decode(line) if ended else None
            at += len(line) + 1
            if writes is None:
                # Torn by a loss of power, so it was promised to nobody, or damaged. Who knows what is behind it:
                # nothing more is written in this sector.
                at = self._size
                self.damaged += ended
            elif writes[0] != "ring":
                self._note(writes, n, found)
        self._at = min(at, self._size)

    def _note(self, writes: list, n: int, found: "_Found") -> None:
        for write in writes:
            if write[0] == "put":
                self._newest[write[1]] = n
            found.apply(write)

    def _lines(self, sector: int):
        """(line, whether it is whole) of all that was written."""
        rest = b""
        for at in range(0, self._size, CHUNK_BYTES):
            rest += self._device.read(sector * self._size + at, CHUNK_BYTES)
            while True:
                end = rest.find(b"\n")
                if end < 0:
                    break
                yield rest[:end], True
                rest = rest[end + 1 :]
            if rest and not rest.strip(_ERASED):
                rest = _ERASED  # the end, so far
        rest = rest.strip(_ERASED)
        if rest:
            yield rest, False

    # --- writing --------------------------------------------------------------------------------------------------

    def _append(self, line: bytes) -> None:
        if self._at + len(line) > self._size:
            raise OSError("the flash is full")
        at = self._used[self._n] * self._size + self._at
        self._at = self._size  # nothing may be written behind a line that fails half way
        self._device.write(at, line)
        self._at = at % self._size + len(line)

    def _advance(self, size: int) -> None:
        """Begin a sector with room for `size` bytes."""
        for _ in range(self._device.sectors):
            self._begin()
            if len(self._used) == self._device.sectors:
                self._reclaim(min(self._used))
            if self._at + size <= self._size:
                return
        raise OSError("the flash is full")

    def _begin(self) -> None:
        used = self._used.values()
        free = [sector for sector in range(self._device.sectors) if sector not in used]
        if not free:
            raise OSError("the flash is full")
        self._n += 1
        self._used[self._n] = free[0]
        self._at = 0
        self._append(_header(self._n))

    def _reclaim(self, oldest: int) -> None:
        for line, _ in self._lines(self._used[oldest]):
            writes = decode(line)
            if writes and writes[0] != "ring":
                self._copy(line, writes, [write for write in writes if self._matters(write, oldest)])
        self._erase(self._used.pop(oldest))

    def _copy(self, line: bytes, writes: list, live: list) -> None:
        if not live:
            return
        self._append(line + b"\n" if len(live) == len(writes) else encode(live))
        for write in live:
            if write[0] == "put":
                self._newest[write[1]] = self._n

    def _matters(self, write: list, n: int) -> bool:
        if write[0] == "put":
            return self._newest.get(write[1]) in (n, self._n)
        return write[0] == "keep" and self.keeps(write[1], write[2])

    def _erase(self, sector: int) -> None:
        """First spoil the beginning: a sector that is half erased when power goes must not count."""
        self._device.write(sector * self._size, bytes(8))
        self._device.erase(sector * self._size, self._size)


class _Found:
    """Slots and readings as the log is replayed."""

    def __init__(self, most: "int | None") -> None:
        self.forgotten = 0
        self._most = most
        self._slots: dict = {}
        self._readings: dict = {}
        self._texts: dict = {}

    def apply(self, write: list) -> None:
        if write[0] == "put":
            self._slots[write[1]] = write[2]
        elif write[0] == "keep":
            for at in (0, 2):  # the few metrics and units; each is in memory once
                write[3][at] = self._texts.setdefault(write[3][at], write[3][at])
            self._readings[write[1], write[2]] = write[3]
            if self._most is not None and len(self._readings) > self._most + _DROPS_TO_COME:
                self._forget(min(self._readings, key=_age_order(write[1])))
        elif write[0] == "drop":
            _, boot, first, upto = write
            for key in [key for key in self._readings if key[0] == boot and first <= key[1] <= upto]:
                del self._readings[key]

    def restored(self) -> dict:
        if not self._slots and not self._readings:
            return {}
        boot = self._slots.get("boot", 0)
        # A copied reading stands behind younger ones in the log.
        keys = sorted(self._readings, key=_age_order(boot))
        while self._most is not None and len(keys) > self._most:
            self._forget(keys.pop(0))
        readings = [(key[0], key[1], self._readings.pop(key)) for key in keys]
        return {"slots": self._slots, "readings": readings}

    def _forget(self, key: tuple) -> None:
        del self._readings[key]
        self.forgotten += 1


def handed_over(restored: dict) -> dict:
    """`restored` for a core that takes each reading once: it is let go of at once, for a small heap does not hold all
    of them twice."""
    if restored:
        restored["readings"] = _emptied(restored["readings"])
    return restored


def _emptied(readings: list):
    readings.reverse()
    while readings:
        yield readings.pop()


def _age_order(boot: int):
    """By which readings are sorted, oldest first: boot numbers count upwards and wrap, around `boot`."""
    return lambda key: ((key[0] - boot + _HALF) & (2 * _HALF - 1), key[1])


def encode(writes: list) -> bytes:
    """A transaction as a line."""
    text = json.dumps(writes).encode()
    return text + b" %08x\n" % binascii.crc32(text)


def decode(line: bytes) -> "list | None":
    """The transaction in a line without its end, or None when it is damaged."""
    if len(line) < 10 or line[-9:] != b" %08x" % binascii.crc32(line[:-9]):
        return None
    try:
        found = json.loads(line[:-9])
    except ValueError:
        return None
    return found if isinstance(found, list) and found else None


def _header(n: int) -> bytes:
    """Of one length for every n, so that what filled a sector fits the next."""
    text = b'["ring",%10d]' % n
    return text + b" %08x\n" % binascii.crc32(text)


def _all(boot: int, seq: int) -> bool:
    return True


class FileDevice:
    """A file that behaves like flash. Raises OSError when it cannot be opened.

    It has `sectors` sectors, or as many as it had when it was made for more: the latest may lie in any of them."""

    def __init__(self, path: str, sectors: int, sector_bytes: int = SECTOR_BYTES) -> None:
        try:
            self._file = open(path, "r+b", 0)
        except OSError:
            self._file = open(path, "w+b", 0)
        size = self._file.seek(0, 2)
        self.sectors = sectors = max(sectors, size // sector_bytes)
        while size < sectors * sector_bytes:
            size += self._file.write(_ERASED * min(CHUNK_BYTES, sectors * sector_bytes - size))

    def read(self, at: int, size: int) -> bytes:
        self._file.seek(at)
        return self._file.read(size)

    def write(self, at: int, data: bytes) -> None:
        self._file.seek(at)
        if self._file.write(data) != len(data):
            raise OSError("the disk is full")

    def erase(self, at: int, size: int) -> None:
        for begin in range(at, at + size, CHUNK_BYTES):
            self.write(begin, _ERASED * min(CHUNK_BYTES, at + size - begin))

    def close(self) -> None:
        self._file.close()
