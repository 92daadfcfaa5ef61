"""The gateway's configuration: written by init, changed at SIGHUP, and full of mistakes that are told one by one."""

import os
import re
import stat
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoclaw.core.config import GatewayConfig
from nanoclaw.core.lines import LineConfig
from nanoclaw.core.lora.config import LoraConfig
from nanoclaw.host.config import EXAMPLE, ConfigError, load_settings
from nanoclaw.host.examples import KINDS, example
from nanoclaw.host.lora_config import LoraSettings
from nanoclaw.host.reload import needs_restart
from nanoclaw.host.sensor_tls import SensorTls, make_pair
from nanoclaw.host.setup import SetupError, write_config
from tests.nanoclaw_host.rig import gateway_config, write_key


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_key(tmp_path / "gateway.key", bytes(32))
    return gateway_config(tmp_path, 1883)


BACKUP = '[backup]\nname = "4g"\ninterface = "wwan0"\ndaily_mb = 50\n'


def test_a_backup_goes_to_the_same_hub_another_way(config: Path) -> None:
    config.write_text(config.read_text() + BACKUP)
    settings = load_settings(config, environ={})
    assert [(way.name, way.target, way.through) for way in settings.ways] == [
        ("uplink", "127.0.0.1:1883", ""),
        ("4g", "127.0.0.1:1883", "wwan0"),
    ]
    assert settings.core.lines == (LineConfig("uplink"), LineConfig("4g", 50_000_000))


def test_with_tls_nodes_come_without_it_only_where_that_is_asked_for(config: Path) -> None:
    without = load_settings(config, environ={})
    secured = load_settings(config, environ={"CLAWLAND_LOCAL_TLS": "true"})
    both = load_settings(config, environ={"CLAWLAND_LOCAL_TLS": "true", "CLAWLAND_LOCAL_PLAIN": "true"})
    assert [each.local_plain for each in (without, secured, both)] == [True, False, True]
    assert without.local_tls is None
    assert secured.local_tls == SensorTls(8883, config.parent / "gateway" / "sensors.pem")
    with pytest.raises(ConfigError, match="CLAWLAND_LOCAL_TLS_PORT: means nothing without tls = true"):
        load_settings(config, environ={"CLAWLAND_LOCAL_TLS_PORT": "8884"})


@pytest.mark.parametrize("host", ["192.168.50.1", "0.0.0.0", "::", "barn.local"])
def test_beyond_this_machine_nodes_speak_without_tls_only_where_somebody_says_so(config: Path, host: str) -> None:
    text = config.read_text()
    config.write_text(text.replace("[local]\n", f'[local]\nhost = "{host}"\n'))
    line = config.read_text().splitlines().index(f'host = "{host}"') + 1
    words = f":{line}:1: local.host: nodes would speak to {host} without TLS: set tls = true, or plain = true"
    with pytest.raises(ConfigError, match=re.escape(words)):
        load_settings(config, environ={})
    assert load_settings(config, environ={"CLAWLAND_LOCAL_PLAIN": "true"}).local_plain
    assert not load_settings(config, environ={"CLAWLAND_LOCAL_TLS": "true"}).local_plain


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_on_this_machine_alone_nobody_has_to_say_so(config: Path, host: str) -> None:
    assert load_settings(config, environ={"CLAWLAND_LOCAL_HOST": host}).local_plain


def test_the_example_shows_every_key_of_tuning_with_its_default() -> None:
    numbers = {field.name: field.default for field in fields(GatewayConfig) if type(field.default) is int}
    table = EXAMPLE.partition("\n[tuning]")[2].partition("\n[")[0]
    shown = {key: int(value) for key, value in re.findall(r"^# (\w+) = (\d+)\b", table, re.MULTILINE)}
    assert shown == numbers


def test_variables_can_tune_and_choose_modes_and_win_over_the_file(config: Path) -> None:
    config.write_text(config.read_text() + '[tuning]\nlate_ms = 1\n[modes]\ntemp = "raw"\nlight = "on_change"\n')
    environ = {"CLAWLAND_TUNING_LATE_MS": "2", "CLAWLAND_TUNING_WINDOW_MS": "30000"}
    environ |= {"CLAWLAND_MODES_TEMP": "summary", "CLAWLAND_MODES_SOIL_MOISTURE": "on_change"}
    core = load_settings(config, environ=environ).core
    assert (core.late_ms, core.window_ms) == (2, 30_000)
    assert core.modes == {"temp": "summary", "light": "on_change", "soil_moisture": "on_change"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("CLAWLAND_TUNING_WINDOW_MS", "hello", "must be an integer, not 'hello'"),
        (
            "CLAWLAND_TUNING_WINDOW",
            "1",
            "there is no 'window' in [tuning]; did you mean CLAWLAND_TUNING_WINDOW_MS?",
        ),
        ("CLAWLAND_MODES_TEMP", "nonsense", "must be one of raw, summary, on_change, not 'nonsense'"),
        ("CLAWLAND_MODES_1ST", "raw", "'1st' cannot be a metric"),
    ],
)
def test_a_mistake_in_such_a_variable_is_told_by_its_name(config: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_settings(config, environ={name: text})
    assert str(error.value) == f"{name}: {message}"


def test_a_certificate_for_nodes_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = tmp_path / "sensors.pem"
    synced: list[tuple[bool, bool]] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append((stat.S_ISDIR(os.fstat(fd).st_mode), pair.exists())))
    make_pair(pair, "gateway-01")
    assert synced == [(False, False), (True, True)], "its content, then its name"


def test_a_variable_alone_can_make_a_backup(config: Path) -> None:
    settings = load_settings(config, environ={"CLAWLAND_BACKUP_HOST": "hub-2"})
    assert settings.ways[1].target == "hub-2:1883"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[backup]\nname = "4g"\n', "backup.interface: is needed: the backup would go the same way as [uplink]"),
        ('[backup]\nname = "uplink"\nhost = "b"\n', "backup.name: 'uplink' is the name of [uplink] already"),
        ('[backup]\ninterface = "a"\nbind_address = "10.0.0.1"\n', "backup.bind_address: leave it out"),
        ('[backup]\nbind_address = "0.0.0.0"\n', "backup.bind_address: '0.0.0.0' is no address of an interface"),
        ('[backup]\ninterface = "a"\ndaily_mb = 0\n', "backup.daily_mb: must be from 1 to 1000000, not 0"),
        ("[monitor]\nport = 70000\n", "monitor.port: must be from 0 to 65535, not 70000"),
        (
            '[lora]\nhost = "0.0.0.0"\n',
            "lora.euis: is missing: list your concentrators, since others may reach 0.0.0.0",
        ),
        ('[lora]\neuis = ["AA-55"]\n', "lora.euis: 'AA-55' is no EUI: 16 hexadecimal digits"),
        ('[lora]\neuis = "aa555a0000000101"\n', "lora.euis: must be an array of texts, not 'aa555a0000000101'"),
        ('[lora]\nregion = "MARS"\n', "lora.region: must be one of EU868, not 'MARS'"),
        ("[lora]\nduty_cycle_percent = 101\n", "lora.duty_cycle_percent: must be from 1 to 100, not 101"),
        ("[lora]\npower_dbm = 30\n", "lora.power_dbm: must be from 0 to 14, not 30"),
        ("[lora]\neui = []\n", "lora.eui: unknown key; did you mean 'euis'?"),
    ],
)
def test_a_mistake_is_told_with_line_and_column(config: Path, text: str, message: str) -> None:
    lines_before = config.read_text().count("\n")
    config.write_text(config.read_text() + text)
    with pytest.raises(ConfigError) as error:
        load_settings(config, environ={})
    where, _, what = str(error.value).partition(": ")
    assert what.startswith(message)
    assert lines_before < int(where.split(":")[1]) <= lines_before + text.count("\n")


def test_concentrators_are_listened_to_where_the_configuration_says_so(config: Path) -> None:
    assert load_settings(config, environ={}).lora is None
    plain = config.read_text()
    config.write_text(plain + "[lora]\n")
    settings = load_settings(config, environ={})
    assert (settings.lora, settings.core.lora) == (LoraSettings("127.0.0.1", 1700), LoraConfig())
    more = (
        'host = "10.0.0.1"\nport = 0\neuis = ["AA-55-5A-00-00-00-01-01", "aa555a0000000102"]\nduty_cycle_percent = 1\n'
    )
    config.write_text(plain + "[lora]\n" + more)
    settings = load_settings(config, environ={})
    assert settings.lora == LoraSettings("10.0.0.1", 0)
    euis = frozenset({"aa555a0000000101", "aa555a0000000102"})
    assert settings.core.lora == LoraConfig(euis, 14, 10_000)


def test_variables_alone_can_open_the_lora_port(config: Path) -> None:
    environ = {"CLAWLAND_LORA_PORT": "1701", "CLAWLAND_LORA_EUIS": "aa555a0000000101, aa555a0000000102"}
    settings = load_settings(config, environ=environ)
    assert settings.lora == LoraSettings("127.0.0.1", 1701)
    assert settings.core.lora is not None and len(settings.core.lora.euis) == 2


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)))
def test_garbage_is_a_configuration_error_and_nothing_else(garbage: bytes) -> None:
    path = Path("/dev/shm/clawland-garbage.toml")
    path.write_bytes(garbage)
    with pytest.raises(ConfigError):
        load_settings(path, environ={})
    path.unlink()


def test_what_init_writes_is_the_example_with_the_users_words(tmp_path: Path) -> None:
    write_key(tmp_path / "gateway.key", bytes(32))
    path = tmp_path / "etc" / "gateway.toml"
    values: dict[str, str | int | bool] = {"gateway.id": "gateway-07", "gateway.key_file": "../gateway.key"}
    values |= {"uplink.host": 'a"b\\c', "uplink.interface": "eth0", "uplink.tls": True, "uplink.port": 8883}
    write_config(path, values)
    settings = load_settings(path, environ={})
    assert (settings.core.id, settings.ways[0].host, settings.ways[0].interface) == ("gateway-07", 'a"b\\c', "eth0")
    assert settings.uplink_tls
    assert path.read_text().count("#") > 20, "the comments are still there"


def test_init_never_overwrites_a_file(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("mine")
    with pytest.raises(SetupError, match="is there already"):
        write_config(path, {})
    assert path.read_text() == "mine"


def test_an_unchanged_configuration_needs_no_restart_and_a_changed_uplink_neither(config: Path) -> None:
    before = load_settings(config, environ={})
    config.write_text(config.read_text().replace("port = 1883", "port = 1884\ndaily_mb = 9"))
    assert needs_restart(before, load_settings(config, environ={})) == []


def test_what_needs_a_restart_is_named_as_in_the_file(config: Path) -> None:
    before = load_settings(config, environ={})
    text = config.read_text().replace('broker = "embedded"', 'broker = "mosquitto"')
    config.write_text(text.replace("[uplink]", "[tuning]\nwindow_ms = 5\n[uplink]\ntls = true") + BACKUP)
    fresh = load_settings(config, environ={})
    assert needs_restart(before, fresh) == ["backup", "local.broker", "tuning.window_ms", "uplink.tls"]


def test_every_example_is_there_and_names_no_other_files_than_it_says() -> None:
    assert example("config") == EXAMPLE
    service = example("service")
    for setting in ("Type=notify", "WatchdogSec=", "DynamicUser=yes", "StateDirectory=nanoclaw", "NoNewPrivileges=yes"):
        assert setting in service
    assert set(KINDS) == {"config", "service", "firewall"}
