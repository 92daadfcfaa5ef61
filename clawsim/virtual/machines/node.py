"""A sensor node: a board with its flash, its sensors and one connection."""

from typing import Any

from clawsim.randomness import stream
from clawsim.scenario.plan import NodePlan
from clawsim.sealing import sealed_by, sealing_name
from clawsim.virtual.cable import CableSession
from clawsim.virtual.host import VirtualHost
from clawsim.virtual.machines.base import Machine
from clawsim.virtual.memory import NodeFlash
from clawsim.virtual.session import Session
from firmware.hal.signals import Signal, signal_from_spec
from firmware.hosting.aes import aes_block
from firmware.wire.auth import mqtt_password
from firmware.wire.outputs import Alarm, Connect, Disconnect, Identify, Restart, Sample, Scan, Send, Sleep, Transmit
from firmware.wire.topics import topic

NODE_BOOT_US = 500_000
NODE_STORE_US = 0
SCAN_US = 300_000  # an mDNS answer is delayed by up to 120 ms (RFC 6762 section 6), then the link both ways


class NodeMachine(Machine):
    """A board: flash, sensors that see the scenario's signals, one connection to a gateway."""

    boot_us = NODE_BOOT_US

    def __init__(self, world: Any, plan: NodePlan) -> None:
        super().__init__(world, plan.id)
        self.plan = plan
        self.key = world.key(plan.id)
        self.flash = NodeFlash()
        self.alarm = False
        self._signals: list[Signal] = [signal_from_spec(sensor.signal) for sensor in plan.sensors]
        self.session: Any = (
            CableSession(self, stream(world.plan.seed, plan.id, "cable")) if plan.wired else self._client()
        )

    def _client(self) -> Session:
        filters = (topic(self.id, "cmd"), topic(self.id, "received"))
        return self.world.session(self.id, mqtt_password(self.key), filters, self, "up")  # type: ignore[no-any-return]

    def config(self) -> dict[str, Any]:
        """What the firmware is configured with."""
        plan = self.plan
        return {
            "id": plan.id,
            "fleet": self.world.plan.fleet_id,
            "type": plan.type,
            "key": self.key,
            "home": {"id": plan.gateway, "target": plan.gateway},
            "wired": plan.wired,
            "backlog_readings": plan.backlog_readings,
            "sensors": [
                {
                    "metric": sensor.metric,
                    "unit": sensor.unit,
                    "exp": sensor.resolution_exp,
                    "low": sensor.low,
                    "high": sensor.high,
                    "every_ms": sensor.every_ms,
                    "event": sensor.event,
                    "sealed": sensor.sealed,
                }
                for sensor in plan.sensors
            ],
            "seal_block": aes_block(self.world.key(sealing_name(plan.id))) if sealed_by(plan) else None,
        }

    def _start(self) -> None:
        host = self._host(self.flash.perform, NODE_STORE_US, self._performers())
        rng = stream(self.world.plan.seed, self.id, "core", str(self._starts))
        core = self._core_class()(self.config(), self.flash.restore(), rng, host.now_ms)
        host.start(core)
        if not self.world.sampling:
            host.call("stop_sampling")
            return
        for index, sensor in enumerate(self.plan.sensors):
            if sensor.every_ms is None:
                self._play(host, index, self._signals[index].instants(host.now_ms))

    def _core_class(self) -> Any:
        return self.world.cores.sleeper if self.plan.sleep else self.world.cores.node

    def _performers(self) -> dict[type, Any]:
        """What does the core's outputs, by their type."""
        return {
            Send: self.session.send,
            Transmit: self._transmit,
            Sample: self._sample,
            Connect: self._connect,
            Disconnect: lambda _: self.session.close(),
            Scan: lambda _: self.world.after(SCAN_US, self._found, self.host),
            Alarm: self._set_alarm,
            Identify: lambda _: None,
            Sleep: lambda _: None,  # nothing is due meanwhile, so nothing is done
            Restart: lambda _: self._restart(),
        }

    def _sample(self, sample: Any) -> None:
        now_ms = self.world.env._now // 1000
        index = sample.index
        self.host.core.sampled(index, self._signals[index].value_at(now_ms), now_ms)  # type: ignore[union-attr]

    def _play(self, host: VirtualHost, index: int, instants: Any) -> None:
        """A sensor with instants of its own: wait for the next one."""
        for at_ms, value in instants:
            if at_ms >= host.now_ms:
                self.world.after(at_ms * 1000 - self.world.env.now_us, self._played, host, index, value, instants)
                return

    def _played(self, host: VirtualHost, index: int, value: Any, instants: Any) -> None:
        if host.alive and self.world.sampling:
            host.call("sampled", index, value)
            self._play(host, index, instants)

    def _connect(self, connect: Any) -> None:
        if self.plan.wired:
            self.session.connect()
            return
        gateway = self.world.gateways.get(connect.target)
        self.world.connect(self, self.session, self.id, connect.target, gateway)

    def _found(self, host: VirtualHost) -> None:
        if host.alive:
            host.call("found", self.world.visible_gateways(self.plan))

    def _set_alarm(self, alarm: Any) -> None:
        self.alarm = alarm.on

    def _transmit(self, transmit: Any) -> None:
        raise NotImplementedError(f"{self.id} has no radio")

    def _restart(self) -> None:
        self.kill(silent=False)
        self.power_on()

    def thaw(self) -> None:
        """Go on."""
        super().thaw()
        if self.plan.wired and self.running:
            self.session.thaw()

    def hang_up(self) -> None:
        """Close the connection to its broker."""
        self.session.close()

    def _disconnect(self, silent: bool) -> None:
        self.hang_up()
