"""A gateway's life as a process: what it needs first, what is let go last."""

import asyncio
import signal
from pathlib import Path

from firmware.hosting.clock import Clock
from firmware.hosting.lifecycle import CannotRun, stop_on_signals, unless_stopped, until
from firmware.hosting.simclock import start_clock
from firmware.hosting.trace import open_trace
from nanoclaw.host.config import GatewaySettings
from nanoclaw.host.daemon import Daemon, Load, ports_of
from nanoclaw.host.local_broker import LocalBroker
from nanoclaw.host.metrics import CountingTracer
from nanoclaw.host.outbox_store import OutboxStore, OutboxUnusable
from nanoclaw.host.sensor_tls import TlsFront
from nanoclaw.host.status import DataLock
from nanoclaw.host.udp_port import UdpPort


async def run_gateway(load: Load, trace: Path | None = None, sim_clock: bool = False) -> None:
    """Run a gateway until it is told to stop. `load` reads the settings, now and at every SIGHUP.

    Raises `ConfigError` for bad settings, `CannotRun` for what is missing or taken, `SimClockError` for a bad clock,
    `HostError` for a bug.
    """
    settings = load()
    stop = stop_on_signals()
    _require_certificate(settings)
    broker = _broker(settings)
    radio = None if settings.lora is None else UdpPort(settings.lora.host, settings.lora.port)
    await broker.start()
    try:
        if radio is not None:
            await radio.start()
        clock = await unless_stopped(stop, start_clock(sim_clock, ports_of(broker, radio), stop))
        if clock is not None:
            await _run(settings, load, clock, (broker, radio), trace, stop)
    finally:
        if radio is not None:
            radio.stop()
        await broker.stop()


async def _run(
    settings: GatewaySettings,
    load: Load,
    clock: Clock,
    doors: tuple[LocalBroker, UdpPort | None],
    trace: Path | None,
    stop: asyncio.Event,
) -> None:
    lock = DataLock(settings.data)
    try:
        store, tracer = _open(settings, trace)
        daemon = Daemon(settings, clock, doors[0], store, tracer, doors[1])
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
