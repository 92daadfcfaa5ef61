"""What the daemon does beside pumping its core: the time of day, and credentials."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware.hosting.clock import WallClock
from firmware.hosting.pump import HostError
from firmware.hosting.secrecy import without_secrets
from firmware.hosting.trace import NoTrace
from nanoclaw.host.config import load_settings
from nanoclaw.host.daemon import EARLIEST_UTC_MS, Daemon
from nanoclaw.host.local_broker import LocalBroker
from nanoclaw.host.metrics import CountingTracer
from nanoclaw.host.outbox_store import OutboxStore
from tests.nanoclaw_host.rig import gateway_config, write_key
from tests.nanoclaw_host.test_outbox_store import break_while_it_runs


class SettableClock(WallClock):
    """A Raspberry Pi's clock: at 1970 until it hears from a time server."""

    def __init__(self) -> None:
        super().__init__()
        self.set_ms = 0

    def utc_ms(self) -> int:
        return self.set_ms + self.now_ms()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[OutboxStore]:
    made = OutboxStore(tmp_path)
    yield made
    made.close()


async def test_a_gateway_that_boots_in_1970_learns_the_time_when_its_clock_is_set(
    tmp_path: Path, store: OutboxStore
) -> None:
    write_key(tmp_path / "gateway.key", bytes(32))
    settings = load_settings(gateway_config(tmp_path, 1), environ={})
    clock = SettableClock()
    broker = LocalBroker("embedded", "gateway-01", "127.0.0.1", 0, tmp_path)
    daemon = Daemon(settings, clock, broker, store, CountingTracer(NoTrace()))
    daemon._learn_utc()
    assert daemon.core.utc_offset_ms is None
    clock.set_ms = EARLIEST_UTC_MS + 1_000_000
    daemon._learn_utc()
    learned = daemon.core.utc_offset_ms
    assert learned is not None and abs(learned - clock.set_ms) < 100
    clock.set_ms += 100  # a clock that is being slewed is left alone
    daemon._learn_utc()
    assert daemon.core.utc_offset_ms == learned
    clock.set_ms += 60_000
    daemon._learn_utc()
    assert abs(daemon.core.utc_offset_ms - clock.set_ms) < 100
    await daemon.close()


async def test_an_outbox_that_was_moved_aside_is_told_to_the_cloud(tmp_path: Path, store: OutboxStore) -> None:
    write_key(tmp_path / "gateway.key", bytes(32))
    settings = load_settings(gateway_config(tmp_path, 1), environ={})
    settings.data.mkdir()
    (settings.data / "outbox.sqlite.broken-1").touch()
    broker = LocalBroker("embedded", "gateway-01", "127.0.0.1", 0, tmp_path)
    daemon = Daemon(settings, SettableClock(), broker, store, CountingTracer(NoTrace()))
    assert daemon.core.status()["outbox_broken"] == 1
    await daemon.close()


async def test_an_outbox_that_breaks_while_the_gateway_runs_ends_it_with_one_line(
    tmp_path: Path, store: OutboxStore, caplog: pytest.LogCaptureFixture
) -> None:
    write_key(tmp_path / "gateway.key", bytes(32))
    settings = load_settings(gateway_config(tmp_path, 1), environ={})
    broker = LocalBroker("embedded", "gateway-01", "127.0.0.1", 0, tmp_path)
    daemon = Daemon(settings, SettableClock(), broker, store, CountingTracer(NoTrace()))
    break_while_it_runs(store, tmp_path)
    daemon.pump.start()
    with pytest.raises(HostError, match=r"outbox\.sqlite: .*; the next start moves it aside"):
        await asyncio.wait_for(daemon.pump.failed(), 10)
    assert [record.levelname for record in caplog.records].count("CRITICAL") == 1
    await daemon.close()


@pytest.mark.live
async def test_passwords_come_and_go_while_the_broker_runs(tmp_path: Path) -> None:
    from firmware.hosting.mqtt import Login, MqttPort
    from tests.hosting.test_mqtt_port import Ears

    broker = LocalBroker("embedded", "gateway-01", "127.0.0.1", 0, tmp_path)
    await broker.start()
    ears = Ears()
    port = MqttPort("up", Login("sensor-01", b"one"), ["clawland/sensor-01/cmd"], ears, target=broker.target)
    port.connect()
    await ears.until("down")
    await broker.set_passwords({"sensor-01": b"one"})
    port.connect()
    await ears.until("down", "up")
    await broker.set_passwords({"sensor-01": b"one", "sensor-02": b"two"})
    await broker.set_passwords({"sensor-01": b"other"})
    await ears.until("down", "up", "down")
    await port.close()
    await broker.stop()


def test_a_secret_that_reaches_a_log_record_is_blanked() -> None:
    record = {"event": "x", "node_key": b"1", "password": "2", "node": "sensor-01"}
    assert without_secrets(record) == {
        "event": "x",
        "node_key": "***",
        "password": "***",
        "node": "sensor-01",
    }
