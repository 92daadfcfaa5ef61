"""`firmware flash`, `monitor` and `bench` against MicroPython's own raw REPL, on a process that is a board."""

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from firmware.cli import app
from firmware.hosts.build import node_json
from firmware.hosts.bundle import Bundle, build_bundle
from firmware.hosts.flashing import SLOTS
from firmware.hosts.settings import load_settings
from tests.micro.pty_board import PtyBoard
from tests.nanoclaw_host.rig import NODE, NODE_KEY, Identity, Rig, eventually, secrets_in

pytestmark = pytest.mark.live

PASSWORD = "correct horse"
CONFIG = """\
[node]
id = "sensor-01"
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
battery = {{ pin = 27, low = [10000, 1000], high = [50000, 5000] }}

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
every_ms = 500
"""


def write_config(directory: Path, port: int = 1) -> Path:
    for name, text in (("node.key", NODE_KEY.hex()), ("wifi.password", PASSWORD)):
        (directory / name).write_text(text + "\n")
        (directory / name).chmod(0o600)
    (directory / "board.toml").write_text(CONFIG.format(port=port))
    return directory / "board.toml"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return build_bundle("pico-w", tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def board(tmp_path: Path) -> Iterator[PtyBoard]:
    root = tmp_path / "board"
    root.mkdir()
    with PtyBoard(root) as made:
        yield made


def firmware(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def flash(board: PtyBoard, config: Path, bundle: Bundle) -> Result:
    return firmware("flash", "--config", config, "--port", board.url, "--bundle", bundle.directory)


def running_slot(board: PtyBoard) -> str:
    return (board.root / "clawland.slot").read_text()


def test_firmware_that_fails_is_not_left_on_a_board_and_another_program_is_not_overwritten(
    board: PtyBoard, tmp_path: Path, bundle: Bundle
) -> None:
    config = write_config(tmp_path)
    (board.root / "main.py").write_text("print('mine')\n")
    refused = flash(board, config, bundle)
    assert (refused.exit_code, "--replace keeps it as main.py.old" in refused.output) == (3, True)
    assert "`firmware flash` brings it" in firmware("bench", "--port", board.url).output
    assert (board.root / "main.py").read_text() == "print('mine')\n"
    assert not list(board.root.glob("clawland*"))

    (board.root / "main.py").unlink()
    done = flash(board, config, bundle)
    assert done.exit_code == 0, done.output
    hello = done.output.splitlines()[-1]
    assert hello.startswith("== sensor-01 starts: board pico-w  board_id e66138") and bundle.firmware in hello
    assert running_slot(board) == SLOTS[0]
    works = (board.root / SLOTS[0] / "node.json").read_text()
    assert json.loads(works)["core"]["key"] == NODE_KEY.hex()

    config.write_text(config.read_text().replace("[10000, 0]", "[50000, 0]"))
    failed = flash(board, config, bundle)
    assert failed.exit_code == 3
    assert "the new firmware does not say hello, so what ran before runs again" in failed.output
    assert "  | WiringError: part 'probe': two points of one raw value" in failed.output
    assert running_slot(board) == SLOTS[0]
    assert (board.root / SLOTS[0] / "node.json").read_text() == works
    measured = firmware("bench", "--port", board.url)
    assert "RAM of the core and its program" in measured.output and "micropython on linux" in measured.output

    said = done.output + failed.output
    assert not secrets_in(said) and PASSWORD not in said


class BoardRig(Rig):
    """A cloud and a gateway as in life, and no node yet."""

    async def start_node(self) -> None: ...


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[BoardRig]:
    made = BoardRig(tmp_path)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


class Watch:
    """`firmware monitor`, and what it has shown."""

    def __init__(self, url: str, log: Path) -> None:
        self._url = url
        self._log = log
        self._child: asyncio.subprocess.Process

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "firmware", "monitor", "--port", self._url, stdout=log, stderr=log
            )

    async def stop(self) -> int:
        self._child.send_signal(2)
        return await self._child.wait()

    def text(self) -> str:
        return self._log.read_text()

    def produced(self) -> set[Identity]:
        rows: list[Any] = [line.split() for line in self.text().splitlines() if " reading.produced " in line]
        return {(NODE, int(row[row.index("boot") + 1]), int(row[row.index("seq") + 1])) for row in rows}


@pytest.fixture
def flashed(running: BoardRig, tmp_path: Path, bundle: Bundle) -> Iterator[PtyBoard]:
    """A board with the firmware on its flash, as `firmware flash` leaves it."""
    config, root = write_config(tmp_path, running.gateway.ready["mqtt_port"]), tmp_path / "board"
    shutil.copytree(bundle.directory, root / SLOTS[0])
    (root / SLOTS[0] / "main.py").rename(root / "main.py")
    (root / SLOTS[0] / "node.json").write_text(json.dumps(node_json(load_settings(config), config)))
    (root / "clawland.slot").write_text(SLOTS[0])
    with PtyBoard(root) as made:
        yield made


async def test_a_board_behind_a_gateway_loses_nothing_to_an_outage_and_a_power_cut(
    running: BoardRig, flashed: PtyBoard, tmp_path: Path
) -> None:
    board = flashed
    watch = Watch(board.url, tmp_path / "watch.log")
    await watch.start()
    cloud = running.cloud
    await eventually(lambda: len(cloud.acknowledged()) >= 3, "the first readings in the cloud")

    await eventually(lambda: len(watch.produced()) >= 3, "what the monitor shows")
    await running.gateway.kill()
    before = len(watch.produced())
    await eventually(lambda: len(watch.produced()) >= before + 4, "readings during the outage")
    starts = board.starts
    board.cut_power()
    await eventually(lambda: board.starts == starts + 1, "the power")
    before = len(watch.produced())
    await eventually(lambda: len(watch.produced()) >= before + 4, "readings after the power cut")
    during = watch.produced()
    assert len({boot for _, boot, _ in during}) == 2
    await running.start_gateway()
    await eventually(lambda: during <= cloud.acknowledged(), "all that was read")
    assert await watch.stop() == 0
    assert " sensor-01  reading.produced " in watch.text()
    assert secrets_in(watch.text()) == []
