"""`firmware flash`, `monitor` and `bench` against MicroPython's own raw REPL, on a process that is a board on a PTY."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware.hosts.bundle import Bundle, build_bundle
from firmware.hosts.flashing import SLOTS
from tests.micro.pty_board import PtyBoard

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("pty-board")]

KEY = bytes(range(32))
PASSWORD = "correct horse"
CONFIG = """\
[node]
id = "soil-01"
key_file = "node.key"
backlog_readings = 60

[gateway]
id = "gateway-01"
port = {port}

[board]
kind = "pico-w"
wifi_ssid = "shed"
wifi_password_file = "wifi.password"
alarm_pin = 15

[[parts]]
name = "probe"
kind = "analog"
pin = 26
what = "soil_moisture"
exp = 1
low = [10000, 0]
high = [50000, 1000]

[[sensors]]
profile = "soil_moisture"
part = "probe"
what = "soil_moisture"
every_ms = 1000
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path, port=1)


def write_config(directory: Path, port: int) -> Path:
    for name, text in (("node.key", KEY.hex()), ("wifi.password", PASSWORD)):
        (directory / name).write_text(text + "\n")
        (directory / name).chmod(0o600)
    (directory / "board.toml").write_text(CONFIG.format(port=port))
    return directory / "board.toml"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return build_bundle("pico-w", tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def board(tmp_path: Path) -> Iterator[PtyBoard]:
    root = tmp_path / "board"
    root.mkdir()
    with PtyBoard(root) as made:
        yield made


def firmware(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "firmware", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=110)


def flash(board: PtyBoard, config: Path, bundle: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return firmware("flash", "--config", config, "--port", board.url, "--bundle", bundle, *more)


def test_a_blank_board_says_hello_with_its_new_firmware_and_its_secrets_are_told_to_nobody(
    board: PtyBoard, config: Path, bundle: Bundle
) -> None:
    done = flash(board, config, bundle.directory)
    assert done.returncode == 0, done.stdout + done.stderr
    hello = done.stdout.splitlines()[-1]
    assert hello.startswith("== soil-01 starts: board pico-w  board_id e66138") and bundle.firmware in hello
    assert (board.root / "clawland.slot").read_text() == SLOTS[0]
    assert json.loads((board.root / SLOTS[0] / "node.json").read_text())["core"]["key"] == KEY.hex()
    assert not [secret for secret in (KEY.hex(), PASSWORD) if secret in done.stdout + done.stderr]
    _another_firmware_that_fails_leaves_the_first_one_running(board, config, bundle)


def _another_firmware_that_fails_leaves_the_first_one_running(board: PtyBoard, config: Path, bundle: Bundle) -> None:
    """On the board that was flashed, for a flashing takes seconds."""
    broken = json.loads((board.root / SLOTS[0] / "node.json").read_text())
    config.write_text(config.read_text().replace('kind = "analog"', 'kind = "analog"', 1).replace("[10000, 0]", "[50000, 0]"))
    done = flash(board, config, bundle.directory)
    assert done.returncode == 3
    assert "the new firmware does not say hello, so what ran before runs again" in done.stderr
    assert "  | WiringError: part 'probe': two points of one raw value" in done.stderr
    assert (board.root / "clawland.slot").read_text() == SLOTS[0]
    assert json.loads((board.root / SLOTS[0] / "node.json").read_text()) == broken


def test_what_is_wrong_with_port_bundle_or_board_is_a_line_that_says_what_to_do(
    board: PtyBoard, config: Path, bundle: Bundle, tmp_path: Path
) -> None:
    def said(*arguments: str | Path) -> str:
        done = firmware(*arguments)
        assert done.returncode in (2, 3) and "Traceback" not in done.stderr
        return done.stderr

    assert "/dev/none: cannot be opened" in said("monitor", "--port", "/dev/none", "--wait", "0")
    assert "is no bundle" in said("flash", "--config", config, "--port", board.url, "--bundle", tmp_path)
    assert "`firmware flash` brings it" in said("bench", "--port", board.url)
    (board.root / "main.py").write_text("print('mine')\n")
    theirs = ("flash", "--config", config, "--port", board.url, "--bundle", bundle.directory)
    assert "--replace keeps it as main.py.old" in said(*theirs)
    assert (board.root / "main.py").read_text() == "print('mine')\n"
    assert not list(board.root.glob("clawland*"))
