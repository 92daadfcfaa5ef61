"""`firmware emulate`: what it tells a board, what it refuses, and that it leaves nothing running behind."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from firmware.hosting.config import ConfigError
from firmware.hosting.lifecycle import CannotRun
from firmware.hosts.emulate import run_boards
from firmware.hosts.emulator import Emulation, lay_out, told_to_board
from firmware.hosts.flash import MEMORY_FILE, FlashInUse, lock_flash, read_flash
from firmware.hosts.micro import memory
from firmware.hosts.micro.ring import Ring
from firmware.hosts.settings import EXAMPLE, NodeSettings, load_settings
from tests.micro import boards
from tests.micro.test_mps2 import flash_in
from tests.nanoclaw_host.rig import NODE_KEY, child_environment, node_config, write_key

Node = tuple[NodeSettings, Path]
FIRMWARE = boards.ROOT / ".venv" / "bin" / "firmware"
KEPT = ["temp", "1", '"C"', 5, False]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    write_key(tmp_path / "node.key", NODE_KEY)
    config = node_config(tmp_path, 1883, more="backlog_readings = 100")
    return load_settings(config), config


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "board.elf"
    path.touch()
    return path


def test_a_board_is_told_its_configuration_its_key_and_a_chance_of_its_own_each_time(node: Node) -> None:
    first, again = (told_to_board(*node, Emulation(timescale=30)) for _ in range(2))
    assert (first["core"]["id"], first["core"]["key"]) == ("sensor-01", NODE_KEY.hex())
    assert (first["core"]["wired"], first["timescale"], first["trace"]) == (True, 30, False)
    assert first["seed"] != again["seed"]


@pytest.mark.parametrize("gateway", ['serial = "/dev/a"', f'tls = true\nfingerprint = "{"ab" * 32}"', "port = 1"])
def test_how_a_process_reaches_its_gateway_is_nothing_to_a_board_at_its_uart(node: Node, gateway: str) -> None:
    node[1].write_text(node[1].read_text().replace("port = 1883", gateway))
    told = told_to_board(load_settings(node[1]), node[1], Emulation())
    assert told["core"]["home"] == {"id": "gateway-01", "target": "the serial line"}


def test_the_printed_example_can_be_emulated(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(EXAMPLE)
    write_key(tmp_path / "sensor-01.key", NODE_KEY)
    assert told_to_board(load_settings(config), config, Emulation())["core"]["backlog_readings"] == 100


def test_a_board_that_is_switched_on_again_finds_its_flash_as_it_left_it(node: Node) -> None:
    told = told_to_board(*node, Emulation())
    file = node[0].data / MEMORY_FILE
    file.parent.mkdir()
    assert read_flash(file.parent) == {}
    lay_out(file, told)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.stat().st_size == memory.MEMORY_BYTES

    whole = bytearray(file.read_bytes())
    ring = Ring(flash_in(whole, memory.FLASH_AT, told["flash"]["sectors"]))
    ring.mount()
    ring.write([("put", "boot", 7), ("keep", 7, 0, KEPT)])
    file.write_bytes(whole)
    smaller = told_to_board(*node, Emulation())
    smaller["flash"]["sectors"] = 5  # of a backlog that was cut down
    lay_out(file, smaller)
    assert smaller["flash"]["sectors"] == told["flash"]["sectors"]
    assert read_flash(file.parent) == {"slots": {"boot": 7}, "readings": [(7, 0, KEPT)]}
    assert memory.decode(file.read_bytes()[: memory.FLASH_AT]) == smaller


@pytest.mark.parametrize(
    ("options", "count", "port", "message"),
    [
        ({"timescale": 0}, 1, 0, "--timescale: must be above 0 and at most 100, not 0"),
        ({}, 2, 0, "two boards cannot have the same id: sensor-01"),
        ({}, 1, 70000, "--port: 1 boards cannot have ports from 70000 on: the last one is 65535"),
    ],
)
async def test_what_cannot_be_is_refused_before_any_board_is_switched_on(
    node: Node, image: Path, options: dict[str, float], count: int, port: int, message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        await run_boards([node] * count, Emulation(image, **options), port)
    assert str(error.value) == message
    assert not node[0].data.exists()


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda monkeypatch, image: image.unlink(), "there is no such image of a board: `make boards` builds one"),
        (lambda monkeypatch, image: monkeypatch.setenv("PATH", "/"), "the program qemu-system-arm is not installed"),
    ],
)
async def test_what_is_missing_is_named_with_what_to_do(
    node: Node, image: Path, monkeypatch: pytest.MonkeyPatch, prepare: Callable[..., None], said: str
) -> None:
    prepare(monkeypatch, image)
    with pytest.raises(CannotRun, match="make boards") as error:
        await run_boards([node], Emulation(image), 0)
    assert said in str(error.value)


async def test_two_boards_never_share_a_flash(node: Node, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Emulation, "prepare", lambda self: None)
    node[0].data.mkdir()
    lock = lock_flash(node[0].data)
    with pytest.raises(CannotRun, match="in use by another running node"):
        await run_boards([node], Emulation(image), 0)
    os.close(lock)


@pytest.fixture
def emulating(node: Node) -> Iterator["subprocess.Popen[str]"]:
    boards.micropython()
    command = [FIRMWARE, "emulate", node[1]]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=child_environment()
    ) as child:
        yield child
        child.kill()


@pytest.mark.live
def test_ctrl_c_switches_the_boards_off_and_the_next_run_can_have_their_flash(
    node: Node, emulating: "subprocess.Popen[str]"
) -> None:
    assert emulating.stdout is not None
    assert emulating.stdout.readline().startswith("sensor-01 socket://127.0.0.1:")
    board = psutil.Process(emulating.pid).children()[0]
    with pytest.raises(FlashInUse):
        lock_flash(node[0].data)
    emulating.send_signal(signal.SIGINT)
    said, error = emulating.communicate(timeout=20)
    assert (emulating.returncode, said, error) == (0, "", "")
    assert not board.is_running()
    os.close(lock_flash(node[0].data))
