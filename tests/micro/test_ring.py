"""The flash of a board: whatever power does to it, what was written is there, and the sectors wear evenly."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.hosts.micro.ring import FileDevice, Ring, handed_over

SECTOR_BYTES, SECTORS = 512, 4
READING = ["temp", "25.00", '"°C"', 1000, False]


class PowerLost(Exception):
    """The board has no power any more."""


class Chip:
    """Flash in memory: bits only go from 1 to 0 until the sector is erased; power goes after `budget` bytes."""

    def __init__(self, sectors: int = SECTORS, sector_bytes: int = SECTOR_BYTES) -> None:
        self.sectors = sectors
        self.data = bytearray(b"\xff" * sectors * sector_bytes)
        self.erased: Counter[int] = Counter()
        self.budget: int | None = None
        self._sector_bytes = sector_bytes

    def read(self, at: int, size: int) -> bytes:
        return bytes(self.data[at : at + size])

    def write(self, at: int, data: bytes) -> None:
        assert at // self._sector_bytes == (at + len(data) - 1) // self._sector_bytes, "across the border of a sector"
        for offset, byte in enumerate(data):
            self._spend()
            self.data[at + offset] &= byte

    def erase(self, at: int, size: int) -> None:
        self.erased[at // self._sector_bytes] += 1
        for offset in range(at, at + size):
            self._spend()
            self.data[offset] = 0xFF

    def _spend(self) -> None:
        if self.budget == 0:
            raise PowerLost
        if self.budget is not None:
            self.budget -= 1


class Board:
    """A node's use of its flash: it keeps readings, and drops the oldest when it has more than `most`."""

    def __init__(self, chip: Any, most: int = 6) -> None:
        self.ring = Ring(chip, SECTOR_BYTES)
        found = self.ring.mount()
        self.slots = found.get("slots", {})
        self.kept = [(boot, seq) for boot, seq, _ in found.get("readings", [])]
        self.ring.keeps = lambda boot, seq: (boot, seq) in self.kept
        self._most = most

    def keep(self, boot: int, seq: int) -> None:
        self.kept.append((boot, seq))
        self.ring.write([("keep", boot, seq, READING)])
        if len(self.kept) > self._most:
            gone = self.kept.pop(0)
            self.ring.write([("drop", gone[0], gone[1], gone[1])])


def test_a_new_flash_is_blank_and_a_transaction_comes_back() -> None:
    chip = Chip()
    ring = Ring(chip, SECTOR_BYTES)
    assert ring.mount() == {}
    ring.write([("put", "boot", 7), ("keep", 7, 0, READING)])
    ring.write([("keep", 7, 1, READING), ("drop", 7, 0, 0)])
    assert Ring(chip, SECTOR_BYTES).mount() == {"slots": {"boot": 7}, "readings": [(7, 1, READING)]}


def test_readings_come_back_in_the_order_of_their_boots_also_where_boot_numbers_wrap() -> None:
    chip = Chip()
    ring = Ring(chip, SECTOR_BYTES)
    ring.mount()
    last = (1 << 30) - 1
    ring.write([("put", "boot", 1)])
    ring.write([("keep", boot, seq, READING) for boot, seq in [(1, 0), (0, 9), (last, 5), (last, 4)]])
    readings = Ring(chip, SECTOR_BYTES).mount()["readings"]
    assert [(boot, seq) for boot, seq, _ in readings] == [(last, 4), (last, 5), (0, 9), (1, 0)]


def test_no_more_readings_come_back_than_there_is_room_for_and_those_are_the_latest() -> None:
    chip = Chip(10)
    ring = Ring(chip, SECTOR_BYTES)
    ring.mount()
    last = (1 << 30) - 1
    ring.write([("put", "boot", 0)])
    written = [(boot, seq) for boot in (last, 0) for seq in range(10)]
    for boot, seq in [*written[5:], *written[:5]]:  # a copy stands behind younger ones
        ring.write([("keep", boot, seq, [*READING])])
    again = Ring(chip, SECTOR_BYTES)
    assert [(boot, seq) for boot, seq, _ in again.mount(3)["readings"]] == written[-3:]
    assert again.forgotten == 17
    again = Ring(chip, SECTOR_BYTES)
    assert len(again.mount(20)["readings"]) == 20
    assert again.forgotten == 0


def test_a_core_gets_each_reading_once_and_nothing_holds_it_afterwards() -> None:
    readings = [(1, seq, READING) for seq in range(3)]
    restored = handed_over({"slots": {}, "readings": readings})
    assert [seq for _, seq, _ in restored["readings"]] == [0, 1, 2]
    assert readings == []
    assert handed_over({}) == {}


def test_years_of_writing_wear_the_sectors_evenly_and_lose_neither_slots_nor_what_is_kept() -> None:
    chip = Chip()
    board = Board(chip)
    board.ring.write([("put", "boot", 3), ("put", "attach", {"n": 1, "gateway": {"id": "g"}})])
    for seq in range(2000):
        board.keep(3, seq)
    again = Board(chip)
    assert again.kept == board.kept
    assert again.slots == {"boot": 3, "attach": {"n": 1, "gateway": {"id": "g"}}}
    worn = [chip.erased[sector] for sector in range(SECTORS)]
    assert max(worn) - min(worn) <= 1


def test_a_full_flash_is_an_error_that_loses_nothing() -> None:
    board = Board(Chip(), most=1000)
    with pytest.raises(OSError, match="full"):
        for seq in range(1000):
            board.keep(1, seq)
    written = board.kept[:-1]
    assert Board(board.ring._device).kept == written
    board.kept = written[5:]
    board.ring.write([("put", "boot", 1)])
    assert Board(board.ring._device).kept[-1] == written[-1]


def test_a_transaction_that_fits_no_sector_is_refused() -> None:
    ring = Ring(Chip(), SECTOR_BYTES)
    ring.mount()
    with pytest.raises(OSError, match="does not fit"):
        ring.write([("put", "journal", "x" * SECTOR_BYTES)])
    ring.write([("put", "boot", 1)])
    with pytest.raises(ValueError, match="3 sectors"):
        Ring(Chip(2), SECTOR_BYTES)


@given(st.lists(st.integers(min_value=0, max_value=3000), min_size=1, max_size=6), st.integers(0, 300))
def test_power_lost_at_any_byte_costs_at_most_the_transaction_being_written(budgets: list[int], before: int) -> None:
    """Also while a sector is erased, and again while what is left of it is put in order."""
    chip = Chip()
    board = Board(chip)
    board.ring.write([("put", "boot", 3)])
    for seq in range(before):
        board.keep(3, seq)
    seq = before
    for budget in budgets:
        safe = list(board.kept)
        chip.budget = budget
        try:
            for _ in range(200):
                seq += 1
                safe = list(board.kept)
                board.keep(3, seq)
        except PowerLost:
            pass
        chip.budget = None
        board = Board(chip)
        assert board.slots == {"boot": 3}
        assert set(safe[1:]) <= set(board.kept), "all but the oldest, whose drop may have been the last thing written"
        assert len(board.kept) <= len(safe) + 1


@given(st.integers(0, 2**32), st.integers(1, 200))
def test_damage_costs_the_lines_that_it_hits(seed: int, spoilt: int) -> None:
    chip = Chip()
    board = Board(chip)
    for seq in range(40):
        board.keep(3, seq)
    rng = random.Random(seed)
    for _ in range(spoilt):
        chip.data[rng.randrange(len(chip.data))] = rng.randrange(256)
    again = Board(chip)
    assert all(boot == 3 and 0 <= seq < 40 for boot, seq in again.kept)
    again.keep(4, 0)
    assert (4, 0) in Board(chip).kept


@given(st.binary(max_size=SECTOR_BYTES * 3))
def test_random_bytes_are_a_blank_flash_not_a_crash(data: bytes) -> None:
    chip = Chip()
    chip.data[: len(data)] = data
    board = Board(chip)
    board.keep(1, 0)
    assert Board(chip).kept == [(1, 0)]


def test_one_damaged_line_costs_one_transaction_and_is_counted() -> None:
    chip = Chip()
    board = Board(chip)
    for seq in range(4):
        board.keep(3, seq)
    chip.data[chip.data.index(b'["keep", 3, 2')] ^= 1
    again = Board(chip)
    assert again.kept == [(3, 0), (3, 1), (3, 3)]
    assert again.ring.damaged == 1


def test_nothing_is_written_where_a_bit_has_gone_by_itself() -> None:
    chip = Chip()
    board = Board(chip)
    board.keep(3, 0)
    chip.data[chip.data.index(b"\xff" * 20) + 300] = ord("\n")
    for seq in range(1, 6):
        Board(chip).keep(3, seq)
        assert Board(chip).kept == [(3, each) for each in range(seq + 1)]


def test_a_file_is_a_flash(tmp_path: Path) -> None:
    path = str(tmp_path / "flash.ring")
    device = FileDevice(path, SECTORS, SECTOR_BYTES)
    board = Board(device)
    for seq in range(100):
        board.keep(3, seq)
    device.close()
    device = FileDevice(path, SECTORS, SECTOR_BYTES)
    assert Board(device).kept == board.kept
    device.close()
    assert Path(path).stat().st_size == SECTORS * SECTOR_BYTES
