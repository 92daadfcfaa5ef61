"""An hour without a gateway in 48 KB of heap: no MemoryError, nothing lost but what a full backlog drops."""

import json
from pathlib import Path

import pytest

from tests.micro import boards

pytestmark = pytest.mark.live


def test_a_full_backlog_for_an_hour_fits_the_heap_of_a_board_and_is_delivered_whole(tmp_path: Path) -> None:
    done = boards.run(boards.ROOT / "tests" / "micro" / "hour.py", tmp_path / "flash.ring", "100")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kept"] == 100
    assert found["lost"] == 20, "an hour at two readings a minute is 120"
    assert found["delivered"] == found["produced"] - found["lost"]
    assert found["left"] <= 1
    assert found["scans"] > 100
    assert found["least_free"] > 12_000, "room for a command, a burst of answers and a few more sensors"
