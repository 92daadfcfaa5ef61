"""The flash of a node that runs as a process: an append-only journal file, compacted at power-on and when it has grown.

A record is a line, `JSON crc32`. A transaction is its records and a commit line with their number, in one write: after
a power loss it is there whole or not at all, and what was committed before it is untouched.

Records: `["put", slot, value]`, `["keep", boot, seq, reading]`, `["drop", boot, first, upto]`, `["commit", n]`.
"""

import binascii
import fcntl
import json
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from firmware.hosts.micro import memory
from firmware.hosts.micro.ring import RING_FILE, SECTOR_BYTES, Ring

_log = logging.getLogger("clawland.flash")

FLASH_FILE = "flash.journal"
MEMORY_FILE = "board.memory"
"""Of an emulated board, with its flash in it."""
COMPACT_BYTES = 256 * 1024

Record = list[Any]


class FlashInUse(Exception):
    """Another process has this flash open."""


class Flash:
    """The flash in `directory`. Raises OSError when it cannot be opened and `FlashInUse` when another process has it.

    A written transaction survives the death of the process; `sync` makes it survive that of the machine.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / FLASH_FILE
        self._lock = lock_flash(directory)
        contents = _Contents()
        damaged = contents.load(self._path)
        if damaged:
            self._path.replace(self._path.with_suffix(".damaged"))
            _log.warning("%d damaged records of the flash are lost; the file is kept as *.damaged", damaged)
        self._contents = contents
        self._fd = -1
        self._compact()

    def restored(self) -> dict[str, Any]:
        """What the core gets at power-on; {} for a blank board."""
        return self._contents.restored()

    def write(self, writes: Iterable[tuple[Any, ...]]) -> None:
        """Make one transaction; raises OSError, and then nothing of it is kept."""
        records = [list(write) for write in writes]
        self._append(_encode(records))
        self._contents.apply(records)
        if self._size > COMPACT_BYTES and self._size > 2 * self._compact_size:
            self._compact()

    def sync(self) -> None:
        """Have the disk confirm what was written; blocks. Raises OSError."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Let go of the file and its lock."""
        os.close(self._fd)
        os.close(self._lock)

    def _append(self, data: bytes) -> None:
        written = os.write(self._fd, data)
        if written < len(data):
            os.ftruncate(self._fd, self._size)
            raise OSError("the disk is full")
        self._size += written

    def _compact(self) -> None:
        """Replace the journal by one transaction with what it amounts to."""
        fresh = self._path.with_suffix(".new")
        data = _encode(self._contents.as_records())
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            if os.write(fd, data) < len(data):
                raise OSError("the disk is full")
            os.fsync(fd)
            fresh.replace(self._path)
        except OSError:
            os.close(fd)
            if self._fd < 0:
                raise
            return  # the old journal is still good
        old, self._fd = self._fd, fd
        self._size = self._compact_size = len(data)
        if old >= 0:
            os.close(old)


def read_flash(path: Path) -> dict[str, Any]:
    """What a flash (its file, or the node's data directory) holds, whether or not its node runs: {} when blank.

    `{"slots": {name: value}, "readings": [(boot, seq, reading)]}`, readings oldest first.
    """
    ring = path / RING_FILE if path.is_dir() else path
    if ring.name == RING_FILE and ring.exists():
        return Ring(_Image(ring.read_bytes())).mount()
    board = path / MEMORY_FILE if path.is_dir() else path
    if board.name == MEMORY_FILE and board.exists():
        return _read_board(board)
    contents = _Contents()
    contents.load(path / FLASH_FILE if path.is_dir() else path)
    return contents.restored()


def _read_board(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        told = memory.decode(file.read(memory.FLASH_AT))
        if told is None:
            return {}
        return Ring(_Image(file.read(told["flash"]["sectors"] * SECTOR_BYTES))).mount()


class _Image:
    """A copy of a MicroPython process's flash, which mounting may put in order."""

    def __init__(self, data: bytes) -> None:
        self._data = bytearray(data)
        self.sectors = len(data) // SECTOR_BYTES

    def read(self, at: int, size: int) -> bytes:
        return bytes(self._data[at : at + size])

    def write(self, at: int, data: bytes) -> None:
        self._data[at : at + len(data)] = data

    def erase(self, at: int, size: int) -> None:
        self.write(at, b"\xff" * size)


class _Contents:
    """What a journal amounts to."""

    def __init__(self) -> None:
        self._slots: dict[str, Any] = {}
        self._readings: dict[tuple[int, int], Record] = {}

    def load(self, path: Path) -> int:
        """Apply the journal in `path`, if there is one; returns how many records were damaged."""
        pending: list[Record] = []
        damaged = 0
        for record in _records(path):
            if record is None:
                damaged += 1 + len(pending)
                pending = []
            elif record[0] != "commit":
                pending.append(record)
            else:
                damaged += self._commit(pending, record)
                pending = []
        return damaged  # records without a commit at the end were never promised to anyone

    def apply(self, records: list[Record]) -> None:
        for record in records:
            if record[0] == "put":
                self._slots[record[1]] = record[2]
            elif record[0] == "keep":
                self._readings[record[1], record[2]] = record[3]
            else:
                self._drop(*record[1:])

    def restored(self) -> dict[str, Any]:
        if not self._slots and not self._readings:
            return {}
        return {"slots": dict(self._slots), "readings": [(*key, reading) for key, reading in self._readings.items()]}

    def as_records(self) -> list[Record]:
        puts = [["put", slot, value] for slot, value in self._slots.items()]
        return puts + [["keep", *key, reading] for key, reading in self._readings.items()]

    def _commit(self, pending: list[Record], commit: Record) -> int:
        if commit[1] != len(pending):
            return len(pending) + 1
        self.apply(pending)
        return 0

    def _drop(self, boot: int, first: int, upto: int) -> None:
        for key in [key for key in self._readings if key[0] == boot and first <= key[1] <= upto]:
            del self._readings[key]


def _encode(records: list[Record]) -> bytes:
    return b"".join(_line(record) for record in [*records, ["commit", len(records)]])


def _line(record: Record) -> bytes:
    text = json.dumps(record, separators=(",", ":")).encode()
    return b"%s %08x\n" % (text, binascii.crc32(text))


def _records(path: Path) -> Iterator[Record | None]:
    """The journal's records; None for a damaged one. A torn last line is not damage but a write that never was."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    for line in data.split(b"\n")[:-1]:
        yield _decode(line)


def _decode(line: bytes) -> Record | None:
    text, _, check = line.rpartition(b" ")
    if check != b"%08x" % binascii.crc32(text):
        return None
    try:
        record = json.loads(text)
    except ValueError:
        return None
    sizes = {"put": 3, "keep": 4, "drop": 4, "commit": 2}
    return record if isinstance(record, list) and record and sizes.get(str(record[0])) == len(record) else None


def lock_flash(directory: Path) -> int:
    """Take the flash in `directory`, until the file descriptor is closed. Raises OSError and `FlashInUse`."""
    fd = os.open(directory / "flash.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise FlashInUse(f"{directory} is in use by another running node") from None
    return fd
