"""The gateway daemon: pumps the gateway core, with a broker for its nodes, an uplink and an outbox on disk."""

import asyncio
import json
import os
import random
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

import structlog

from firmware.hosting.clock import Clock, WallClock
from firmware.hosting.config import ConfigError
from firmware.hosting.mqtt import Login
from firmware.hosting.notify import ServiceManager
from firmware.hosting.pump import Pump
from firmware.hosting.trace import Telling
from firmware.wire.auth import Sealer, mqtt_password
from firmware.wire.outputs import Connect, Credentials, Disconnect, Send, Store
from nanoclaw.core.gateway import GatewayCore
from nanoclaw.core.lora.port import PORT as LORA
from nanoclaw.host.config import GatewaySettings
from nanoclaw.host.hub_ports import HubPorts
from nanoclaw.host.local_broker import LocalBroker, NodesPort
from nanoclaw.host.metrics import CONTENT_TYPE, CountingTracer, Metrics
from nanoclaw.host.monitor_server import Answer, MonitorServer
from nanoclaw.host.outbox_store import OutboxStore, StoreError
from nanoclaw.host.reload import needs_restart
from nanoclaw.host.report import Report
from nanoclaw.host.serial_ports import SerialPorts
from nanoclaw.host.status import moved_aside, read_status, write_status
from nanoclaw.host.udp_port import UdpPort

if TYPE_CHECKING:
    from nanoclaw.host.discovery import Announcer

_log = structlog.get_logger("nanoclaw")

# Before this a machine without a battery-backed clock has not learned the time yet: 2024-01-01.
EARLIEST_UTC_MS = 1_704_067_200_000
UTC_STEP_MS = 500
HOUSEKEEPING_S = 2.0
DRAIN_S = 2.0
LATE_MS = 10_000  # a timer so late means that the loop hangs
LOOPBACK = ("127.0.0.1", "::1", "localhost")
Load = Callable[[], GatewaySettings]


def ports_of(broker: LocalBroker, radio: UdpPort | None) -> dict[str, int]:
    """Where nodes come in: the ports, real ones once they are open."""
    found = {"mqtt_port": broker.port, "tls_port": broker.tls_port, "lora_port": None if radio is None else radio.port}
    return {name: port for name, port in found.items() if port is not None}


class Daemon:
    """Puts a gateway core on the current loop; `close` must be awaited at the end."""

    def __init__(
        self,
        settings: GatewaySettings,
        clock: Clock,
        broker: LocalBroker,
        store: OutboxStore,
        tracer: CountingTracer,
        radio: UdpPort | None = None,
    ) -> None:
        """`broker` and, for a gateway with concentrators, `radio` are open already."""
        self._settings = settings
        self._clock = clock
        self._broker = broker
        self._radio = radio
        self._store = store
        self._tracer = tracer
        self._utc_offset_ms: int | None = None
        self._announcer: Announcer | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._disk_failure = ""
        config = settings.core
        rng = random.Random(settings.seed if settings.seed is not None else os.urandom(32))
        restored = store.load() | {"broken": len(moved_aside(settings.data))}
        self.core = GatewayCore(config, restored, rng, clock.now_ms())
        self.pump = Pump(self.core, clock, self._handlers(), Telling(tracer))
        self._serial = SerialPorts(settings.serial, self._sealer_of, clock, self.pump, self._refused)
        self._nodes = NodesPort(broker, self._serial.beside(self.pump))
        self._hub = HubPorts(config.id, self._login(), settings.ways, self.core.uplink.lines.all, self.pump)
        self._report = Report(settings, self.core, clock, self._hub, read_status(settings.data))
        self._metrics = Metrics(self.report, tracer.counts)
        self._monitor = self._monitor_server()
        self._service = ServiceManager()

    def _login(self) -> Login:
        settings = self._settings
        if settings.uplink_tls:
            return Login(settings.core.id, tls=settings.tls)
        return Login(settings.core.id, mqtt_password(settings.core.key))

    async def start(self) -> None:
        """Power on: UTC first, for readings that come at once. Raises `CannotRun`."""
        if self._monitor is not None:
            await self._monitor.start()
        self._broker.report_to(self._broker_event)
        self._learn_utc()
        self.pump.start()
        self._nodes.start()
        if self._radio is not None:
            self._radio.listen(self.pump)
        self._spawn(self._housekeep())
        if self._settings.uplink_tls:
            self._spawn(self._keep_certificate())
        config = self._settings.core
        if self._settings.local_plain and self._settings.local_host not in LOOPBACK:
            _log.warning("nodes may speak to this gateway without TLS", host=self._settings.local_host)
        _log.info("gateway started", fleet=config.fleet_id, site=config.site, **self._ports())
        self._service.ready(self._in_one_line())
        self._spawn(self._service.watch(lambda: self.pump.alive(LATE_MS)))

    async def close(self) -> None:
        """Finish what has begun, say goodbye on every connection, and leave the last status behind."""
        self._service.stopping()
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
        await asyncio.gather(self._nodes.close(), self._serial.close(), self._hub.close())
        if self._monitor is not None:
            await self._monitor.stop()
        _log.info("gateway stopped")

    def reload(self, load: Load) -> None:
        """Take over what the configuration says now, as far as that is possible while running, and say what is not."""
        try:
            fresh = load()
        except ConfigError as error:
            _log.error("not reloaded: the configuration has a mistake", reason=str(error))
            return
        waiting = needs_restart(self._settings, fresh)
        if waiting:
            _log.warning("a restart is needed for some of what changed", settings=waiting)
        if [way.name for way in fresh.ways] == [way.name for way in self._settings.ways]:
            self.pump.feed(self.core.cloud.set_budgets, fresh.core.lines)
            _log.info("configuration reloaded", redirected=self._hub.redirect(fresh.ways))

    # outputs

    def _handlers(self) -> dict[type, Any]:
        return {
            Send: self._send,
            Store: self._do_store,
            Connect: lambda output: self._hub.connect(output.port),
            Disconnect: lambda output: self._hub.disconnect(output.port),
            Credentials: self._set_passwords,
        }

    def _send(self, output: Any) -> None:
        if output.port == "nodes":
            if not self._serial.send(output.topic, output.payload):
                self._nodes.send(output.topic, output.payload)
        elif output.port == LORA:
            if self._radio is not None:
                self._radio.send(output.topic, output.payload)
        else:
            self._hub.send(output.port, output.topic, output.payload)

    async def _set_passwords(self, output: Any) -> None:
        self._serial.start()
        await self._broker.set_passwords(output.passwords)

    async def _do_store(self, output: Any) -> None:
        """A disk that is full or busy is the core's to bear. A broken outbox raises, which ends the process."""
        try:
            await self._store.write(output.writes)
        except StoreError as error:
            self._disk_failure = str(error)
            _log.error("cannot write to the outbox", reason=str(error))
            if output.token is not None:
                self.pump.feed(self.core.store_failed, output.token, str(error))
        else:
            self._disk_failure = ""
            if output.token is not None:
                self.pump.feed(self.core.stored, output.token)

    def _broker_event(self, kind: str, fields: Mapping[str, Any]) -> None:
        self._tracer.write(kind, fields, self._clock.now_ms())

    def _refused(self, topic: str, reason: str, sender: str) -> None:
        self.pump.feed(lambda now_ms: self.core.reject(topic, reason, sender))

    def _sealer_of(self, node_id: str) -> Sealer | None:
        node = self.core.nodes.get(node_id)
        return None if node is None else node.sealer

    # what the core is not asked for

    async def _housekeep(self) -> None:
        if self._settings.discovery:
            await self._announce()
        while True:
            self._learn_utc()
            self._report.sample()
            self._write_status(running=True)
            self._service.status(self._in_one_line())
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

        where = self._settings.local_host, self._announced_port(), self._settings.interface
        self._announcer = Announcer(self._fields(), *where)
        await self._announcer.start()

    def _fields(self) -> dict[str, str]:
        config = self._settings.core
        load = str(self.core.status()["nodes_up"])
        fields = {"id": config.id, "fleet": config.fleet_id, "role": config.role, "load": load}
        tls_port, fingerprint = self._broker.tls_port, self._broker.fingerprint
        if tls_port is None or fingerprint is None:
            return fields
        port = tls_port if self._settings.local_plain else self._announced_port()
        return fields | {"tls": str(port), "fingerprint": fingerprint}

    def _announced_port(self) -> int:
        """Where nodes come without TLS, or with it if that is the only way."""
        settings, broker = self._settings, self._broker
        usual = broker.port if settings.local_plain or broker.tls_port is None else broker.tls_port
        return settings.advertise_port or usual

    # what it says of itself

    def report(self, running: bool = True) -> dict[str, Any]:
        """All that `nanoclaw status` shows."""
        monitor = self._monitor
        ports = {
            **self._ports(),
            "fingerprint": self._broker.fingerprint,
            "monitor_port": None if monitor is None else monitor.port,
        }
        return {**self._report.all(running, ports, self.failures()), "serial": self._serial.views()}

    def _ports(self) -> dict[str, int]:
        """Where nodes come in."""
        return ports_of(self._broker, self._radio)

    def failures(self) -> list[str]:
        """What is wrong on this machine; a cloud that is away is not."""
        found = [] if self.pump.alive(LATE_MS) else ["the core is not being pumped"]
        if not self._nodes.up:
            found.append("not connected to the local broker")
        found += self._serial.failures()
        if self._disk_failure:
            found.append(f"the outbox cannot be written: {self._disk_failure}")
        return found

    def _monitor_server(self) -> MonitorServer | None:
        if self._settings.monitor_port is None:
            return None
        answers = {
            "/healthz": self._healthz,
            "/metrics": lambda: Answer(200, CONTENT_TYPE, self._metrics.render()),
            "/status": lambda: _json(200, self.report()),
        }
        return MonitorServer(self._settings.monitor_host, self._settings.monitor_port, answers)

    def _healthz(self) -> Answer:
        found = self.failures()
        return _json(503 if found else 200, {"healthy": not found, "mode": self.core.uplink.mode, "failures": found})

    def _in_one_line(self) -> str:
        told = self.core.status()
        return f"{told['mode']}, {told['nodes_up']} nodes up, {told['outbox_readings']} readings kept for the cloud"

    def _write_status(self, running: bool) -> None:
        try:
            write_status(self._settings.data, self.report(running))
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


def _json(status: int, content: dict[str, Any]) -> Answer:
    return Answer(status, "application/json", json.dumps(content).encode() + b"\n")
