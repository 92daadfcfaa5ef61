"""The operator of the virtual world: calls the API's own operations on the core, and injects raw messages.

It answers as the real server does: the same paths, statuses and bodies, for what scenarios call.
"""

import re
from typing import Any

from clawsim.scenario.plan import CallAction, InjectAction
from clawsim.virtual.machines import GatewayMachine
from fleet.core.commands import ENDED, InvalidCommand, UnknownTarget

WORLD = "world"
POLL_US = 100_000
TIMEOUT_MS = 30_000
_COMMAND = re.compile(r"/api/nodes/(?P<node>[^/]+)/(?P<action>[^/?]+)")
_NOT_ALLOWED = {"anonymous": 401, "viewer": 403}


class Operator:
    """Carries out the calls and injections of a plan."""

    def __init__(self, world: Any) -> None:
        self._world = world
        self.waiting = 0
        self.answers: dict[str, dict[str, Any]] = {}
        self.impossible: list[str] = []

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
        world = self._world
        world.emit("call.sent", WORLD, {"of": action.name, "method": action.method, "path": action.path})
        found = _COMMAND.fullmatch(action.path)
        if found is None or action.method != "POST":
            self.impossible.append(f"{action.name}: the virtual world cannot call {action.method} {action.path}")
            return
        if action.as_role in _NOT_ALLOWED:
            self._answer(action, world.env.now_us, _NOT_ALLOWED[action.as_role], {"error": "forbidden"})
            return
        if not world.fleet.responsive:
            self._answer(action, world.env.now_us, 503, {"error": "unavailable"})
            return
        self._command(action, found["node"], found["action"])

    def _command(self, action: CallAction, node: str, verb: str) -> None:
        world = self._world
        body = dict(action.body or {})
        timeout_ms = int(1000 * body.pop("timeout", TIMEOUT_MS / 1000))
        if verb == "command":
            verb = str(body.pop("action", ""))
        params = body.get("params", body)
        host = world.fleet.host
        try:
            row = host.core.request_command(verb, node, params, action.as_role, 300_000, host.now_ms)
        except UnknownTarget as error:
            self._answer(action, world.env.now_us, 404, {"error": "unknown_node", "message": str(error)})
            return
        except InvalidCommand as error:
            self._answer(action, world.env.now_us, 400, {"error": "invalid_command", "message": str(error)})
            return
        host.pump()
        self.waiting += 1
        self._wait(action, row["id"], world.env.now_us, world.env.now_us + 1000 * timeout_ms)

    def _wait(self, action: CallAction, command_id: str, sent_us: int, until_us: int) -> None:
        world = self._world
        row = world.fleet.host.core.command_view(command_id) if world.fleet.running else {"state": "unknown"}
        if row["state"] in ENDED:
            result = "success" if row["state"] == "acknowledged" else row["state"]
            self._end(action, sent_us, 200 if result == "success" else 502, {"result": result, "command": row})
        elif world.env.now_us >= until_us:
            self._end(action, sent_us, 202, {"result": "pending", "command": row})
        else:
            world.after(POLL_US, self._wait, action, command_id, sent_us, until_us)

    def _end(self, action: CallAction, sent_us: int, status: int, body: dict[str, Any]) -> None:
        self.waiting -= 1
        self._answer(action, sent_us, status, body)

    def _answer(self, action: CallAction, sent_us: int, status: int, body: dict[str, Any]) -> None:
        now_us = self._world.env.now_us
        self.answers[action.name] = {"status": status, "body": body, "took_us": now_us - sent_us}
        fields = {"of": action.name, "status": status, "latency_ms": (now_us - sent_us) // 1000}
        self._world.emit("call.answered", WORLD, fields)

    def inject(self, action: InjectAction) -> None:
        """Publish raw bytes as an identity that is known to the broker."""
        world = self._world
        machine = world.machines[action.broker]
        size = len(action.payload)
        world.emit("inject.sent", WORLD, {"of": action.name, "topic": action.topic, "bytes": size})
        if isinstance(machine, GatewayMachine) or machine is world.hub:
            machine.broker.publish(action.as_id, action.topic, action.payload)
