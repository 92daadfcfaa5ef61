"""The node as a process: its configuration, its sensors, its restarts, its errors."""

import asyncio
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from firmware.hosting.config import ConfigError
from firmware.hosts.flash import Flash, read_flash
from firmware.hosts.process import NodeProcess
from firmware.hosts.settings import EXAMPLE, load_settings
from firmware.wire.outputs import Store
from tests.hosting.virtual import LoopClock, run
from tests.nanoclaw_host.rig import child_environment, node_config, write_key


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_key(tmp_path / "node.key", bytes(32))
    return node_config(tmp_path, 1, more="seed = 7")


class Events(list[tuple[int, str, Any]]):
    """A tracer that keeps what it is told."""

    def write(self, kind: str, fields: Any, now_ms: int) -> None:
        self.append((now_ms, kind, fields))

    def readings(self) -> list[tuple[int, object]]:
        return [(now_ms, fields["value"]) for now_ms, kind, fields in self if kind == "reading.produced"]


def simulate(config: Path, seconds: float) -> Events:
    """Run the node for some virtual seconds, with nobody to connect to."""
    events = Events()

    async def body() -> None:
        settings = load_settings(config)
        flash = Flash(settings.data)
        node = NodeProcess(settings, flash, LoopClock(), events)
        node._up.connect = lambda target=None: None  # type: ignore[method-assign]
        node.start()
        await asyncio.sleep(seconds)
        await node.close()
        flash.close()

    run(body())
    return events


def test_a_node_samples_on_its_period_and_keeps_every_reading_on_flash(config: Path) -> None:
    readings = simulate(config, 21).readings()
    assert [at_ms for at_ms, _ in readings] == [0, 5000, 10_000, 15_000, 20_000]
    assert len(read_flash(config.parent / "node")["readings"]) == 5


def test_sampling_stops_when_the_rehearsal_is_over_and_all_else_goes_on(config: Path) -> None:
    config.write_text(config.read_text().replace("seed = 7", "sample_until_ms = 12_000"))
    events = simulate(config, 130)
    assert [at_ms for at_ms, _ in events.readings()] == [0, 5000, 10_000]
    assert [at_ms for at_ms, kind, _ in events if kind == "failover.scan"] == [90_001, 120_001]


def test_a_node_that_restarts_after_the_rehearsal_samples_nothing(config: Path) -> None:
    config.write_text(config.read_text().replace("seed = 7", "sample_until_ms = 0"))
    assert simulate(config, 30).readings() == []


def test_a_recording_is_replayed_at_its_own_instants_from_its_first(config: Path) -> None:
    (config.parent / "room.csv").write_text(
        "time,co2\n2015-02-04T00:00:00,400\n2015-02-04T00:00:07,500\n2015-02-04T00:01:00,600\n"
    )
    text = config.read_text()
    sensor = (
        '[[sensors]]\nmetric = "co2"\nunit = "ppm"\nsignal = { kind = "recording", path = "room.csv", column = "co2" }'
    )
    config.write_text(text[: text.index("[[sensors]]")] + sensor)
    assert simulate(config, 100).readings() == [(0, 400), (7000, 500), (60_000, 600)]


def test_a_second_boot_has_the_next_number_and_its_old_readings(config: Path) -> None:
    first = simulate(config, 6)
    second = simulate(config, 6)
    boots = [fields["boot"] for _, kind, fields in first + second if kind == "node.started"]
    assert boots[1] == boots[0] + 1
    assert [fields["backlog"] for _, kind, fields in second if kind == "node.started"] == [2]


def test_flash_that_cannot_be_written_is_told_to_the_core_and_logged(
    config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    events = Events()

    async def body() -> None:
        settings = load_settings(config)
        flash = Flash(settings.data)
        node = NodeProcess(settings, flash, LoopClock(), events)

        def broken(writes: object) -> None:
            raise OSError(28, "No space left on device")

        flash.write = broken  # type: ignore[assignment, method-assign]
        node.pump.start()
        node._store(Store(None, []))
        await node.close()
        flash.close()

    run(body())
    assert ("store.failed", {"reason": "No space left on device"}) in [(kind, fields) for _, kind, fields in events]
    assert "cannot write to flash" in caplog.text


def test_the_example_is_a_good_configuration(tmp_path: Path) -> None:
    (tmp_path / "example.toml").write_text(EXAMPLE)
    write_key(tmp_path / "sensor-01.key", bytes(32))
    settings = load_settings(tmp_path / "example.toml")
    assert settings.core["home"] == {"id": "gateway-01", "target": "127.0.0.1:1883"}
    assert settings.signals[0].value_at(0) == 2200


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('metric = "temp"', 'metric = "status"', "sensors[0].metric: 'status' cannot be a metric"),
        ("every_ms = 5000", "", "sensors[0].every_ms: is missing"),
        ('kind = "sine"', 'kind = "sinus"', "sensors[0].signal: "),
        ('kind = "sine"', 'kind = "recording", path = "none.csv", column = "x"', "none.csv"),
        ("exp = 2", "expo = 2", "sensors[0].expo: unknown key; did you mean 'exp'?"),
        ("[gateway]", "[gatway]", "gatway: unknown key; did you mean 'gateway'?"),
        ('id = "gateway-01"', "", "gateway.id: is missing"),
        ("exp = 2", "exp = 2\nsealed = true", "node.sealing_key_file: is missing: a sensor is sealed"),
        ("seed = 7", 'sealing_key_file = "none"', "node.sealing_key_file: "),
        ("seed = 7", "heartbeat_ms = 5", "node.heartbeat_ms: must be from 1000"),
    ],
)
def test_a_bad_configuration_names_the_key(config: Path, old: str, new: str, message: str) -> None:
    config.write_text(config.read_text().replace(old, new))
    with pytest.raises(ConfigError) as error:
        load_settings(config)
    assert message in str(error.value)
    assert re.match(rf"{re.escape(str(config))}:\d+:\d+: ", str(error.value)), "file, line and column"


@pytest.mark.live
def test_the_command_line_teaches_and_its_errors_are_one_line(config: Path) -> None:
    def firmware(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "firmware.cli", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, env=child_environment(), check=False)

    assert "--sim-clock" in firmware("run", "--help").stdout
    assert "sensor-01 measures temp for gateway-01" in firmware("check", "--config", config).stdout
    assert firmware("example").stdout == EXAMPLE
    config.write_text("[node]\n")
    bad = firmware("run", "--config", config)
    assert (bad.returncode, len(bad.stderr.splitlines())) == (2, 1)
    assert firmware("run", "--config", config, "--sim-clok").returncode == 2


@pytest.mark.live
def test_a_node_stops_cleanly_on_sigterm_and_its_flash_is_readable_while_it_runs(config: Path) -> None:
    trace = config.parent / "trace"
    command = [sys.executable, "-m", "firmware.cli", "run", "--config", str(config), "--trace", str(trace)]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, env=child_environment())
    deadline = time.monotonic() + 20
    while not (trace.exists() and "reading.produced" in trace.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(read_flash(config.parent / "node")["readings"]) == 1
    second = subprocess.run(command, capture_output=True, text=True, timeout=30, env=child_environment(), check=False)
    assert second.returncode == 3
    assert "in use by another running node" in second.stderr
    child.terminate()
    _, errors = child.communicate(timeout=10)
    assert child.returncode == 0
    assert b"Traceback" not in errors
    assert json.loads(trace.read_text().splitlines()[0])["kind"] == "node.started"
