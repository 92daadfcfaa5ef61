"""The live line of a run, on terminals of all widths."""

from __future__ import annotations

import os
import pty
import re
import struct
import termios
from fcntl import ioctl
from pathlib import Path
from subprocess import Popen

import pytest

from clawsim.progress import line
from clawsim.run import Status
from tests.cli.command import CLAWSIM, EXPECT_ALL, TINY, scenario

HOUR_US = 3_600_000_000
HALFWAY = Status(t_us=12 * HOUR_US, end_us=24 * HOUR_US, produced=360_000, stored=359_500)
OFFLINE = "gateway-01 loses the cloud (heartbeat timeout) and decides alone"


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
@pytest.mark.parametrize("name", ["upload", "gateway-failover", "a-name-as-long-as-names-may-be-x"])
def test_name_bar_and_percentage_are_there_at_every_width_and_nothing_is_wider(width: int, name: str) -> None:
    shown = line(width, name, 50, 75, HALFWAY, OFFLINE).plain
    assert re.match(rf"{name[:19]}\S? ━+─+  50 %", shown)
    assert len(shown) <= width


@pytest.mark.parametrize(
    ("width", "rest"),
    [
        (40, "1:15 left"),
        (60, "1:15 left  12:00:00"),
        (80, "1:15 left  12:00:00  360,000 readings, 359,500 stor…"),
        (160, f"1:15 left  12:00:00  360,000 readings, 359,500 stored  {OFFLINE}"),
    ],
)
def test_the_last_thing_that_happened_is_the_first_to_go_and_the_remaining_time_the_last(width: int, rest: str) -> None:
    assert line(width, "big-day", 50, 75, HALFWAY, OFFLINE).plain.rpartition(" %")[2].strip() == rest


def test_after_the_last_sample_it_says_that_buffers_are_emptied() -> None:
    late = Status(t_us=HOUR_US + 1, end_us=HOUR_US, produced=60, stored=59)
    assert "100 %  settling" in line(80, "upload", 100, 0, late, "").plain


def _on_a_terminal(columns: int, term: str, file: Path) -> str:
    """Everything that the command sends to a terminal of this width."""
    ours, its = pty.openpty()
    ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {**os.environ, "TERM": term, "PYTHONIOENCODING": "utf-8"}
    environment.pop("COLUMNS", None)
    with Popen([CLAWSIM, "run", str(file)], stdin=its, stdout=its, stderr=its, env=environment) as process:
        os.close(its)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:  # how a terminal says that nobody is left at the other end
            pass
        assert process.wait() == 0
    os.close(ours)
    return shown.decode()


@pytest.mark.parametrize("columns", [40, 80])
def test_no_line_of_the_whole_output_is_wider_than_the_terminal(tmp_path: Path, columns: int) -> None:
    shown = _on_a_terminal(columns, "xterm-256color", scenario(tmp_path, TINY + EXPECT_ALL))
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert "0 %" in plain
    assert "PASS" in plain
    assert max(len(text) for text in re.split(r"[\r\n]+", plain)) <= columns


def test_a_terminal_that_cannot_move_its_cursor_gets_the_report_alone(tmp_path: Path) -> None:
    shown = _on_a_terminal(80, "dumb", scenario(tmp_path, TINY + EXPECT_ALL))
    assert "\x1b" not in shown
    assert "left" not in shown
    assert "PASS" in shown
