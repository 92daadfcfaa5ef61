"""`nanoclaw check` finds what is wrong before a gateway runs, and says what to do."""

import os
import shutil
import socket
from pathlib import Path

import pytest

from firmware.cable.stream import open_port
from nanoclaw.host import checks
from nanoclaw.host.checks import ERROR, OK, WARNING, Finding, findings
from nanoclaw.host.config import GatewaySettings, load_settings
from nanoclaw.host.networks import Interfaces, forwarding, separation_problems, way_problems
from nanoclaw.host.sensor_tls import make_pair
from nanoclaw.host.status import DataLock
from tests.nanoclaw_host.rig import gateway_config, write_key

NOW_UTC_MS = 1_790_000_000_000
BARN = Interfaces({"lo": ["127.0.0.1"], "eth0": ["10.9.0.1"], "eth1": ["10.1.0.1"], "wwan0": []})


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_key(tmp_path / "gateway.key", bytes(32))
    return gateway_config(tmp_path, 1)


@pytest.fixture(autouse=True)
def hub_lets_everybody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "refused_because", lambda settings, way: None)


def changed(config: Path, **tables: str) -> GatewaySettings:
    """The settings with lines added at the top of tables; a table that is new comes with its header."""
    text = config.read_text()
    for table, lines in tables.items():
        header = f"[{table}]\n"
        text = text.replace(header, header + lines + "\n") if header in text else f"{text}{header}{lines}\n"
    config.write_text(text)
    return load_settings(config, environ={})


def look(settings: GatewaySettings, what: str, utc_ms: int = NOW_UTC_MS) -> list[Finding]:
    return [finding for finding in findings(settings, utc_ms) if finding.what == what]


def test_a_good_configuration_has_only_good_findings(config: Path) -> None:
    assert {finding.level for finding in findings(changed(config), NOW_UTC_MS)} == {OK}


def test_a_port_in_use_is_named_with_its_key(config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config.write_text(config.read_text().replace("port = 0", f"port = {port}"))
        (finding,) = look(load_settings(config, environ={}), "ports")
    assert finding.level == ERROR
    assert f"{port} on 127.0.0.1: address already in use (local.port)" in finding.text


def test_each_serial_port_is_opened_and_what_keeps_it_shut_is_told(config: Path, tmp_path: Path) -> None:
    master, slave = os.openpty()
    held = open_port(os.ttyname(slave), 9600)
    urls = (os.ttyname(slave), str(tmp_path / "ttyUSB0"), "socket://127.0.0.1:1")
    tables = "".join(f'[[serial]]\nurl = "{url}"\n' for url in urls)
    config.write_text(config.read_text() + tables)
    settings = load_settings(config, environ={})
    texts = [f"{finding.level} {finding.text}" for finding in look(settings, "serial")]
    assert texts == [
        f"error serial-1: {urls[0]}: in use by another process",
        f"error serial-2: {urls[1]}: there is no such device",
        "error serial-3: socket://127.0.0.1:1: connection refused",
    ]
    held.close()
    assert look(settings, "serial")[0].text == f"serial-1: {urls[0]} can be opened"
    for fd in (master, slave):
        os.close(fd)


def test_an_address_that_this_machine_has_not_is_no_place_to_listen(config: Path) -> None:
    (finding,) = look(changed(config, local='host = "192.0.2.7"\nplain = true'), "ports")
    assert (finding.level, "192.0.2.7" in finding.text) == (ERROR, True)


def test_one_port_for_two_servers_is_found(config: Path) -> None:
    config.write_text(config.read_text().replace("port = 0", "port = 18831"))
    assert any("given twice" in found.text for found in look(changed(config, monitor="port = 18831"), "ports"))


def test_a_udp_port_in_use_is_found_and_one_that_others_reach_is_a_warning(config: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        found = look(changed(config, lora=f"port = {port}"), "ports")
    assert [finding.level for finding in found] == [OK, ERROR]
    assert f"for concentrators: {port} on 127.0.0.1: address already in use (lora.port)" in found[1].text
    more = 'host = "0.0.0.0"\neuis = ["aa555a0000000101"]'
    found = look(changed(config, lora=more), "ports")
    assert [finding.level for finding in found] == [OK, OK, WARNING]
    assert "proves nobody's identity" in found[2].text


def test_a_monitor_that_others_reach_is_a_warning(config: Path) -> None:
    found = look(changed(config, monitor='port = 0\nhost = "0.0.0.0"'), "ports")
    assert WARNING in [finding.level for finding in found]


def test_a_running_gateway_keeps_its_ports_and_its_login(config: Path) -> None:
    settings = changed(config)
    lock = DataLock(settings.data)
    try:
        found = {finding.what: finding.text for finding in findings(settings, NOW_UTC_MS)}
    finally:
        lock.close()
    assert "not tried, since the gateway is running" in found["ports"]
    assert "not tried, since the gateway is running" in found["hub"]


def test_a_data_directory_that_is_a_file_or_open_to_all_is_found(config: Path) -> None:
    settings = changed(config)
    settings.data.mkdir(mode=0o755)
    settings.data.chmod(0o755)
    assert [finding.level for finding in look(settings, "data")] == [WARNING]
    settings.data.rmdir()
    settings.data.write_text("")
    assert [finding.level for finding in look(settings, "data")] == [ERROR]


def test_an_outbox_that_was_moved_aside_is_not_forgotten(config: Path) -> None:
    settings = changed(config)
    settings.data.mkdir(mode=0o700)
    (settings.data / "outbox.sqlite.broken-1").touch()
    assert "outbox.sqlite.broken-1 is an outbox that could not be read" in look(settings, "data")[1].text


def test_a_disk_that_is_smaller_than_the_outbox_may_grow_is_a_warning(config: Path) -> None:
    settings = changed(config, tuning="outbox_max_readings = 2000000000")
    assert [finding.level for finding in look(settings, "disk")] == [WARNING]


def test_a_key_that_its_group_can_read_is_a_warning_and_one_for_all_is_refused(config: Path) -> None:
    settings = changed(config)
    settings.key_file.chmod(0o640)
    (finding,) = look(settings, "secrets")
    assert (finding.level, f"chmod 600 {settings.key_file}" in finding.text) == (WARNING, True)


def test_a_key_in_systemds_directory_of_credentials_may_show_rights_of_the_group(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = changed(config)
    settings.key_file.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(settings.key_file.parent))
    assert look(settings, "secrets") == []


def test_the_key_of_tls_for_nodes_is_a_secret_too(config: Path) -> None:
    settings = changed(config, local="tls = true")
    assert settings.local_tls is not None
    pair = settings.local_tls.pair
    make_pair(pair, "gateway-01")
    assert (look(settings, "secrets")[0].level, look(settings, "tls")) == (OK, [])
    pair.chmod(0o640)
    (finding,) = look(settings, "secrets")
    assert (finding.level, f"chmod 600 {pair}" in finding.text) == (WARNING, True)


def test_a_certificate_for_nodes_that_cannot_be_used_is_an_error_and_one_that_is_yet_to_be_made_is_none(
    config: Path,
) -> None:
    settings = changed(config, local='tls = true\ncertificate = "barn.pem"')
    assert look(settings, "tls") == []
    (config.parent / "barn.pem").write_text("nothing of the kind")
    (finding,) = look(settings, "tls")
    text = f"{config.parent}/barn.pem: no certificate with its key in PEM (local.certificate)"
    assert finding == (ERROR, "tls", text)


def test_a_broker_that_is_not_installed_is_an_error(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert look(changed(config), "broker") == [], "the embedded one needs no program"
    config.write_text(config.read_text().replace('broker = "embedded"', 'broker = "mosquitto"'))
    settings = load_settings(config, environ={})
    monkeypatch.setattr(shutil, "which", lambda program, path=None: f"/usr/bin/{program}")
    assert [finding.level for finding in look(settings, "broker")] == [OK]
    monkeypatch.setattr(shutil, "which", lambda program, path=None: None)
    assert [finding.text for finding in look(settings, "broker")] == [
        "the program mosquitto is not installed: apt-get install mosquitto (local.broker)",
        "the program setpriv is not installed: apt-get install util-linux (local.broker)",
    ]


def test_programs_are_looked_for_where_the_hub_does() -> None:
    from fleet.hub import mosquitto_process

    assert checks.SYSTEM_PATHS == mosquitto_process._SEARCH


def test_a_clock_in_1970_is_a_warning_and_with_tls_an_error(config: Path) -> None:
    assert [finding.level for finding in look(changed(config), "clock", utc_ms=5_000)] == [WARNING]
    assert [finding.level for finding in look(changed(config, uplink="tls = true"), "clock", utc_ms=5_000)] == [ERROR]


def test_a_certificate_that_is_not_there_is_an_error_that_says_how_to_get_one(config: Path) -> None:
    (finding,) = look(changed(config, uplink="tls = true"), "certificate")
    assert finding.level == ERROR
    assert "gateway.pem: No such file or directory: nanoclaw enrol gets it" in finding.text


def test_a_budget_that_does_not_pay_for_heartbeats_is_a_warning(config: Path) -> None:
    (finding,) = look(changed(config, uplink="daily_mb = 2"), "budget")
    assert finding.text.startswith("uplink: 2 MB a day do not even pay for heartbeats")


def test_a_hub_that_refuses_is_an_error_with_its_reason(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "refused_because", lambda settings, way: "refused: Not authorized")
    (finding,) = look(changed(config), "hub")
    assert finding == (ERROR, "hub", "uplink: 127.0.0.1:1: refused: Not authorized")


# --- two networks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uplink", "problem"),
    [
        ('interface = "eth0"', None),
        ('bind_address = "10.9.0.1"', None),
        ('interface = "eth7"', "uplink: there is no interface eth7; there are eth0, eth1, lo, wwan0"),
        ('interface = "wwan0"', "uplink: wwan0 has no address"),
        ('bind_address = "10.9.0.7"', "uplink: 10.9.0.7 is no address of this machine"),
    ],
)
def test_a_line_needs_its_interface_or_address(config: Path, uplink: str, problem: str | None) -> None:
    assert list(way_problems(changed(config, uplink=uplink), BARN)) == ([] if problem is None else [problem])


@pytest.mark.parametrize(
    ("local", "uplink", "words"),
    [
        ('host = "10.1.0.1"', 'interface = "eth0"', ""),
        ('host = "127.0.0.1"', 'interface = "eth0"', ""),
        ('host = "0.0.0.0"', 'interface = "eth0"', "listens on every network"),
        ('host = "10.1.0.1"', 'interface = "eth1"', "share the interface eth1"),
        ('host = "10.1.0.1"', 'bind_address = "10.1.0.1"', "share the interface eth1"),
        ('host = "10.1.0.1"', "", "uplink: nothing says that sensors and uplink are apart: set interface in [uplink]"),
        ('host = "127.0.0.2"', "", ""),
    ],
)
def test_sensors_and_uplink_are_two_networks(config: Path, local: str, uplink: str, words: str) -> None:
    found = list(separation_problems(changed(config, local=f"{local}\nplain = true", uplink=uplink), BARN))
    assert words in found[0] if words else found == []


def test_a_backup_that_names_no_interface_may_be_on_the_sensors_network(config: Path) -> None:
    uplink, backup = 'interface = "eth0"', 'name = "4g"\nhost = "hub-2"'
    settings = changed(config, local='host = "10.1.0.1"\ntls = true', uplink=uplink, backup=backup)
    assert list(separation_problems(settings, BARN)) == [
        "4g: nothing says that sensors and uplink are apart: set interface in [backup]"
    ]


@pytest.mark.parametrize(
    ("setting", "local", "refused"),
    [
        ("ipv4/ip_forward", "10.1.0.1", True),
        ("ipv4/conf/eth1/forwarding", "10.1.0.1", True),
        ("ipv4/conf/eth0/forwarding", "10.1.0.1", True),
        ("ipv6/conf/all/forwarding", "10.1.0.1", True),
        ("ipv6/conf/eth1/forwarding", "10.1.0.1", True),
        ("ipv4/conf/eth5/forwarding", "10.1.0.1", False),
        ("ipv4/ip_forward", "127.0.0.1", False),
    ],
)
def test_forwarding_between_them_is_refused(
    config: Path, tmp_path: Path, setting: str, local: str, refused: bool
) -> None:
    root = tmp_path / "net"
    (root / setting).parent.mkdir(parents=True)
    (root / setting).write_text("1\n")
    settings = changed(config, local=f'host = "{local}"\nplain = true', uplink='interface = "eth0"')
    assert forwarding(settings, BARN, root) == (["net." + setting.replace("/", ".")] if refused else [])
