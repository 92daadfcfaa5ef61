"""A run asks for itself whether its disk can take more, since a process without room cannot say so."""

import errno
import os
from pathlib import Path

import pytest

from clawsim.live.disk import DISK_ERRORS, LEAST_FREE_BYTES, check_room


def test_a_disk_with_room_is_left_as_it_was(tmp_path: Path) -> None:
    for _ in range(2):
        check_room(tmp_path)
    assert [file.stat().st_size for file in tmp_path.iterdir()] == [0]


@pytest.mark.parametrize("number", DISK_ERRORS)
def test_a_disk_that_takes_no_more_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(descriptor: int, offset: int, size: int) -> None:
        assert size == LEAST_FREE_BYTES
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OSError) as caught:
        check_room(tmp_path)
    assert (caught.value.errno, caught.value.filename) == (number, str(tmp_path))


def test_a_file_system_that_reserves_nothing_is_no_full_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", cannot)
    check_room(tmp_path)
