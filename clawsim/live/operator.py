"""The operator of a live world: real requests to a real fleet manager, raw messages on real brokers."""

from __future__ import annotations

from typing import Any

from clawsim.live.actions import answer_of, publish_as
from clawsim.scenario.plan import FLEET, CallAction, InjectAction
from clawsim.virtual.operator import WORLD, Operator


class LiveOperator(Operator):
    """Does for real what concerns a real part, and leaves the rest to the virtual operator."""

    def prepare(self) -> None:
        """The virtual API, unless the fleet manager is real."""
        if FLEET not in self._world.real:
            super().prepare()

    def call(self, action: CallAction) -> None:
        """Send the request; the answer comes when it comes."""
        world = self._world
        if FLEET not in world.real:
            super().call(action)
            return
        self._say_sent(action)
        world.background(self._call(action, world.env.now))

    def inject(self, action: InjectAction) -> None:
        """Publish raw bytes under an identity."""
        if action.broker in self._world.real:
            self._world.background(self._inject(action))
        else:
            super().inject(action)

    async def _call(self, action: CallAction, sent_us: int) -> None:
        status, body = await answer_of(self._world.api, action)
        self._world.pacer.feed(self._answered, action, sent_us, status, body)

    def _answered(self, action: CallAction, sent_us: int, status: Any, body: Any) -> None:
        self._end(action, sent_us, status, body)

    async def _inject(self, action: InjectAction) -> None:
        world = self._world
        failure = await publish_as(world.deployment, world.proxies[action.broker], action)
        if failure:
            self.impossible.append(f"{action.name}: {failure}")
            return
        fields = {"of": action.name, "topic": action.topic, "bytes": len(action.payload)}
        world.pacer.feed(world.emit, "inject.sent", WORLD, fields)
