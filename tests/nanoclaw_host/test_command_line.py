"""What a user types wrong gets one line that says what to do, and an exit code that says whose turn it is."""

import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nanoclaw import cli
from nanoclaw.host.checks import findings
from nanoclaw.host.config import EXAMPLE, ConfigError, data_directory, load_settings
from nanoclaw.host.outbox_store import OutboxStore
from nanoclaw.host.status import DataLock, is_running
from tests.nanoclaw_host.rig import child_environment, gateway_config, write_key


def nanoclaw(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nanoclaw.cli", *map(str, arguments)]
    environment = {**child_environment(), "COLUMNS": "120", **variables}
    return subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment, check=False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_key(tmp_path / "gateway.key", bytes(32))
    return gateway_config(tmp_path, 1883)


def test_the_example_is_a_good_configuration(tmp_path: Path) -> None:
    (tmp_path / "example.toml").write_text(EXAMPLE)
    write_key(tmp_path / "gateway-01.key", bytes(32))
    settings = load_settings(tmp_path / "example.toml", environ={})
    assert (settings.core.id, settings.uplink, settings.broker) == ("gateway-01", "hub.example.org:1883", "embedded")


def test_flags_win_over_variables_and_variables_over_the_file(config: Path) -> None:
    environ = {"CLAWLAND_UPLINK_HOST": "hub", "CLAWLAND_UPLINK_PORT": "2000", "CLAWLAND_LOCAL_PORT": "3000"}
    settings = load_settings(config, {"uplink.port": "4000"}, environ)
    assert (settings.uplink, settings.local_port, settings.data) == ("hub:4000", 3000, config.parent / "gateway")


def test_timings_can_be_tuned_and_a_mistyped_one_is_refused(config: Path) -> None:
    text = config.read_text()
    config.write_text(text + "[tuning]\nwindow_ms = 1000\n")
    assert load_settings(config, environ={}).core.window_ms == 1000
    config.write_text(text + "[tuning]\nwindow = 1000\n")
    with pytest.raises(ConfigError, match=r"tuning\.window: unknown key; did you mean 'window_ms'"):
        load_settings(config, environ={})


def test_when_nodes_go_home_is_said_by_policy_and_never_when_nothing_is_said(config: Path) -> None:
    text = config.read_text()
    assert load_settings(config, environ={}).core.failback == "never"
    config.write_text(text + '[failback]\npolicy = "idle"\n[tuning]\nfailback_hold_ms = 60000\n')
    core = load_settings(config, environ={}).core
    assert (core.failback, core.failback_hold_ms) == ("idle", 60_000)
    config.write_text(text + '[failback]\npolicy = "sometimes"\n')
    with pytest.raises(ConfigError, match=r"failback\.policy: must be one of never, idle, after, not 'sometimes'"):
        load_settings(config, environ={})


def test_what_goes_up_is_said_by_metric_and_a_mistyped_mode_or_metric_is_refused(config: Path) -> None:
    text = config.read_text()
    config.write_text(text + '[modes]\ntemp = "summary"\n')
    assert load_settings(config, environ={}).core.modes == {"temp": "summary"}
    config.write_text(text + '[modes]\ntemp = "sumary"\n')
    with pytest.raises(ConfigError, match=r"modes\.temp: must be one of raw, summary, on_change, not 'sumary'"):
        load_settings(config, environ={})
    config.write_text(text + '[modes]\nTemp = "raw"\n')
    with pytest.raises(ConfigError, match=r"modes\.Temp: 'Temp' cannot be a metric"):
        load_settings(config, environ={})


@pytest.mark.live
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('id = "gateway-01"', 'id = "Gateway 1"'), "gateway.id: 'Gateway 1' cannot be an id"),
        (('host = "127.0.0.1"\nport = 1883', ""), "uplink.host: is missing"),
        (("gateway.key", "none.key"), "gateway.key_file: "),
        (
            ('broker = "embedded"', 'broker = "rabbit"'),
            "local.broker: must be one of embedded, mosquitto, not 'rabbit'",
        ),
    ],
)
def test_a_bad_configuration_is_exit_code_2_and_one_line(config: Path, change: tuple[str, str], message: str) -> None:
    config.write_text(config.read_text().replace(*change))
    done = nanoclaw("run", "--config", config)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.live
def test_a_port_in_use_is_exit_code_3_and_says_so(config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = nanoclaw("run", "--config", config, "--local-port", str(port))
    assert done.returncode == 3
    assert f"port {port} on 127.0.0.1 is in use" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.live
def test_a_second_gateway_on_the_same_data_is_refused(config: Path) -> None:
    lock = DataLock(config.parent / "gateway")
    try:
        done = nanoclaw("run", "--config", config)
    finally:
        lock.close()
    assert done.returncode == 3
    assert "another gateway is running on" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.live
def test_a_data_directory_that_cannot_be_made_is_exit_code_3(config: Path) -> None:
    done = nanoclaw("run", "--config", config, "--data", "/proc/nowhere")
    assert done.returncode == 3
    assert "/proc/nowhere" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.live
async def test_status_tells_the_truth_about_a_gateway_that_does_not_run(tmp_path: Path) -> None:
    store = OutboxStore(tmp_path)
    await store.write([("add", 1, "reading", b"{}"), ("add", 2, "report", b"{}"), ("add", 3, "reading", b"{}")])
    store.close()
    done = nanoclaw("status", "--data", tmp_path)
    assert done.returncode == 3
    assert "not running" in done.stdout
    assert "2 readings, 1 reports" in done.stdout
    assert json.loads(nanoclaw("status", "--data", tmp_path, "--json").stdout)["outbox_readings"] == 2
    assert nanoclaw("status", "--data", tmp_path / "none").returncode == 2
    assert not (tmp_path / "lock").exists(), "looking leaves nothing"


@contextmanager
def another_user(directory: Path) -> Iterator[None]:
    """What `directory` holds is not for us; root has to become somebody else for that."""
    root = os.geteuid() == 0
    directory.chmod(0o700 if root else 0)
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        directory.chmod(0o700)


@pytest.mark.parametrize("reached", [True, False])
def test_another_user_is_told_that_looking_is_not_allowed(
    tmp_path: Path, reached: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    DataLock(tmp_path / "data").close()
    directory = tmp_path / "data" if reached else tmp_path
    looks: list[Callable[[], None]] = [
        lambda: cli.status(data=tmp_path / "data"),
        lambda: cli.journal(data=tmp_path / "data"),
    ]
    for look in looks:
        with another_user(directory), pytest.raises(SystemExit) as left:
            look()
        (line,) = capsys.readouterr().err.splitlines()
        assert left.value.code == 3
        assert line.startswith(f"error: {tmp_path / 'data'}")
        assert "permission denied: run it as root or as the gateway's user" in line


def test_a_check_by_another_user_says_so_and_ends(tmp_path: Path, config: Path) -> None:
    settings = load_settings(config, environ={})
    DataLock(settings.data).close()
    with another_user(settings.data):
        (finding,) = findings(settings)
    text = f"{settings.data}: permission denied: run it as root or as the gateway's user"
    assert finding == ("error", "data", text)


def test_a_gateway_that_runs_is_seen_and_two_who_look_are_no_gateway(tmp_path: Path) -> None:
    assert not is_running(tmp_path / "none")
    lock = DataLock(tmp_path)
    assert is_running(tmp_path)
    lock.close()
    with (tmp_path / "lock").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert not is_running(tmp_path)


def test_status_needs_no_key(tmp_path: Path, config: Path) -> None:
    (tmp_path / "gateway.key").unlink()
    assert data_directory(config, {}) == tmp_path / "gateway"


def init(path: Path, **options: Any) -> None:
    named: dict[str, Any] = {"config": path, "gateway": "gateway-01", "hub": "hub", **options}
    cli.init(**named)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"gateway": "Bad Id"}, "--id: 'Bad Id' cannot be an id: use at most 32 of a-z, 0-9 and '-', not '-' first"),
        ({"site": ""}, "--site: '' cannot be an id"),
        ({"fleet": "A"}, "--fleet: 'A' cannot be an id"),
        ({"hub": " "}, "--hub: must not be empty"),
        ({"key_file": ""}, "--key-file: must not be empty"),
        (
            {"local_host": "192.168.50.1"},
            "--local-host: nodes would speak to 192.168.50.1 without TLS: add --local-tls",
        ),
        ({"url": "https://fleet", "token_file": Path("/nowhere/token")}, "--token-file: /nowhere/token: No such file"),
    ],
)
def test_init_refuses_what_run_would_refuse_and_writes_nothing(
    tmp_path: Path, wrong: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gateway.toml"
    with pytest.raises(SystemExit) as left:
        init(path, **wrong)
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert not path.exists()


@pytest.mark.parametrize(("flag", "plain"), [("local_tls", False), ("local_plain", True)])
def test_init_for_sensors_on_their_own_network_says_how_they_speak(tmp_path: Path, flag: str, plain: bool) -> None:
    path = tmp_path / "gateway.toml"
    init(path, local_host="192.168.50.1", **{flag: True})
    write_key(tmp_path / "gateway.key", bytes(32))
    settings = load_settings(path, environ={})
    assert (settings.local_host, settings.local_plain, settings.local_tls is None) == ("192.168.50.1", plain, plain)


@pytest.mark.live
def test_a_gateway_process_loads_no_cloud_and_no_simulator() -> None:
    modules = "nanoclaw.cli, nanoclaw.host.run, nanoclaw.host.discovery, firmware.hosting.logs, nanoclaw.host.checks"
    program = f"import sys, {modules}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=child_environment()
    )
    assert not set(done.stdout.split()) & {"fastapi", "sqlalchemy", "simpy", "numpy", "clawsim", "uvicorn"}
