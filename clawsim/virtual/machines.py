"""The entities of the virtual world: what each is made of, how its power comes and goes.

A machine outlives its host: flash, disk and database stay when the process dies, and a new core is restored from them.
"""

from collections.abc import Callable
from typing import Any

from clawsim.randomness import secret, stream
from clawsim.scenario.plan import GatewayPlan, NodePlan
from clawsim.virtual.host import VirtualHost
from clawsim.virtual.memory import FleetDatabase, GatewayDisk, NodeFlash
from clawsim.virtual.router import TopicRouter
from firmware.core.node import NodeCore
from firmware.hal.signals import Signal, signal_from_spec
from firmware.wire.auth import mqtt_password
from firmware.wire.outputs import Alarm, Connect, Credentials, Disconnect, Notify, Restart, Sample, Scan, Send
from firmware.wire.topics import topic
from fleet.core.config import FleetConfig
from fleet.core.manager import FleetCore
from fleet.hub.access import HubAccess, NodeAccess
from fleet.wire.uplink import MAX_HUB_BYTES
from nanoclaw.core.config import GatewayConfig
from nanoclaw.core.gateway import GatewayCore

NODE_BOOT_US = 500_000
DAEMON_BOOT_US = 1_500_000
SCAN_US = 300_000  # an mDNS answer is delayed by up to 120 ms (RFC 6762 section 6), then the link both ways
GATEWAY_STORE_US = 5_000
FLEET_STORE_US = 2_000
NODE_STORE_US = 0
MAX_NODE_BYTES = 512
MANAGER = "fleet"


class Machine:
    """Power, freezing and restarting; subclasses make the core and perform its outputs."""

    boot_us = DAEMON_BOOT_US

    def __init__(self, world: Any, who: str) -> None:
        self.world = world
        self.id = who
        self.host: VirtualHost | None = None
        self.powered = False
        self._starts = 0

    @property
    def running(self) -> bool:
        """Whether its process runs (frozen or not)."""
        return self.host is not None and self.host.alive

    @property
    def responsive(self) -> bool:
        """Whether it would answer now."""
        return self.host is not None and self.host.alive and not self.host.frozen

    def power_on(self, delay_us: int | None = None) -> None:
        """Start the process, after its boot time."""
        self.powered = True
        self._starts += 1
        self.world.after(self.boot_us if delay_us is None else delay_us, self._boot, self._starts)

    def kill(self, silent: bool) -> None:
        """The process dies now; `silent`: with the whole machine, so that no peer is told."""
        self.powered = False
        self._starts += 1
        if self.host is not None:
            self.host.stop()
        self._disconnect(silent)

    def freeze(self) -> None:
        """SIGSTOP."""
        if self.host is not None:
            self.host.freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        if self.host is not None and self.host.alive:
            self.host.thaw()

    def call(self, method: str, *args: Any) -> Any:
        """An input of the core, if there is one."""
        return self.host.call(method, *args) if self.host is not None else None

    def _boot(self, start: int) -> None:
        if start == self._starts:
            self._start()

    def _start(self) -> None:
        raise NotImplementedError

    def _disconnect(self, silent: bool) -> None:
        raise NotImplementedError

    def _host(self, store: Callable[[list[Any]], Any], store_us: int, perform: dict[type, Any]) -> VirtualHost:
        world = self.world
        self.host = host = world.host_class(world.env, self.id, world.log, store, store_us, perform)
        return host  # type: ignore[no-any-return]


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
        filters = (topic(plan.id, "cmd"), topic(plan.id, "received"))
        self.session = world.session(plan.id, mqtt_password(self.key), filters, self, "up")

    def config(self) -> dict[str, Any]:
        """What the firmware is configured with."""
        plan = self.plan
        return {
            "id": plan.id,
            "fleet": self.world.plan.fleet_id,
            "type": plan.type,
            "key": self.key,
            "home": {"id": plan.gateway, "target": plan.gateway},
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
                }
                for sensor in plan.sensors
            ],
        }

    def _start(self) -> None:
        perform = {
            Send: self.session.send,
            Sample: self._sample,
            Connect: self._connect,
            Disconnect: lambda _: self.session.close(),
            Scan: lambda _: self.world.after(SCAN_US, self._found, self.host),
            Alarm: self._set_alarm,
            Restart: lambda _: self._restart(),
        }
        host = self._host(self.flash.perform, NODE_STORE_US, perform)
        rng = stream(self.world.plan.seed, self.id, "core", str(self._starts))
        core = self.world.cores.node(self.config(), self.flash.restore(), rng, host.now_ms)
        host.start(core)
        if not self.world.sampling:
            host.call("stop_sampling")
            return
        for index, sensor in enumerate(self.plan.sensors):
            if sensor.every_ms is None:
                self._play(host, index, self._signals[index].instants(host.now_ms))

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
        gateway = self.world.gateways.get(connect.target)
        self.world.connect(self, self.session, self.id, connect.target, gateway)

    def _found(self, host: VirtualHost) -> None:
        if host.alive:
            host.call("found", self.world.visible_gateways(self.plan))

    def _set_alarm(self, alarm: Any) -> None:
        self.alarm = alarm.on

    def _restart(self) -> None:
        self.kill(silent=False)
        self.power_on()

    def _disconnect(self, silent: bool) -> None:
        self.session.close()


class GatewayMachine(Machine):
    """A Raspberry Pi with the daemon: disk, local broker, uplink."""

    def __init__(self, world: Any, plan: GatewayPlan) -> None:
        super().__init__(world, plan.id)
        self.plan = plan
        self.key = world.key(plan.id)
        self.disk = GatewayDisk()
        self.passwords: dict[str, bytes] = {}
        local = secret(world.plan.seed, plan.id, "local")
        access = NodeAccess(plan.id, local, self.passwords)
        self.broker = TopicRouter(plan.id, access, MAX_NODE_BYTES, self._refused)
        self._own = _Local(plan.id, self)
        self._local_password = local
        filters = tuple(topic(plan.id, verb) for verb in ("batch/ack", "heartbeat/ack", "cmd", "config"))
        self.session = world.session(plan.id, mqtt_password(self.key), filters, self, "hub")

    def config(self) -> GatewayConfig:
        """What the daemon is configured with."""
        plan = self.plan
        fleet_id = self.world.plan.fleet_id
        return GatewayConfig(id=plan.id, key=self.key, fleet_id=fleet_id, site=plan.site, role=plan.role)

    def nodes_here(self) -> int:
        """Its load, as it announces it."""
        nodes = self.host.core.nodes.values() if self.host is not None and self.host.alive else ()
        return sum(1 for node in nodes if node.state == "up")

    def _start(self) -> None:
        perform = {
            Send: self._send,
            Connect: lambda _: self.world.connect(self, self.session, self.id, "hub", self.world.hub),
            Disconnect: lambda _: self.session.close(),
            Credentials: self._set_passwords,
        }
        host = self._host(self.disk.perform, GATEWAY_STORE_US, perform)
        rng = stream(self.world.plan.seed, self.id, "core", str(self._starts))
        core = self.world.cores.gateway(self.config(), self.disk.restore(), rng, host.now_ms)
        core.learn_utc(self.world.utc_ms(), host.now_ms)
        self.broker.running = True
        self.broker.connect(self._own, self._local_password, ("clawland/+/+",))
        host.start(core)

    def _send(self, send: Any) -> None:
        if send.port == "hub":
            self.session.send(send)
        else:
            self.broker.route(send.topic, send.payload)

    def _set_passwords(self, credentials: Any) -> None:
        self.passwords.clear()
        self.passwords.update(credentials.passwords)

    def _refused(self, name: str, reason: str, sender: str) -> None:
        self.world.emit("message.rejected", self.id, {"topic": name, "reason": reason, "from": sender})

    def _disconnect(self, silent: bool) -> None:
        self.broker.stop(silent)
        self.session.close()


class _Local:
    """The daemon as a client of its own broker, on the same machine."""

    def __init__(self, identity: str, machine: GatewayMachine) -> None:
        self.identity = identity
        self._machine = machine

    def deliver(self, name: str, payload: bytes) -> None:
        """A message from a node; the daemon's own are not for it."""
        if not name.endswith(("/received", "/cmd")) and self._machine.host is not None:
            self._machine.host.receive("nodes", name, payload)

    def dropped(self, silent: bool) -> None:
        """The broker dies with the daemon."""


class HubMachine(Machine):
    """The Event Hub: a broker and nothing else."""

    boot_us = 500_000

    def __init__(self, world: Any) -> None:
        super().__init__(world, "hub")
        passwords = {plan.id: mqtt_password(world.key(plan.id)) for plan in world.plan.gateways}
        self.manager_password = secret(world.plan.seed, MANAGER)
        access = HubAccess(passwords, MANAGER, self.manager_password)
        self.broker = TopicRouter("hub", access, MAX_HUB_BYTES, self._refused)

    def freeze(self) -> None:
        """A frozen broker moves nothing: its messages are lost to the core, as in a full socket."""
        self.broker.running = False

    def thaw(self) -> None:
        """Go on."""
        self.broker.running = self.powered

    @property
    def running(self) -> bool:
        """Whether the broker process runs."""
        return self.powered

    @property
    def responsive(self) -> bool:
        """Whether it moves messages."""
        return self.broker.running

    def _start(self) -> None:
        self.broker.running = True
        self.world.emit("hub.started", self.id, {})

    def _refused(self, name: str, reason: str, sender: str) -> None:
        self.world.emit("message.rejected", self.id, {"topic": name, "reason": reason, "from": sender})

    def _disconnect(self, silent: bool) -> None:
        self.broker.stop(silent)


class FleetMachine(Machine):
    """The fleet manager: database, connection to the hub, people who are told."""

    def __init__(self, world: Any) -> None:
        super().__init__(world, MANAGER)
        self.database = world.cores.database()
        verbs = ("batch", "batch/gz", "heartbeat", "status", "ack", "config/ack")
        filters = tuple("clawland/+/" + verb for verb in verbs)
        self.session = world.session(MANAGER, world.hub.manager_password, filters, self, "hub")

    def _start(self) -> None:
        perform = {
            Send: self.session.send,
            Connect: lambda _: self.world.connect(self, self.session, MANAGER, "hub", self.world.hub),
            Disconnect: lambda _: self.session.close(),
            Notify: self._notify,
        }
        host = self._host(self.database.perform, FLEET_STORE_US, perform)
        rng = stream(self.world.plan.seed, self.id, "core", str(self._starts))
        core = self.world.cores.fleet(FleetConfig(), self.database.restore(), rng, host.now_ms)
        core.learn_utc(self.world.utc_ms(), host.now_ms)
        self._register(core, host.now_ms)
        host.start(core)

    def _register(self, core: FleetCore, now_ms: int) -> None:
        """The inventory, as the operator gives it at every start."""
        plan = self.world.plan
        for gateway in plan.gateways:
            key = self.world.key(gateway.id).hex()
            core.add_gateway({"id": gateway.id, "site": gateway.site, "role": gateway.role, "key": key}, now_ms)
        for node in plan.nodes:
            entry = {"id": node.id, "type": node.type, "site": node.site, "gateway": node.gateway}
            core.add_node(entry | {"key": self.world.key(node.id).hex()}, now_ms)
        core.set_rules([rule_of(rule) for rule in plan.rules], now_ms)

    def _notify(self, notify: Any) -> None:
        """Mail takes a moment; the core goes on meanwhile."""
        self.world.after(100_000, self._notified, self.host, notify.message_id)

    def _notified(self, host: VirtualHost, message_id: str) -> None:
        if host.alive:
            host.call("notified", message_id, True)

    def _disconnect(self, silent: bool) -> None:
        self.session.close()


def rule_of(rule: Any) -> dict[str, Any]:
    """A scenario's rule as the fleet manager takes it."""
    return {
        "name": rule.name,
        "when": dict(rule.when),
        "clear": dict(rule.clear) if rule.clear else None,
        "action": rule.action,
        "severity": rule.severity,
    }


class Cores:
    """Which classes the machines are made of; tests plant bugs by replacing one."""

    node: Any = NodeCore
    gateway: Any = GatewayCore
    fleet: Any = FleetCore
    database: Any = FleetDatabase
