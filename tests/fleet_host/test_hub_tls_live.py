"""Real processes: `fleet hub --tls`, a Mosquitto from `--mosquitto-config`; a manager and a doctor come to each."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from fleet.host.pki.authority import Authority
from fleet.hub.embedded import listen_on
from tests.fleet_host.stand import Process, command

pytestmark = pytest.mark.live


@pytest.fixture
def data(tmp_path: Path) -> Path:
    Authority(tmp_path / "data").init([])
    return tmp_path / "data"


def examined(port: int, data: Path) -> subprocess.CompletedProcess[str]:
    """`fleet hub doctor` to its end."""
    arguments = command("hub", "doctor", f"localhost:{port}", "--tls", "--data", data)
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)


def until_ready(http_port: int) -> None:
    """Until the manager has its hub."""
    deadline_s = time.monotonic() + 20
    while (found := httpx.get(f"http://127.0.0.1:{http_port}/readyz")).status_code != 200:
        assert time.monotonic() < deadline_s, found.text
        time.sleep(0.05)


def test_a_manager_comes_to_a_hub_elsewhere_by_its_certificate(data: Path) -> None:
    with Process("hub", "--tls", "--data", data, "--port", "0") as hub:
        target = f"localhost:{hub.ready['mqtt_port']}"
        with Process("serve", "--data", data, "--port", "0", "--hub", target, "--hub-tls") as server:
            until_ready(server.ready["http_port"])
        report = examined(hub.ready["mqtt_port"], data)
    assert report.returncode == 0, report.stdout + report.stderr
    assert "ok   product: Clawland's embedded hub" in report.stdout


@contextmanager
def mosquitto(config: Path) -> Iterator[None]:
    """The installed Mosquitto on a configuration, as an operator starts it."""
    program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None
    with subprocess.Popen([program, "-c", str(config)], stderr=subprocess.PIPE) as broker:
        try:
            yield
        finally:
            broker.send_signal(signal.SIGTERM)


def test_a_mosquitto_on_the_written_files_is_a_hub_for_the_manager_and_good_for_the_doctor(
    data: Path, tmp_path: Path
) -> None:
    with listen_on("127.0.0.1", 0) as probe:
        port = probe.getsockname()[1]
    written = command("hub", "--tls", "--data", data, "--mosquitto-config", tmp_path / "mosquitto", "--port", str(port))
    assert subprocess.run(written, capture_output=True, check=False).returncode == 0
    with mosquitto(tmp_path / "mosquitto" / "mosquitto.conf"):
        with Process("serve", "--data", data, "--port", "0", "--hub", f"localhost:{port}", "--hub-tls") as server:
            until_ready(server.ready["http_port"])
        report = examined(port, data)
    assert report.returncode == 0, report.stdout + report.stderr
    assert "ok   product: 'mosquitto version 2" in report.stdout


def test_a_hub_that_is_not_there_is_exit_code_3(data: Path) -> None:
    with listen_on("127.0.0.1", 0) as probe:
        port = probe.getsockname()[1]
    report = examined(port, data)
    assert (report.returncode, report.stdout, report.stderr.count("\n")) == (3, "", 1)
    assert f"localhost:{port}" in report.stderr
