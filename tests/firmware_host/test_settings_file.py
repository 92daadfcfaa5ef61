"""A node's configuration file: usual sensors by name, local rules, sleep and battery, and what is said of mistakes."""

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from firmware.cli import app
from firmware.hosting.config import ConfigError, Table
from firmware.hosting.tls import PinnedTls
from firmware.hosts.board_settings import BOARD_EXAMPLE
from firmware.hosts.settings import EXAMPLE, NodeSettings, load_settings
from tests.nanoclaw_host.rig import node_config, write_key

CO2 = '[[sensors]]\nprofile = "co2"\nsignal = { kind = "constant", value = 600 }\n'
FIELDS_OF_A_BOARD = ("alarm_pin", "led_pin", "battery", "deep_sleep_from_ms", "sealing_key_file", "heartbeat_ms")
FIELDS_OF_ITS_SENSORS = ("every_ms", "stuck_ms", "sealed")
HOT = '[[rules]]\nname = "hot"\nwhen = { metric = "temp", op = ">", value = 30 }\n'


def loaded(tmp_path: Path, node: str = "", more: str = "") -> NodeSettings:
    write_key(tmp_path / "node.key", bytes(32))
    config = node_config(tmp_path, 1, more=node)
    config.write_text(config.read_text() + "\n" + more)
    return load_settings(config)


def test_a_sensor_by_its_profile_needs_nothing_else_and_what_is_given_beside_it_counts(tmp_path: Path) -> None:
    sensor = loaded(tmp_path, more=CO2).core["sensors"][-1]
    assert (sensor["metric"], sensor["unit"], sensor["low"], sensor["every_ms"]) == ("co2", "ppm", 300, 60_000)
    assert sensor["stuck_ms"] == 4 * 3_600_000
    changed = CO2 + 'metric = "co2_hall"\nevery_ms = 5000\nhigh = 2000\nstuck_ms = 7\n'
    sensor = loaded(tmp_path, more=changed).core["sensors"][-1]
    assert (sensor["metric"], sensor["every_ms"], sensor["high"], sensor["stuck_ms"]) == ("co2_hall", 5000, 2000, 7)


def test_rules_sleep_and_battery_reach_the_core(tmp_path: Path) -> None:
    core = loaded(tmp_path, "sleep = true\nlow_battery_mv = 3300\nbattery_mv = 3000", HOT).core
    assert core["rules"] == [{"name": "hot", "when": {"metric": "temp", "op": ">", "value": 30}, "clear": None}]
    assert (core["sleep"], core["low_battery_mv"]) == (True, 3300)


def test_a_gateway_that_is_pinned_is_reached_on_the_port_for_tls(tmp_path: Path) -> None:
    write_key(tmp_path / "node.key", bytes(32))
    config = node_config(tmp_path, 1)
    plain = config.read_text().replace("port = 1\n", "")

    def with_(lines: str) -> NodeSettings:
        config.write_text(plain.replace("[gateway]\n", f"[gateway]\n{lines}\n"))
        return load_settings(config)

    pins = "AB:" * 31 + "AB, " + "0" * 64
    settings = with_(f'tls = true\nfingerprint = "{pins}"')
    assert settings.tls == PinnedTls(("ab" * 32, "0" * 64))
    assert settings.core["home"]["target"] == "127.0.0.1:8883"
    for wrong in ("tls = true", 'tls = true\nfingerprint = "ab"', f'fingerprint = "{pins}"'):
        with pytest.raises(ConfigError, match=r"gateway\.fingerprint"):
            with_(wrong)


@pytest.mark.parametrize(
    ("node", "more", "words"),
    [
        ("", CO2.replace('"co2"', '"co3"'), "profile: must be one of battery, co2"),
        ("", HOT.replace('">"', '"=>"'), "rules: rule 'hot': when and clear are {metric, op, value}"),
        ("", HOT + HOT, "two rules 'hot'"),
        ("", HOT + "clear = 3\n", "clear: must be a table"),
        ("", HOT + "severity = 3\n", "severity: unknown key"),
        ("", HOT.replace('name = "hot"\n', ""), "name: is missing"),
        ("sleep = 3", "", "sleep: must be true or false"),
        ("low_battery_mv = -1", "", "low_battery_mv: must be from 0"),
        ("", CO2 + "stuck_ms = 0\n", "stuck_ms: must be from 1"),
    ],
)
def test_a_mistake_is_told_with_its_key(tmp_path: Path, node: str, more: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, node, more)
    assert words in str(error.value)


def test_the_example_with_all_that_is_commented_out_is_a_sound_configuration(tmp_path: Path) -> None:
    lines = [line.removeprefix("# ") if "=" in line or "[[" in line else line for line in EXAMPLE.splitlines()]
    (tmp_path / "node.toml").write_text("\n".join(lines))
    write_key(tmp_path / "sensor-01.key", bytes(32))
    write_key(tmp_path / "sensor-01.sealing.key", bytes(range(32)))
    core = load_settings(tmp_path / "node.toml").core
    assert [sensor["metric"] for sensor in core["sensors"]] == ["temp", "co2"]
    assert core["sleep"] and core["rules"][0]["clear"]["value"] == 29


RADIO = "[lora]\nsf = 7\n"
CABLE = 'id = "gateway-01"\nserial = "/dev/a"\n'


@pytest.mark.parametrize("way", ["[gateway]\n" + CABLE, RADIO, '[gateway]\nid = "g"\n'])
def test_the_example_has_every_key_that_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    asked: set[str] = set()
    get, has = Table._get, Table.has

    def noted_get(self: Table, key: str, *rest: Any) -> Any:
        asked.add(key)
        return get(self, key, *rest)

    def noted_has(self: Table, key: str) -> bool:
        asked.add(key)
        return has(self, key)

    monkeypatch.setattr(Table, "_get", noted_get)
    monkeypatch.setattr(Table, "has", noted_has)
    write_key(tmp_path / "node.key", bytes(32))
    config = node_config(tmp_path, 1)
    head, _, rest = config.read_text().partition("[gateway]")
    config.write_text(head + way + "[[sensors]]" + rest.partition("[[sensors]]")[2] + CO2 + HOT)
    load_settings(config)
    of_boards = {"board"}  # see BOARD_EXAMPLE
    assert [key for key in sorted(asked - of_boards) if not re.search(rf"\b{key}\b", EXAMPLE)] == []


@pytest.mark.parametrize("key", [*FIELDS_OF_A_BOARD, *FIELDS_OF_ITS_SENSORS])
def test_the_example_of_a_board_has_what_may_be_said_of_one(key: str) -> None:
    assert re.search(rf"\b{key}\b", BOARD_EXAMPLE)


def test_check_says_of_a_node_on_the_radio_who_may_hear_it(tmp_path: Path) -> None:
    write_key(tmp_path / "node.key", bytes(32))
    config = node_config(tmp_path, 1)
    head, _, rest = config.read_text().partition("[gateway]")
    config.write_text(head + RADIO + "[[sensors]]" + rest.partition("[[sensors]]")[2])
    said = CliRunner().invoke(app, ["check", "--config", str(config)]).output
    assert "for whichever gateway hears its radio, through the concentrator's port at 127.0.0.1:1700" in said


def at_a_cable(tmp_path: Path, gateway: str) -> NodeSettings:
    write_key(tmp_path / "node.key", bytes(32))
    config = node_config(tmp_path, 1)
    config.write_text(config.read_text().replace("port = 1\n", gateway))
    return load_settings(config)


def test_a_serial_line_stands_for_host_and_port_and_has_the_usual_speed(tmp_path: Path) -> None:
    settings = at_a_cable(tmp_path, 'serial = "socket://bench:4000"\n')
    assert settings.core["home"] == {"id": "gateway-01", "target": "socket://bench:4000"}
    assert (settings.speed, settings.core["wired"]) == (115_200, True)
    settings = at_a_cable(tmp_path, "port = 1883\n")
    assert (settings.speed, settings.core["wired"]) == (None, False)


@pytest.mark.parametrize(
    ("gateway", "words"),
    [
        ('serial = "ttyUSB0"\n', "gateway.serial: must be a device as /dev/ttyUSB0, or a URL as socket://host:port"),
        ('serial = "/dev/a"\nport = 1\n', "gateway.port: leave it out: serial says already where the gateway is"),
        ('serial = "/dev/a"\nspeed = 3\n', "gateway.speed: must be from 9600 to 4000000, not 3"),
        ("speed = 9600\n", "gateway.speed: belongs to a serial line, and serial is missing"),
    ],
)
def test_a_mistake_about_the_cable_is_told_with_its_key(tmp_path: Path, gateway: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        at_a_cable(tmp_path, gateway)
    assert words in str(error.value)
