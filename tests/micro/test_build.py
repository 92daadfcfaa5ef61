"""`firmware build` makes of a configuration what a board reads, and says what no board can do."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from firmware.hosting.config import ConfigError
from firmware.hosts.build import MOST_READINGS, MOST_READINGS_ON_A_BOARD, flash_sectors, node_json, write_node
from firmware.hosts.micro.files import SectorFiles
from firmware.hosts.micro.ring import SECTOR_BYTES, FileDevice, Ring
from firmware.hosts.settings import EXAMPLE, load_settings
from tests.micro import boards
from tests.micro.test_ring import READING, Chip
from tests.nanoclaw_host.rig import node_config, write_key

STEPS = "[" + ",".join(f"{{at_ms = {n}, value = {n % 9}}}" for n in range(201)) + "]"
MORE = "backlog_readings = 100"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_key(tmp_path / "node.key", bytes(range(32)))
    return node_config(tmp_path, 18830, more=MORE)


def test_a_board_reads_the_settings_as_json_that_only_its_owner_may_read(config: Path) -> None:
    path = write_node(load_settings(config), config, config.parent / "out")
    found = json.loads(path.read_text())
    assert found["core"]["key"] == bytes(range(32)).hex()
    assert found["signals"] == [["sine", 2200.0, 300.0, 600_000, 0]]
    assert found["flash"]["directory"] == str(config.parent / "node")
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (MORE, "backlog_readings = 101", "node.backlog_readings: must be at most 100 in 48 KB of heap, not 101"),
        (MORE, f'{MORE}\nseed = "s"', "node.seed: must be an integer on a board"),
        (
            "port = 18830",
            f'port = 8883\ntls = true\nfingerprint = "{"ab" * 32}"',
            "gateway.tls: boards speak without TLS: leave tls and fingerprint out, and give the gateway's plain port",
        ),
        ('kind = "sine"', f'kind = "steps", steps = {STEPS}', "sensors[0].signal: 201 values are more than a board"),
    ],
)
def test_what_no_board_can_do_names_the_key(config: Path, old: str, new: str, message: str) -> None:
    config.write_text(config.read_text().replace(old, new))
    with pytest.raises(ConfigError) as error:
        node_json(load_settings(config), config)
    assert str(error.value).startswith(f"{config}: {message}")


def test_a_board_has_the_sealing_key_when_it_is_to_seal_and_knows_of_none_otherwise(config: Path) -> None:
    assert "sealing_key" not in node_json(load_settings(config), config)["core"]
    write_key(config.parent / "sealing.key", bytes(range(64, 96)))
    text = config.read_text().replace(MORE, f'{MORE}\nsealing_key_file = "sealing.key"')
    config.write_text(text.replace("every_ms = 5000", "every_ms = 5000\nsealed = true"))
    core = node_json(load_settings(config), config)["core"]
    assert core["sealing_key"] == bytes(range(64, 96)).hex()
    assert "seal_block" not in core


@pytest.mark.parametrize("backlog", [1, 60, MOST_READINGS, MOST_READINGS_ON_A_BOARD])
def test_the_flash_has_room_for_a_full_backlog_that_is_always_renewed(backlog: int) -> None:
    chip = Chip(flash_sectors(backlog), SECTOR_BYTES)
    ring = Ring(chip)
    ring.mount()
    kept: list[int] = []
    ring.keeps = lambda boot, seq: seq in kept
    for seq in range(3 * backlog + 500):
        kept.append(seq)
        ring.write([("keep", 1 << 29, seq + 10**6, [*READING[:3], 2**40, True])])
        if len(kept) > backlog:
            ring.write([("drop", 1 << 29, kept[0] + 10**6, kept.pop(0) + 10**6)])
    assert len(Ring(chip).mount()["readings"]) == backlog


@pytest.mark.live
def test_a_process_on_micropython_says_in_one_line_what_is_wrong(config: Path, tmp_path: Path) -> None:
    node = write_node(load_settings(config), config, tmp_path / "out")
    other = json.loads(node.read_text())
    other["flash"]["directory"] = "/proc/none/flash"
    (tmp_path / "other.json").write_text(json.dumps(other))

    def said(*arguments: str | Path, stdin: str = "") -> tuple[int, str]:
        done = boards.run("-m", "firmware.hosts.micro.linux", *arguments, stdin=stdin)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr.strip()

    assert said() == (2, "error: usage: node.json [TRACE] [--sim-clock]")
    assert said(tmp_path / "none.json") == (2, f"error: {tmp_path}/none.json: no such file")
    assert said(config) == (2, f"error: {config}: is not what `firmware build` writes")
    code, line = said(node, "--sim-clock", stdin='{"t0_monotonic_ns":1}\n')
    assert (code, line.endswith("timescale must be a number, not None")) == (2, True)
    assert said(node, "--sim-clock", stdin="") == (0, "")
    code, line = said(tmp_path / "other.json")
    assert (code, line.startswith("error: cannot use the flash or the trace")) == (3, True)


def test_a_node_on_the_radio_is_not_built_for_what_has_none(config: Path) -> None:
    head, _, rest = config.read_text().partition("[gateway]")
    config.write_text(head + "[lora]\nsf = 7\n[[sensors]]" + rest.partition("[[sensors]]")[2])
    with pytest.raises(ConfigError, match="lora: MicroPython has no radio here; `firmware run` takes this file"):
        write_node(load_settings(config), config, config.parent / "out")


def test_a_node_at_a_cable_is_not_built_for_a_process_that_has_only_sockets(config: Path) -> None:
    config.write_text(config.read_text().replace("port = 18830", 'serial = "/dev/ttyUSB0"'))
    with pytest.raises(ConfigError, match=r"gateway\.serial: a MicroPython process speaks MQTT only; `firmware run`"):
        write_node(load_settings(config), config, config.parent / "out")


def test_the_printed_example_is_built_with_as_many_readings_as_the_heap_holds(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(EXAMPLE)
    write_key(tmp_path / "sensor-01.key", bytes(32))
    built = json.loads(write_node(load_settings(config), config, tmp_path / "out").read_text())
    assert built["core"]["backlog_readings"] == MOST_READINGS
    assert built["flash"]["sectors"] == flash_sectors(MOST_READINGS)


def sector_files(directory: Path, backlog: int) -> SectorFiles:
    return SectorFiles(str(directory / "ring"), flash_sectors(backlog), SECTOR_BYTES)


def one_file(directory: Path, backlog: int) -> FileDevice:
    return FileDevice(str(directory / "flash.ring"), flash_sectors(backlog))


@pytest.mark.parametrize("device", [sector_files, one_file])
def test_a_smaller_backlog_neither_turns_the_boot_number_back_nor_loses_what_it_has_room_for(
    tmp_path: Path, device: Callable[[Path, int], SectorFiles | FileDevice]
) -> None:
    for written in (0, 57, 114):  # wherever in the ring the latest lies
        directory = tmp_path / str(written)
        directory.mkdir()
        ring = Ring(device(directory, 200))
        ring.mount()
        kept: list[int] = []
        ring.keeps = lambda boot, seq, kept=kept: seq in kept
        for seq in range(260 + written):
            kept.append(seq)
            ring.write([("put", "boot", seq), ("keep", seq, seq, [*READING])])
            if len(kept) > 200:
                ring.write([("drop", kept[0], kept[0], kept.pop(0))])
        smaller = Ring(device(directory, 30))
        found = smaller.mount(30)
        assert found["slots"] == {"boot": kept[-1]}
        assert [seq for _, seq, _ in found["readings"]] == kept[-30:]
        assert smaller.forgotten >= 170


@pytest.mark.live
def test_a_process_in_48_kb_starts_again_with_as_many_readings_as_it_may_keep(config: Path, tmp_path: Path) -> None:
    """Nobody takes them from it, and whatever else its flash holds stays there."""
    text = config.read_text().replace(MORE, f"backlog_readings = {MOST_READINGS}\nsample_until_ms = 2000")
    config.write_text(text.replace("every_ms = 5000", "every_ms = 10"))
    node = write_node(load_settings(config), config, tmp_path / "out")
    (tmp_path / "node").mkdir()
    for written in (0, 3 * MOST_READINGS):
        ring = Ring(FileDevice(str(tmp_path / "node" / "flash.ring"), flash_sectors(3 * MOST_READINGS)))
        before = ring.mount()
        boot = before.get("slots", {}).get("boot", 0)
        for seq in range(written):
            ring.write([("keep", boot, 10**6 + seq, [*READING])])
        said = outcome_within_s(3, node, tmp_path / f"trace-{written}")
        assert "MemoryError" not in said
        assert ("readings of the flash are lost" in said) is bool(written)
        assert (tmp_path / f"trace-{written}").read_text().count("reading.produced") > MOST_READINGS


def outcome_within_s(seconds: float, node: Path, trace: Path) -> str:
    """What a process says on stderr until it is killed."""
    command = boards.command("-m", "firmware.hosts.micro.linux", node, trace)
    with subprocess.Popen(command, env=boards.environment(), cwd="/", stderr=subprocess.PIPE, text=True) as child:
        try:
            return child.communicate(timeout=seconds)[1]
        except subprocess.TimeoutExpired:
            child.kill()
            return child.communicate()[1]
