"""The Event Hub: a broker between gateways and fleet manager, which loses what it carries when it stops."""

from typing import Any

from clawsim.randomness import secret
from clawsim.virtual.machines.base import Machine
from clawsim.virtual.router import TopicRouter
from firmware.wire.auth import mqtt_password
from fleet.hub.access import HubAccess
from fleet.wire.uplink import MAX_HUB_BYTES

MANAGER = "fleet"


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
