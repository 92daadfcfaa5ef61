"""The ring on a board's file system: what was written is there after any loss of power, nothing is written twice."""

from pathlib import Path

import pytest

from firmware.hosts.micro.files import SectorFiles
from firmware.hosts.micro.ring import Ring
from tests.micro.test_ring import READING, SECTOR_BYTES, SECTORS, Board


def device(directory: Path) -> SectorFiles:
    return SectorFiles(str(directory / "ring"), SECTORS, SECTOR_BYTES)


def written(directory: Path) -> list[Path]:
    """The sectors with something in them."""
    return [file for file in (directory / "ring").iterdir() if file.stat().st_size]


def test_readings_come_back_through_many_turns_of_the_ring(tmp_path: Path) -> None:
    board = Board(device(tmp_path))
    for seq in range(300):
        board.keep(7, seq)
        if seq % 50 == 49:
            board = Board(device(tmp_path))
    assert Board(device(tmp_path)).kept == [(7, seq) for seq in range(294, 300)]


def test_a_file_is_only_appended_to_until_it_is_emptied(tmp_path: Path) -> None:
    ring = Ring(device(tmp_path), SECTOR_BYTES)
    ring.mount()
    before = b""
    for seq in range(4):
        ring.write([("keep", 7, seq, READING)])
        [file] = written(tmp_path)
        after = file.read_bytes()
        assert after.startswith(before) and len(after) > len(before)
        before = after


@pytest.mark.parametrize("lost", range(1, 60, 7))
def test_an_append_that_power_cut_short_costs_that_transaction_alone(tmp_path: Path, lost: int) -> None:
    ring = Ring(device(tmp_path), SECTOR_BYTES)
    ring.mount()
    ring.write([("put", "boot", 7), ("keep", 7, 0, READING)])
    ring.write([("keep", 7, 1, READING)])
    [file] = written(tmp_path)
    data = file.read_bytes()
    whole = data[: -lost - 1] if lost > 60 else data[:-lost]
    file.write_bytes(whole)
    again = Ring(device(tmp_path), SECTOR_BYTES)
    assert again.mount()["readings"] == [(7, 0, READING)]
    again.keeps = lambda boot, seq: True
    again.write([("keep", 7, 1, READING)])
    assert Ring(device(tmp_path), SECTOR_BYTES).mount()["readings"] == [(7, 0, READING), (7, 1, READING)]


def test_a_file_that_fills_its_disk_is_an_error_of_the_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = device(tmp_path)

    class Full:
        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None: ...

        def write(self, data: bytes) -> int:
            return len(data) - 1

    monkeypatch.setattr("builtins.open", lambda *_: Full())
    with pytest.raises(OSError):
        made.write(0, b"abc")
