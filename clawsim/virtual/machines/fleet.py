"""The fleet manager's machine: it registers what the scenario plans at every start, as an operator's script would."""

from typing import Any

from clawsim.randomness import secret, stream
from clawsim.sealing import inventory_of, sealing_name, sensitive
from clawsim.virtual.host import VirtualHost
from clawsim.virtual.machines.base import Machine
from clawsim.virtual.machines.hub import MANAGER
from firmware.wire.outputs import Connect, Disconnect, Notify, Send
from fleet.core.config import FleetConfig
from fleet.core.manager import FleetCore
from fleet.core.vault import Vault

FLEET_STORE_US = 2_000


class FleetMachine(Machine):
    """The fleet manager: database, connection to the hub, people who are told."""

    def __init__(self, world: Any) -> None:
        super().__init__(world, MANAGER)
        self.database = world.cores.database()
        verbs = ("batch", "batch/gz", "heartbeat", "status", "ack", "config/ack")
        filters = tuple("clawland/+/" + verb for verb in verbs)
        self.session = world.session(MANAGER, world.hub.manager_password, filters, self, "hub")

    vault: Vault

    def _start(self) -> None:
        perform = {
            Send: self.session.send,
            Connect: lambda _: self.world.connect(self, self.session, MANAGER, "hub", self.world.hub),
            Disconnect: lambda _: self.session.close(),
            Notify: self._notify,
        }
        host = self._host(self.database.perform, FLEET_STORE_US, perform)
        rng = stream(self.world.plan.seed, self.id, "core", str(self._starts))
        seed = self.world.plan.seed
        self.vault = Vault([secret(seed, "data")], stream(seed, self.id, "vault", str(self._starts)).randbytes)
        core = self.world.cores.fleet(FleetConfig(), self.database.restore(), rng, host.now_ms, self.vault)
        core.learn_utc(self.world.utc_ms(), host.now_ms)
        self._register(core, host.now_ms)
        host.start(core)

    def _register(self, core: FleetCore, now_ms: int) -> None:
        """The inventory, as the operator gives it at every start."""
        plan = self.world.plan
        for gateway in plan.gateways:
            key = self.world.key(gateway.id).hex()
            core.add_gateway({"id": gateway.id, "site": gateway.site, "role": gateway.role, "key": key}, now_ms)
        core.sensitive.set_all(sensitive(plan), now_ms)
        for node in plan.nodes:
            entry = {"id": node.id, "type": node.type, "site": node.site, "gateway": node.gateway}
            entry |= {"groups": list(node.groups)} if node.groups else {}
            entry |= inventory_of(node, self.world.key(sealing_name(node.id)))
            core.add_node(entry | {"key": self.world.key(node.id).hex()}, now_ms)
        core.set_rules([rule.record() for rule in plan.rules], now_ms)

    def _notify(self, notify: Any) -> None:
        """Mail takes a moment; the core goes on meanwhile."""
        self.world.after(100_000, self._notified, self.host, notify.message_id)

    def _notified(self, host: VirtualHost, message_id: str) -> None:
        if host.alive:
            host.call("notified", message_id, True)

    def hang_up(self) -> None:
        """Close the connection to its broker."""
        self.session.close()

    def _disconnect(self, silent: bool) -> None:
        self.hang_up()
