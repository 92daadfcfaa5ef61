"""The operator of the virtual world: calls the API of the fleet manager, and injects raw messages."""

from typing import Any

from clawsim.scenario.plan import CallAction, InjectAction
from clawsim.virtual.machines import GatewayMachine

WORLD = "world"


class Operator:
    """Carries out the calls and injections of a plan."""

    def __init__(self, world: Any) -> None:
        self._world = world
        self._api: Any = None
        self.waiting = 0
        self.answers: dict[str, dict[str, Any]] = {}
        self.impossible: list[str] = []

    def prepare(self) -> None:
        """Before time begins: what only calls need, a web framework, takes half a second to load."""
        if any(isinstance(action, CallAction) for action in self._world.plan.timeline):
            from clawsim.virtual.api import VirtualApi

            self._api = VirtualApi(self._world)

    def schedule(self) -> None:
        """Lay out calls and injections on the world's clock."""
        for action in self._world.plan.timeline:
            delay_us = action.at_us - self._world.env.now_us
            if isinstance(action, CallAction):
                self._world.after(delay_us, self.call, action)
            elif isinstance(action, InjectAction):
                self._world.after(delay_us, self.inject, action)

    def call(self, action: CallAction) -> None:
        """Send the request, and wait for the answer as the server's client would."""
        self._say_sent(action)
        sent_us = self._world.env.now_us
        role = action.as_role
        self._api.request(
            action.method, action.path, action.body, role, lambda status, body: self._end(action, sent_us, status, body)
        )

    def inject(self, action: InjectAction) -> None:
        """Publish raw bytes as an identity that is known to the broker."""
        world = self._world
        machine = world.machines[action.broker]
        size = len(action.payload)
        world.emit("inject.sent", WORLD, {"of": action.name, "topic": action.topic, "bytes": size})
        if isinstance(machine, GatewayMachine) or machine is world.hub:
            machine.broker.publish(action.as_id, action.topic, action.payload)

    def _say_sent(self, action: CallAction) -> None:
        self.waiting += 1
        fields = {"of": action.name, "method": action.method, "path": action.path}
        self._world.emit("call.sent", WORLD, fields)

    def _end(self, action: CallAction, sent_us: int, status: int | None, body: Any) -> None:
        now_us = self._world.env.now_us
        self.waiting -= 1
        self.answers[action.name] = {"status": status, "body": body, "took_us": now_us - sent_us}
        fields = {"of": action.name, "status": status, "latency_ms": (now_us - sent_us) // 1000}
        self._world.emit("call.answered", WORLD, fields)
