"""A gateway's life as a process: what it needs first, what is let go last."""

import asyncio
import signal
from pathlib import Path

from firmware.hosting.clock import Clock
from firmware.hosting.lifecycle import CannotRun, stop_on_signals, unless_stopped, until
from firmware.hosting.simclock import start_clock
from firmware.hosting.trace import open_trace
from nanoclaw.host.config import GatewaySettings
from nanoclaw.host.daemon import Daemon, Load
from nanoclaw.host.local_broker import LocalBroker
from nanoclaw.host.metrics import CountingTracer
from nanoclaw.host.outbox_store import OutboxStore, OutboxUnusable
from nanoclaw.host.sensor_tls import TlsFront
from nanoclaw.host.status import DataLock


async def run_gateway(load: Load, trace: Path | None = None, sim_clock: bool = False) -> None:
    """Run a gateway until it is told to stop. `load` reads the settings, now and at every SIGHUP.

    Raises `ConfigError` for bad settings, `CannotRun` for what is missing or taken, `SimClockError` for a bad clock,
    `HostError` for a bug.
    """
    settings = load()
    stop = stop_on_signals()
    _require_certificate(settings)
    broker = _broker(settings)
    await broker.start()
    try:
        clock = await unless_stopped(stop, start_clock(sim_clock, _ports(broker), stop))
        if clock is not None:
            await _run(settings, load, clock, broker, trace, stop)
    finally:
        await broker.stop()


async def _run(
    settings: GatewaySettings, load: Load, clock: Clock, broker: LocalBroker, trace: Path | None, stop: asyncio.Event
) -> None:
    lock = DataLock(settings.data)
    try:
        store, tracer = _open(settings, trace)
        daemon = Daemon(settings, clock, broker, store, tracer)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, daemon.reload, load)
        try:
            await daemon.start()
            await until(stop, daemon.pump.failed())
        finally:
            await daemon.close()
            store.close()
    finally:
        lock.close()


def _broker(settings: GatewaySettings) -> LocalBroker:
    """With TLS for nodes the broker itself is for this machine alone, unless the configuration says otherwise."""
    name, tls = settings.core.id, settings.local_tls
    front = None if tls is None else TlsFront(tls, name, settings.local_host)
    host = settings.local_host if settings.local_plain else "127.0.0.1"
    return LocalBroker(settings.broker, name, host, settings.local_port, settings.data, front)


def _ports(broker: LocalBroker) -> dict[str, int]:
    return {"mqtt_port": broker.port} | ({} if broker.tls_port is None else {"tls_port": broker.tls_port})


def _require_certificate(settings: GatewaySettings) -> None:
    """A certificate that is not there is found out at once; what is wrong with one shows at the first connection."""
    for path in (settings.tls.authority, settings.tls.certificate, settings.tls.key) if settings.uplink_tls else ():
        if not path.exists():
            raise CannotRun(f"uplink.tls needs {path}, which is missing: nanoclaw enrol gets it")


def _open(settings: GatewaySettings, trace: Path | None) -> tuple[OutboxStore, CountingTracer]:
    try:
        return OutboxStore(settings.data), CountingTracer(open_trace(trace, settings.core.id))
    except OutboxUnusable as error:
        raise CannotRun(str(error)) from None
    except OSError as error:
        raise CannotRun(f"cannot use {error.filename}: {error.strerror}") from None
