"""A gateway: the daemon with its disk, and the local broker that lives and dies with it."""

from collections.abc import Callable
from functools import partial
from typing import Any

from clawsim.randomness import secret, stream
from clawsim.scenario.plan import PRIMARY, GatewayPlan
from clawsim.virtual.cable import CablePort
from clawsim.virtual.concentrator import PORT as LORA
from clawsim.virtual.concentrator import Concentrator
from clawsim.virtual.machines.base import Machine
from clawsim.virtual.memory import GatewayDisk
from clawsim.virtual.router import TopicRouter
from clawsim.virtual.session import Session
from clawsim.virtual.wire import Wire
from firmware.wire.auth import mqtt_password
from firmware.wire.outputs import Connect, Credentials, Disconnect, Send
from firmware.wire.topics import split, topic
from fleet.hub.access import NodeAccess
from nanoclaw.core.config import GatewayConfig
from nanoclaw.core.lines import LineConfig
from nanoclaw.core.lora.config import LoraConfig

GATEWAY_STORE_US = 5_000
MAX_NODE_BYTES = 512


class GatewayMachine(Machine):
    """A Raspberry Pi with the daemon: disk, local broker, uplink."""

    def __init__(self, world: Any, plan: GatewayPlan) -> None:
        super().__init__(world, plan.id)
        self.plan = plan
        self.key = world.key(plan.id)
        self.disk = GatewayDisk()
        self.concentrator = Concentrator(world, self)
        self.passwords: dict[str, bytes] = {}
        local = secret(world.plan.seed, plan.id, "local")
        access = NodeAccess(plan.id, local, self.passwords)
        self.broker = TopicRouter(plan.id, access, MAX_NODE_BYTES, self.refused)
        self.cables: dict[str, CablePort] = {}
        self._own = _Local(plan.id, self)
        self._local_password = local
        # By port of the core: the client there, and this end of the link that it goes over.
        self._lines = {"hub": (self._hub_session("hub"), plan.id)}
        if plan.backup:
            port = f"hub:{plan.backup.name}"
            self._lines[port] = (self._hub_session(port), plan.backup_end)

    def _hub_session(self, port: str) -> Session:
        filters = tuple(topic(self.id, verb) for verb in ("batch/ack", "heartbeat/ack", "cmd", "config"))
        return self.world.session(self.id, mqtt_password(self.key), filters, self, port)  # type: ignore[no-any-return]

    def config(self) -> GatewayConfig:
        """What the daemon is configured with."""
        plan = self.plan
        fleet_id = self.world.plan.fleet_id
        identity = {"id": plan.id, "key": self.key, "fleet_id": fleet_id, "site": plan.site}
        lines = [LineConfig(PRIMARY, plan.daily_bytes)]
        if plan.backup:
            lines.append(LineConfig(plan.backup.name, plan.backup.daily_bytes))
        return GatewayConfig(
            **identity,
            role=plan.role,
            modes=dict(plan.modes),
            lines=tuple(lines),
            failback=plan.failback,
            failback_after_ms=plan.failback_after_ms,
            failback_hold_ms=plan.failback_hold_ms,
            lora=LoraConfig() if self._has_radio() else None,
        )

    @property
    def starts(self) -> int:
        """How often it was switched on or off."""
        return self._starts

    def _has_radio(self) -> bool:
        """Gateways of a site with nodes on the radio have a concentrator."""
        return any(node.link == LORA and node.site == self.plan.site for node in self.world.plan.nodes)

    def nodes_here(self) -> int:
        """Its load, as it announces it."""
        nodes = self.host.core.nodes.values() if self.host is not None and self.host.alive else ()
        return sum(1 for node in nodes if node.state == "up")

    def _start(self) -> None:
        perform = {
            Send: self._send,
            Connect: self._connect,
            Disconnect: lambda disconnect: self._lines[disconnect.port][0].close(),
            Credentials: self._set_passwords,
        }
        host = self._host(self.disk.perform, GATEWAY_STORE_US, perform)
        rng = stream(self.world.plan.seed, self.id, "core", str(self._starts))
        core = self.world.cores.gateway(self.config(), self.disk.restore(), rng, host.now_ms)
        core.learn_utc(self.world.utc_ms(), host.now_ms)
        self.broker.running = True
        self.broker.connect(self._own, self._local_password, ("clawland/+/+",))
        host.start(core)
        if self._has_radio():
            self.concentrator.start(self._starts)

    def _connect(self, connect: Any) -> None:
        session, end = self._lines[connect.port]
        self.world.connect(self, session, end, "hub", self.world.hub)

    def plug_in(self, node_id: str, wire: Wire) -> None:
        """The node is at the other end of this."""
        self.cables[node_id] = CablePort(wire, self)

    def thaw(self) -> None:
        """Go on."""
        super().thaw()
        if self.running:
            for port in self.cables.values():
                port.thaw()

    def _send(self, send: Any) -> None:
        port, name, payload = send
        if port == LORA:
            self.concentrator.receive(payload)
        elif port != "nodes":
            self._lines[port][0].send(send)
        elif self.cables and (cable := self.cables.get((split(name) or ("",))[0])):
            cable.send(name, payload)
        else:
            self.broker.route(name, payload)

    def _set_passwords(self, credentials: Any) -> None:
        self.passwords.clear()
        self.passwords.update(credentials.passwords)
        for node_id, port in self.cables.items():
            if not port.is_open:  # as the daemon: once it is known which nodes there are
                port.open(stream(self.world.plan.seed, self.id, "cable", node_id, str(self._starts)))

    def refused(self, name: str, reason: str, sender: str) -> None:
        """A message that its broker, or a port of its, does not let in."""
        self.world.emit("message.rejected", self.id, {"topic": name, "reason": reason, "from": sender})

    def hang_up(self) -> None:
        """Close the connections to the hub."""
        for session, _ in self._lines.values():
            session.close()

    def _disconnect(self, silent: bool) -> None:
        self.broker.stop(silent)
        for port in self.cables.values():
            port.close()
        self.hang_up()


class _Local:
    """The daemon as a client of its own broker, on the same machine."""

    def __init__(self, identity: str, machine: GatewayMachine) -> None:
        self.identity = identity
        self._machine = machine

    def path(self, name: str) -> Callable[[str, bytes], None] | None:
        """What takes messages from nodes; the daemon's own are not for it. The broker dies with the host."""
        host = self._machine.host
        return None if host is None or name.endswith(("/received", "/cmd")) else partial(host.receive, "nodes")

    def dropped(self, silent: bool) -> None:
        """The broker dies with the daemon."""
