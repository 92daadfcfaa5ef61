"""The gateway daemon: pumps the gateway core, with a broker for its nodes, an uplink and an outbox on disk."""

import asyncio
import os
import random
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from firmware.hosting.clock import Clock, WallClock
from firmware.hosting.lifecycle import CannotRun, stop_on_signals, unless_stopped, until
from firmware.hosting.mqtt import Login, MqttPort
from firmware.hosting.pump import Pump
from firmware.hosting.simclock import start_clock
from firmware.hosting.trace import Telling, Tracer, open_trace
from firmware.wire.auth import mqtt_password
from firmware.wire.outputs import Connect, Credentials, Disconnect, Send, Store
from nanoclaw.core.gateway import GatewayCore
from nanoclaw.host.config import GatewaySettings
from nanoclaw.host.local_broker import LocalBroker, NodesPort
from nanoclaw.host.outbox_store import OutboxStore, OutboxUnusable, StoreError
from nanoclaw.host.status import DataLock, write_status

if TYPE_CHECKING:
    from nanoclaw.host.discovery import Announcer

_log = structlog.get_logger("nanoclaw")

HUB_TOPICS = ("batch/ack", "heartbeat/ack", "cmd", "config")
# Before this a machine without a battery-backed clock has not learned the time yet: 2024-01-01.
EARLIEST_UTC_MS = 1_704_067_200_000
UTC_STEP_MS = 500
HOUSEKEEPING_S = 2.0
DRAIN_S = 2.0


async def run_gateway(settings: GatewaySettings, trace: Path | None = None, sim_clock: bool = False) -> None:
    """Run a gateway until it is told to stop.

    Raises `CannotRun` for what is missing or taken, `SimClockError` for a bad clock, `HostError` for a bug.
    """
    stop = stop_on_signals()
    _require_certificate(settings)
    broker = LocalBroker(settings.broker, settings.core.id, settings.local_host, settings.local_port, settings.data)
    await broker.start()
    try:
        clock = await unless_stopped(stop, start_clock(sim_clock, {"mqtt_port": broker.port}, stop))
        if clock is not None:
            await _run(settings, clock, broker, trace, stop)
    finally:
        await broker.stop()


async def _run(
    settings: GatewaySettings, clock: Clock, broker: LocalBroker, trace: Path | None, stop: asyncio.Event
) -> None:
    lock = DataLock(settings.data)
    try:
        store, tracer = _open(settings, trace)
        daemon = Daemon(settings, clock, broker, store, tracer)
        try:
            daemon.start()
            await until(stop, daemon.pump.failed())
        finally:
            await daemon.close()
            store.close()
    finally:
        lock.close()


def _require_certificate(settings: GatewaySettings) -> None:
    """A certificate that is not there is found out at once; what is wrong with one shows at the first connection."""
    for path in (settings.tls.authority, settings.tls.certificate, settings.tls.key) if settings.uplink_tls else ():
        if not path.exists():
            raise CannotRun(f"uplink.tls needs {path}, which is missing: nanoclaw enrol gets it")


def _open(settings: GatewaySettings, trace: Path | None) -> tuple[OutboxStore, Tracer]:
    try:
        return OutboxStore(settings.data), open_trace(trace, settings.core.id)
    except OutboxUnusable as error:
        raise CannotRun(str(error)) from None
    except OSError as error:
        raise CannotRun(f"cannot use {error.filename}: {error.strerror}") from None


class Daemon:
    """Puts a gateway core on the current loop; `close` must be awaited at the end."""

    def __init__(
        self, settings: GatewaySettings, clock: Clock, broker: LocalBroker, store: OutboxStore, tracer: Tracer
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._broker = broker
        self._store = store
        self._tracer = tracer
        self._utc_offset_ms: int | None = None
        self._announcer: Announcer | None = None
        self._tasks: list[asyncio.Task[None]] = []
        config = settings.core
        rng = random.Random(settings.seed if settings.seed is not None else os.urandom(32))
        self.core = GatewayCore(config, store.load(), rng, clock.now_ms())
        self.pump = Pump(self.core, clock, self._handlers(), Telling(tracer))
        self._nodes = NodesPort(broker, self.pump)
        self._hub = MqttPort(
            "hub",
            self._login(),
            [f"clawland/{config.id}/{verb}" for verb in HUB_TOPICS],
            self.pump,
            target=settings.uplink,
            bind_address=settings.bind_address,
        )

    def _login(self) -> Login:
        settings = self._settings
        if settings.uplink_tls:
            return Login(settings.core.id, tls=settings.tls)
        return Login(settings.core.id, mqtt_password(settings.core.key))

    def start(self) -> None:
        """Power on: UTC first, for readings that come at once."""
        self._broker.report_to(self._broker_event)
        self._learn_utc()
        self.pump.start()
        self._nodes.start()
        self._spawn(self._housekeep())
        if self._settings.uplink_tls:
            self._spawn(self._keep_certificate())
        config = self._settings.core
        _log.info("gateway started", fleet=config.fleet_id, site=config.site, mqtt_port=self._broker.port)

    async def close(self) -> None:
        """Finish what has begun, say goodbye on every connection, and leave the last status behind."""
        for task in self._tasks:
            task.cancel()
        if self._announcer is not None:
            await self._announcer.stop()
        try:
            async with asyncio.timeout(DRAIN_S):
                await self.pump.drained()
        except TimeoutError:
            _log.warning("stopped with a store unfinished")
        self._write_status(running=False)
        await self.pump.close()
        await asyncio.gather(self._nodes.close(), self._hub.close())
        _log.info("gateway stopped")

    # outputs

    def _handlers(self) -> dict[type, Any]:
        return {
            Send: self._send,
            Store: self._do_store,
            Connect: lambda output: self._hub.connect(output.target),
            Disconnect: lambda output: self._hub.disconnect(),
            Credentials: lambda output: self._broker.set_passwords(output.passwords),
        }

    def _send(self, output: Any) -> None:
        if output.port == "hub":
            self._hub.send(output.topic, output.payload)
        else:
            self._nodes.send(output.topic, output.payload)

    async def _do_store(self, output: Any) -> None:
        try:
            await self._store.write(output.writes)
        except StoreError as error:
            _log.error("cannot write to the outbox", reason=str(error))
            if output.token is not None:
                self.pump.feed(self.core.store_failed, output.token, str(error))
        else:
            if output.token is not None:
                self.pump.feed(self.core.stored, output.token)

    def _broker_event(self, kind: str, fields: Mapping[str, Any]) -> None:
        self._tracer.write(kind, fields, self._clock.now_ms())

    # what the core is not asked for

    async def _housekeep(self) -> None:
        if self._settings.discovery:
            await self._announce()
        while True:
            self._learn_utc()
            self._write_status(running=True)
            if self._announcer is not None:
                await self._announcer.update(self._fields())
            await asyncio.sleep(HOUSEKEEPING_S)

    async def _keep_certificate(self) -> None:
        # Imported here: it loads a library that gateways without TLS do not need.
        from nanoclaw.host.certificate import keep_renewed

        await keep_renewed(self._settings.tls)

    def _learn_utc(self) -> None:
        """Tell the core the time when it is first known, and when the machine's clock has been set since."""
        utc_ms, now_ms = self._clock.utc_ms(), self._clock.now_ms()
        if isinstance(self._clock, WallClock) and utc_ms < EARLIEST_UTC_MS:
            return
        offset_ms = utc_ms - now_ms
        if self._utc_offset_ms is None or abs(offset_ms - self._utc_offset_ms) > UTC_STEP_MS:
            self._utc_offset_ms = offset_ms
            self.pump.feed(self.core.learn_utc, utc_ms)

    async def _announce(self) -> None:
        # Imported here: it is not needed to start, and nodes wait for nothing of it.
        from nanoclaw.host.discovery import Announcer

        port = self._settings.advertise_port or self._broker.port
        self._announcer = Announcer(self._fields(), self._settings.local_host, port, self._settings.interface)
        await self._announcer.start()

    def _fields(self) -> dict[str, str]:
        config = self._settings.core
        load = str(self.core.status()["nodes_up"])
        return {"id": config.id, "fleet": config.fleet_id, "role": config.role, "load": load}

    def _write_status(self, running: bool) -> None:
        config = self._settings.core
        status = {
            "id": config.id,
            "fleet": config.fleet_id,
            "site": config.site,
            "running": running,
            "pid": os.getpid(),
            "utc_ms": self._clock.utc_ms(),
            "mqtt_port": self._broker.port,
            "uplink": self._settings.uplink,
            "uplink_failure": self._hub.last_failure,
            **self.core.status(),
        }
        try:
            write_status(self._settings.data, status)
        except OSError as error:
            _log.warning("cannot write the status file", reason=error.strerror)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.pump.fail("a background task of the gateway", error)
