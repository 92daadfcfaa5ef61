"""What was committed survives anything that can happen to a file; what was not is as if it had never been."""

import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.hosts.flash import COMPACT_BYTES, FLASH_FILE, Flash, FlashInUse, read_flash

READING = ["temp", "25.00", "°C", 1000]


def written(directory: Path, *transactions: list[tuple[object, ...]]) -> None:
    flash = Flash(directory)
    for writes in transactions:
        flash.write(writes)
    flash.close()


def test_a_new_flash_is_blank(tmp_path: Path) -> None:
    assert read_flash(tmp_path) == {}
    flash = Flash(tmp_path / "new" / "dir")
    assert flash.restored() == {}
    flash.close()


def test_slots_and_readings_come_back_in_their_order(tmp_path: Path) -> None:
    written(tmp_path, [("put", "boot", 7)], [("keep", 7, 2, READING)], [("keep", 6, 1, READING), ("put", "boot", 8)])
    expected = {"slots": {"boot": 8}, "readings": [(7, 2, READING), (6, 1, READING)]}
    assert read_flash(tmp_path) == expected
    flash = Flash(tmp_path)
    assert flash.restored() == expected
    flash.close()
    assert read_flash(tmp_path / FLASH_FILE) == expected


def test_a_drop_removes_a_closed_range_of_one_boot(tmp_path: Path) -> None:
    keeps = [("keep", boot, seq, READING) for boot in (1, 2) for seq in range(5)]
    written(tmp_path, keeps, [("drop", 1, 1, 3)])
    left = [(boot, seq) for boot, seq, _ in read_flash(tmp_path)["readings"]]
    assert left == [(1, 0), (1, 4), *((2, seq) for seq in range(5))]


@given(cut=st.integers(min_value=0, max_value=400))
def test_a_torn_tail_costs_at_most_the_transaction_being_written(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    directory = tmp_path_factory.mktemp("flash")
    flash = Flash(directory)
    sizes = [(directory / FLASH_FILE).stat().st_size]
    for seq in range(4):
        flash.write([("keep", 1, seq, READING), ("put", "next", seq)])
        sizes.append((directory / FLASH_FILE).stat().st_size)
    flash.close()
    cut = min(cut, sizes[-1])
    os.truncate(directory / FLASH_FILE, cut)
    whole = sum(size <= cut for size in sizes[1:])
    found = read_flash(directory)
    assert [seq for _, seq, _ in found.get("readings", [])] == list(range(whole))
    assert found.get("slots", {}) == ({"next": whole - 1} if whole else {})


def test_a_write_goes_on_after_a_torn_tail(tmp_path: Path) -> None:
    written(tmp_path, [("put", "boot", 1)], [("put", "boot", 2)])
    path = tmp_path / FLASH_FILE
    os.truncate(path, path.stat().st_size - 3)
    written(tmp_path, [("put", "attach", 3)])
    assert read_flash(tmp_path)["slots"] == {"boot": 1, "attach": 3}


def test_damage_in_the_middle_is_reported_and_costs_only_the_damaged_transaction(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path, *([("keep", 1, seq, READING)] for seq in range(5)))
    path = tmp_path / FLASH_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = next(i for i, line in enumerate(lines) if line.startswith(b'["keep",1,2'))
    lines[damaged] = lines[damaged].replace(b"25.00", b"99.00")
    path.write_bytes(b"".join(lines))
    flash = Flash(tmp_path)
    assert [seq for _, seq, _ in flash.restored()["readings"]] == [0, 1, 3, 4]
    flash.close()
    assert "damaged records" in caplog.text
    assert path.with_suffix(".damaged").exists()


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=4))
def test_damage_anywhere_costs_only_the_transactions_that_it_touches(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int]]
) -> None:
    directory = tmp_path_factory.mktemp("flash")
    flash, ends = Flash(directory), [(directory / FLASH_FILE).stat().st_size]
    for seq in range(8):
        flash.write([("keep", 1, seq, READING), ("put", f"slot-{seq}", seq)])
        ends.append((directory / FLASH_FILE).stat().st_size)
    flash.close()
    data = bytearray((directory / FLASH_FILE).read_bytes())
    places = [at % len(data) for at, _ in damage]
    for at, (_, flip) in zip(places, damage, strict=True):
        data[at] ^= flip
    (directory / FLASH_FILE).write_bytes(data)
    # A damaged end of line takes the line behind it along.
    whole = {seq for seq in range(8) if not any(ends[seq] - 1 <= at < ends[seq + 1] for at in places)}
    found = read_flash(directory)
    kept = {seq for _, seq, reading in found.get("readings", []) if reading == READING}
    assert whole <= kept and len(kept) == len(found.get("readings", []))
    assert whole <= set(found.get("slots", {}).values())
    Flash(directory).close()  # and a node starts on it


def test_random_bytes_are_a_blank_flash_not_a_crash(tmp_path: Path) -> None:
    (tmp_path / FLASH_FILE).write_bytes(random.Random(1).randbytes(20_000))
    flash = Flash(tmp_path)
    assert flash.restored() == {}
    flash.close()


def test_the_journal_stays_small_however_much_is_written(tmp_path: Path) -> None:
    flash = Flash(tmp_path)
    for seq in range(20_000):
        flash.write([("keep", 1, seq, READING)])
        flash.write([("drop", 1, seq, seq)])
    flash.write([("keep", 1, 20_000, READING)])
    flash.close()
    assert (tmp_path / FLASH_FILE).stat().st_size < COMPACT_BYTES + 1000
    assert read_flash(tmp_path)["readings"] == [(1, 20_000, READING)]


def test_a_full_disk_is_an_error_and_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flash = Flash(tmp_path)
    flash.write([("put", "boot", 1)])
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real_write(fd, data[:10]))
    with pytest.raises(OSError, match="full"):
        flash.write([("put", "boot", 2)])
    monkeypatch.undo()
    flash.write([("put", "attach", 3)])
    flash.close()
    assert read_flash(tmp_path)["slots"] == {"boot": 1, "attach": 3}


def test_a_second_node_on_the_same_flash_is_refused(tmp_path: Path) -> None:
    flash = Flash(tmp_path)
    with pytest.raises(FlashInUse, match="in use"):
        Flash(tmp_path)
    flash.close()
    Flash(tmp_path).close()
