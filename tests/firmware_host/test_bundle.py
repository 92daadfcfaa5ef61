"""What goes to a board: a bundle that says exactly what it is, and a configuration that was checked before."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from firmware.cli import app
from firmware.hosting.config import ConfigError
from firmware.hosts.board_settings import BOARD_EXAMPLE
from firmware.hosts.build import BOARD_FLASH, node_json
from firmware.hosts.bundle import MANIFEST_FILE, BundleError, build_bundle, read_bundle
from firmware.hosts.flashing import is_hello
from firmware.hosts.monitor import told
from firmware.hosts.port import readable
from firmware.hosts.settings import EXAMPLE, load_settings

KEY, PASSWORD = bytes(range(32)), "correct horse"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_bundle("pico-w", tmp_path_factory.mktemp("bundle") / "out").directory


@pytest.fixture
def config(tmp_path: Path) -> Path:
    for name, text in (("sensor-01.key", KEY.hex()), ("wifi.password", PASSWORD)):
        (tmp_path / name).write_text(text + "\n")
        (tmp_path / name).chmod(0o600)
    (tmp_path / "board.toml").write_text(BOARD_EXAMPLE)
    return tmp_path / "board.toml"


def test_the_same_sources_make_the_same_bytes_and_each_kind_of_board_has_its_own(bundle: Path, tmp_path: Path) -> None:
    again = build_bundle("pico-w", tmp_path / "again")
    names = sorted(path.relative_to(bundle) for path in bundle.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(again.directory) for path in again.directory.rglob("*") if path.is_file())
    assert all((bundle / name).read_bytes() == (again.directory / name).read_bytes() for name in names)
    assert str(Path(__file__).parents[2]).encode() not in b"".join((bundle / name).read_bytes() for name in names)
    assert build_bundle("esp32", tmp_path / "again").firmware != again.firmware  # in the place of the other


def test_the_manifest_has_the_size_and_hash_of_each_file_and_what_a_board_needs_is_there(bundle: Path) -> None:
    found = json.loads((bundle / MANIFEST_FILE).read_text())
    assert {"main.py", "firmware/core/node.mpy", "firmware/hosts/micro/pico.mpy"} <= found["files"].keys()
    assert not [name for name in found["files"] if "linux" in name or "cli" in name]
    assert (found["board"], found["mpy"]) == ("pico-w", 6)
    assert sum(entry["size"] for entry in found["files"].values()) < 100_000


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda at: (at / "main.py").write_text(""), "main.py is not what the manifest says"),
        (lambda at: (at / "firmware/core/node.mpy").unlink(), "firmware/core/node.mpy cannot be read"),
        (lambda at: (at / MANIFEST_FILE).write_text("{}"), "manifest.json is damaged"),
        (lambda at: (at / MANIFEST_FILE).write_text('{"files":[' * 3), "manifest.json is damaged"),
        (lambda at: (at / MANIFEST_FILE).unlink(), "is no bundle"),
    ],
)
def test_a_bundle_that_is_not_whole_is_refused(bundle: Path, tmp_path: Path, spoil, message: str) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    spoil(copy)
    with pytest.raises(BundleError, match=message):
        read_bundle(copy)


def test_a_manifest_cannot_name_files_elsewhere(bundle: Path, tmp_path: Path) -> None:
    found = json.loads((bundle / MANIFEST_FILE).read_text())
    found["files"]["../secret"] = {"size": 1, "sha256": ""}
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(found))
    with pytest.raises(BundleError, match=r"names '../secret'"):
        read_bundle(tmp_path)
    with pytest.raises(BundleError, match=r"names '../secret'"):
        build_bundle("pico-w", tmp_path)


def test_nothing_but_an_earlier_bundle_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(BundleError, match="is not empty"):
        build_bundle("pico-w", tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_the_example_of_a_board_is_a_good_configuration(config: Path) -> None:
    found = node_json(load_settings(config), config)
    assert found["board"]["sensors"] == [{"part": "air", "what": "temp"}, {"part": "air", "what": "humidity"}]
    assert found["board"]["parts"] == {"air": {"kind": "dht22", "pin": 4}}
    assert found["board"]["wifi_password"] == PASSWORD
    assert (found["flash"]["directory"], found["signals"]) == (BOARD_FLASH, [])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('kind = "pico-w"', 'kind = "arduino"', "board.kind: must be one of esp32, pico-w"),
        ('"wifi.password"', '"none"', "board.wifi_password_file: .*none cannot be read"),
        ('"wifi.password"', '"board.toml"', "board.wifi_password_file: .*open to every user|password of 8 to 63"),
        ("pin = 4", 'pin = "GP4"', r"parts\[0\].pin: must be an integer"),
        ("pin = 4", "pins = 4", r"parts\[0\].pin: is missing"),
        ("pin = 4", "pin = 4\nspeed = 3", r"parts\[0\].speed: unknown key"),
        ('kind = "dht22"', 'kind = "dht11"', r"parts\[0\].kind: must be one of analog"),
        ('part = "air"', 'part = "water"', r"sensors\[0\].part: must be one of air"),
        ('what = "temp"', 'what = "co2"', r"sensors\[0\].what: must be one of temp, humidity"),
        ('part = "air"', 'signal = { kind = "constant", value = 1 }', r"sensors\[0\].signal: is for a process"),
        ("[board] ", "battery = 3\n[board] ", r"gateway.battery: unknown key"),
        ('wifi_ssid = "shed"', f'wifi_ssid = "{"s" * 33}"', "board.wifi_ssid: must be at most 32 bytes"),
        ("[[parts]]", "battery = { pin = 26, low = [1], high = [2, 3] }\n[[parts]]", "battery.low: must be 2"),
        ('wifi_ssid = "shed"', 'wifi_ssid = "shed"\ndeep_sleep_from_ms = 60000', "only esp32 sleeps deeply"),
        ("[board] ", '[discovery]\ninterface = "127.0.0.1"\n[board] ', "discovery: leave it out: a board looks"),
    ],
)
def test_what_is_wrong_with_a_board_names_the_key(config: Path, old: str, new: str, message: str) -> None:
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message) as error:
        load_settings(config)
    assert str(error.value).startswith(str(config)) and PASSWORD not in str(error.value)


def test_the_example_of_a_board_with_all_that_is_commented_out_is_a_good_configuration(config: Path) -> None:
    lines = [
        line.removeprefix("# ") for line in BOARD_EXAMPLE.replace('kind = "pico-w"', 'kind = "esp32"').splitlines()
    ]
    config.write_text("\n".join(lines))
    (config.parent / "sensor-01.sealing.key").write_text(bytes(range(32, 64)).hex())
    (config.parent / "sensor-01.sealing.key").chmod(0o600)
    found = node_json(load_settings(config), config)
    assert found["core"]["sensors"][0]["sealed"] and found["core"]["sealing_key"] == bytes(range(32, 64)).hex()
    assert (found["board"]["alarm_pin"], found["board"]["deep_sleep_from_ms"]) == (15, 60_000)


@pytest.mark.parametrize("command", ["run", "build", "emulate", "flash", "monitor", "bench", "inspect"])
def test_each_command_has_an_example_in_its_help(command: str) -> None:
    assert f"Example: firmware {command} " in CliRunner().invoke(app, [command, "--help"]).output


def test_a_place_that_cannot_be_written_is_named(config: Path, tmp_path: Path) -> None:
    (tmp_path / "process.toml").write_text(EXAMPLE)
    arguments = ["build", "--config", str(tmp_path / "process.toml"), "--out", str(config)]
    done = CliRunner().invoke(app, arguments)
    assert (done.exit_code, done.output) == (2, f"error: {config}: cannot be read or written: File exists\n")


TLS = f'port = 8883\ntls = true\nfingerprint = "{"ab" * 32}"\n#'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("port = 1883", TLS, "gateway.tls: boards speak without TLS: leave tls and fingerprint out, and give the gat"),
        ('host = "192', 'bind_address = "10.0.0.1"\nhost = "192', "gateway.bind_address: leave it out: a board has"),
        ("backlog_readings = 100", "backlog_readings = 201", "node.backlog_readings: must be at most 200 on a board"),
        (
            'host = "192.168.1.100"           # as the board reaches it\nport = 1883 ',
            'serial = "/dev/ttyUSB0" #',
            "gateway.serial: the boards' host knows Wi-Fi only: write host and port instead of it",
        ),
    ],
)
def test_what_no_board_can_do_is_refused_by_check_as_by_flash(config: Path, old: str, new: str, message: str) -> None:
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new, 1))
    for command in (["check"], ["flash", "--port", "/dev/none"]):
        done = CliRunner().invoke(app, [*command, "--config", str(config)])
        assert (done.exit_code, len(done.output.splitlines())) == (2, 1)
        assert done.output.startswith(f"error: {config}: {message}")


def test_a_board_has_no_radio_for_frames_yet(config: Path) -> None:
    head, _, rest = config.read_text().partition("[gateway]")
    config.write_text(head + "[board]" + rest.partition("[board]")[2] + "\n[lora]\nsf = 7\n")
    with pytest.raises(ConfigError, match="lora: the boards' host knows Wi-Fi only"):
        load_settings(config)


def test_check_says_which_board_in_which_wifi_with_which_parts(config: Path) -> None:
    said = CliRunner().invoke(app, ["check", "--config", str(config)]).output
    assert said.strip().endswith("at 192.168.1.100:1883, on a pico-w in the Wi-Fi shed, parts: air (dht22)")


@pytest.mark.parametrize("command", [["emulate"], ["build", "--out", "OUT", "--config"], ["run", "--config"]])
def test_a_board_is_neither_emulated_nor_built_for_a_process_nor_run(
    config: Path, tmp_path: Path, command: list[str]
) -> None:
    arguments = [str(tmp_path / "out") if argument == "OUT" else argument for argument in command]
    done = CliRunner().invoke(app, [*arguments, str(config)])
    assert (done.exit_code, done.output) == (
        2,
        f"error: {config}: is a board's configuration ([board]): `firmware flash` brings it there\n",
    )
    assert not (tmp_path / "out").exists()


def test_a_board_keeps_a_hundred_readings_when_nothing_is_said(config: Path) -> None:
    config.write_text(config.read_text().replace("backlog_readings", "# backlog_readings"))
    assert node_json(load_settings(config), config)["core"]["backlog_readings"] == 100


def test_a_board_is_not_run_as_a_process_and_a_process_is_not_flashed(config: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke(app, ["run", "--config", str(config)])
    assert (run.exit_code, "`firmware flash` brings it there" in run.output) == (2, True)
    other = tmp_path / "process.toml"
    other.write_text(CliRunner().invoke(app, ["example"]).output)
    flash = CliRunner().invoke(app, ["flash", "--config", str(other), "--port", "/dev/none"])
    assert (flash.exit_code, "has no [board] table" in flash.output) == (2, True)


def test_a_port_that_is_not_there_is_a_line_that_says_what_to_do(config: Path, bundle: Path) -> None:
    for command in (["monitor"], ["bench"], ["flash", "--config", str(config), "--bundle", str(bundle)]):
        done = CliRunner().invoke(app, [*command, "--port", "/dev/none", "--wait", "0"])
        assert done.exit_code == 3
        assert done.output.startswith("error: /dev/none: cannot be opened: ") and done.output.count("\n") == 1
    done = CliRunner().invoke(app, ["monitor", "--port", "gopher://x", "--wait", "0"])
    assert done.exit_code == 3 and "gopher" in done.output


def test_the_monitor_says_events_in_words_and_leaves_all_else_as_it_is() -> None:
    event = '{"t_ms":61000,"kind":"reading.produced","who":"sensor-01","seq":3,"metric":"temp","value":22.5}'
    assert told(event) == "      61.0 s  sensor-01  reading.produced   metric temp  seq 3  value 22.5"
    assert told('hello {"id":"s","boot":7}') == "== s starts: boot 7"
    for line in ("Traceback (most recent call last):", "{", "[1]", '{"t_ms":"x"}', "hello world", "[" * 5000):
        assert told(line) == line
    assert told('{"t_ms":1,"kind":"\\u001b[2J","who":null}') == "       0.0 s  null  \N{REPLACEMENT CHARACTER}[2J"
    assert readable(b"\x1b[2Jtemp \xff\r") == "\N{REPLACEMENT CHARACTER}[2Jtemp \N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    "line", ["hello", "hello {}", "hello [1]", "hello {", 'hello {"id":"other","firmware":"f"}', ""]
)
def test_only_the_hello_of_this_node_with_this_firmware_counts(line: str) -> None:
    assert not is_hello(line, "f", "sensor-01")
    assert is_hello('hello {"id":"sensor-01","firmware":"f"}', "f", "sensor-01")
