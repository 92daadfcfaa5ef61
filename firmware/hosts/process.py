"""A node as a Linux process: the core, a file for its flash, signals for its sensors, MQTT or a cable to a gateway."""

import asyncio
import logging
import os
import random
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firmware.core.sleeper import node_core
from firmware.hosting.clock import Clock
from firmware.hosting.lifecycle import CannotRun, stop_on_signals, unless_stopped, until
from firmware.hosting.mqtt import Login, MqttPort
from firmware.hosting.pump import Pump
from firmware.hosting.simclock import inheritable, start_clock
from firmware.hosting.tls import PinnedTls
from firmware.hosting.trace import Telling, Tracer, open_trace
from firmware.hosts.flash import Flash, FlashInUse
from firmware.hosts.settings import NodeSettings
from firmware.wire.auth import mqtt_password
from firmware.wire.outputs import (
    Alarm,
    Connect,
    Disconnect,
    Identify,
    Restart,
    Sample,
    Scan,
    Send,
    Sleep,
    Store,
    Transmit,
)

if TYPE_CHECKING:
    from firmware.hosts.serial_port import SerialPort

_log = logging.getLogger("clawland.node")

# A first start may come this much late on the wall and still not miss what a recording had to say at its beginning.
LATE_START_S = 1.0


async def run_node(settings: NodeSettings, trace: Path | None = None, sim_clock: bool = False) -> None:
    """Run one node until it is told to stop; when the node restarts itself, the process image is replaced.

    Raises `CannotRun` when its data directory or trace cannot be used, `SimClockError` for a bad clock, `HostError`
    for a bug.
    """
    stop = stop_on_signals()
    clock = await unless_stopped(stop, start_clock(sim_clock, {}, stop))
    if clock is None:
        return
    flash, tracer = _open(settings, trace)
    node = NodeProcess(settings, flash, clock, tracer)
    restart = False
    try:
        node.start()
        await until(stop, node.pump.failed(), node.restart_wanted())
        restart = node.wants_restart and not stop.is_set()
    finally:
        await node.close()
        flash.close()
    if restart:
        _replace_image(clock)


def _open(settings: NodeSettings, trace: Path | None) -> tuple[Flash, Tracer]:
    try:
        return Flash(settings.data), open_trace(trace, settings.id)
    except FlashInUse as error:
        raise CannotRun(str(error)) from None
    except OSError as error:
        raise CannotRun(f"cannot use {error.filename or settings.data}: {error.strerror or error}") from None


def _replace_image(clock: Clock) -> None:
    """Restart as a board does: nothing of this process survives but its id, its flash and the run's clock."""
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **inheritable(clock)})  # noqa: S606


class NodeProcess:
    """Puts a node core on the current loop; `close` must be awaited at the end."""

    def __init__(self, settings: NodeSettings, flash: Flash, clock: Clock, tracer: Tracer) -> None:
        self._settings = settings
        self._flash = flash
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._restart = asyncio.Event()
        restored = flash.restored()
        self._blank = not restored
        rng = random.Random(settings.seed if settings.seed is not None else os.urandom(32))
        self.core = node_core(settings.core, restored, rng, clock.now_ms())
        self.pump = Pump(self.core, clock, self._handlers(), Telling(tracer))
        self._radio = None if settings.concentrator is None else self._udp_radio(settings.concentrator)
        self._up = self._port()

    def _port(self) -> "MqttPort | SerialPort":
        settings = self._settings
        key = settings.core["key"]
        if settings.speed is not None:
            # Imported here: it loads a library that nodes on a network do not need.
            from firmware.hosts.serial_port import SerialPort

            return SerialPort("up", settings.id, key, settings.speed, random.SystemRandom(), self._clock, self.pump)
        topics = [f"clawland/{settings.id}/{verb}" for verb in ("cmd", "received")]
        login = Login(settings.id, mqtt_password(key), settings.tls)
        return MqttPort("up", login, topics, self.pump, bind_address=settings.bind_address)

    @property
    def wants_restart(self) -> bool:
        """Whether the core asked for a restart."""
        return self._restart.is_set()

    async def restart_wanted(self) -> None:
        """Wait until the core asks for a restart."""
        await self._restart.wait()

    def start(self) -> None:
        """Power on."""
        from_ms = self._clock.now_ms()
        if self._blank and self._clock.wall_s(from_ms) <= LATE_START_S:
            from_ms = 0
        if self._radio is not None:
            self._radio.start()
        self.pump.start()
        self.pump.feed(self.core.battery.measured, self._settings.core.get("battery_mv"))
        if self._settings.sample_until_ms is not None and from_ms >= self._settings.sample_until_ms:
            self.pump.feed(self.core.stop_sampling)
        self._spawn(self._push_samples(from_ms))

    async def close(self) -> None:
        """Stop the core and let what it has sent go out."""
        for task in self._tasks:
            task.cancel()
        await self.pump.close()
        await self._up.close()
        if self._radio is not None:
            await self._radio.close()

    # outputs

    def _handlers(self) -> dict[type, Any]:
        return {
            Send: self._send,
            Transmit: self._transmit,
            Store: self._store,
            Connect: lambda output: self._up.connect(output.target),
            Disconnect: lambda output: self._up.disconnect(),
            Scan: lambda output: self._spawn(self._scan()),
            Sample: self._sample,
            Alarm: self._alarm,
            Identify: lambda output: _log.warning("IDENTIFY: this node blinks for %g s", output.for_ms / 1000),
            Sleep: lambda output: None,  # a process that waits costs nothing
            Restart: self._on_restart,
        }

    def _store(self, output: Any) -> Coroutine[Any, Any, None] | None:
        try:
            self._flash.write(output.writes)
        except OSError as error:
            self._store_failed(output, error)
            return None
        if self._settings.sync:
            return self._sync(output)
        self._stored(output.token)
        return None

    async def _sync(self, output: Any) -> None:
        try:
            await asyncio.to_thread(self._flash.sync)
        except OSError as error:
            self._store_failed(output, error)
        else:
            self._stored(output.token)

    def _stored(self, token: int | None) -> None:
        if token is not None:
            self.pump.feed(self.core.stored, token)

    def _store_failed(self, output: Any, error: OSError) -> None:
        reason = error.strerror or str(error)
        _log.error("cannot write to flash: %s", reason)
        if output.token is not None:
            self.pump.feed(self.core.store_failed, output.token, reason)
        else:
            self.pump.feed(self.core.refused, output.writes, reason)

    def _send(self, output: Any) -> None:
        self._up.send(output.topic, output.payload)

    def _udp_radio(self, concentrator: tuple[str, int]) -> Any:
        from firmware.hosts.radio import UdpRadio  # most nodes have none

        return UdpRadio(
            self._settings.id, concentrator, self._clock, lambda frame: self.pump.receive("radio", "", frame)
        )

    def _transmit(self, output: Any) -> None:
        if self._radio is not None:
            self._radio.transmit(output)

    def _on_restart(self, output: Any) -> None:
        self.pump.stop()
        self._restart.set()

    def _sample(self, output: Any) -> None:
        until_ms = self._settings.sample_until_ms
        if until_ms is not None and self._clock.now_ms() >= until_ms:
            return
        value = self._settings.signals[output.index].value_at(self._clock.now_ms())
        self.pump.feed(self.core.sampled, output.index, value)

    def _alarm(self, output: Any) -> None:
        _log.warning("ALARM %s, by %s", "on" if output.on else "off", output.by)

    async def _scan(self) -> None:
        # Imported when first needed: most nodes never scan, and it is a third of their start-up time.
        from firmware.hosts.discovery import scan

        answers = [by_its_door(found, self._settings.tls) for found in await scan(self._settings.interface)]
        gateways = [gateway for gateway in answers if gateway is not None]
        _log.info("scan found %s", [gateway["id"] for gateway in gateways])
        self.pump.feed(self.core.found, gateways)

    # sensors with instants of their own, and the end of a rehearsal

    async def _push_samples(self, from_ms: int) -> None:
        await self.pump.drained()  # a core hears nothing before its boot number is on flash
        for index, sensor in enumerate(self._settings.core["sensors"]):
            if sensor["every_ms"] is None:
                self._spawn(self._replay(index, self._settings.signals[index].instants(from_ms)))
        if self._settings.sample_until_ms is not None:
            await self._sleep_until(self._settings.sample_until_ms)
            self.pump.feed(self.core.stop_sampling)

    async def _replay(self, index: int, instants: Iterator[tuple[int, Any]]) -> None:
        until_ms = self._settings.sample_until_ms
        for at_ms, value in instants:
            if until_ms is not None and at_ms >= until_ms:
                return
            await self._sleep_until(at_ms)
            self.pump.feed(self.core.sampled, index, value)

    async def _sleep_until(self, at_ms: int) -> None:
        # Again where the loop's clock is coarser than ours.
        while (left_ms := at_ms - self._clock.now_ms()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(self._clock.wall_s(left_ms))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.pump.fail("a background task of the node", error)


def by_its_door(gateway: dict[str, Any], tls: PinnedTls | None) -> dict[str, Any] | None:
    """A gateway that announces itself, with the port for this node; None if it has no door for it.

    One with TLS says which port that is and whose certificate it has: one that is not pinned would be asked in vain.
    """
    host, _, port = gateway["target"].rpartition(":")
    if tls is None:
        return None if gateway.get("tls") == port else gateway
    if gateway.get("fingerprint") not in tls.fingerprints or not gateway.get("tls", "").isdecimal():
        return None
    return gateway | {"target": f"{host}:{gateway['tls']}"}
