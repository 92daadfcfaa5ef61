"""The public fleet protocol of agents that speak HTTP: register, heartbeat, events, commands.

A token of a registration acts for its own node only. Who may register: an operator, whoever holds a one-time
registration token, and the agent itself with a token that is still valid, to say what has changed about it.
"""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from weakref import WeakValueDictionary

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from fleet.core.agent_events import MOST_EVENTS
from fleet.core.agents import HEARTBEAT_MS
from fleet.host.access import Doorkeeper
from fleet.host.accounts import REGISTRATION_S
from fleet.host.answers import DENIED, answer, done, problem_docs
from fleet.host.bodies import MOST_METADATA_BYTES, Capabilities, Count, Hardware, Id, NodeType, Whole, Word
from fleet.host.deeds import ask, carry_out, check_size, kept, when
from fleet.host.problems import Problem, unauthorized, unavailable
from fleet.host.readings import utc_text
from fleet.host.stage import Stage
from fleet.host.tokens import Caller, TokenError
from fleet.host.views import node_type_of

COMMAND_TYPES = ("restart", "update", "config")
MOST_RESULT_BYTES = 4_096
MOST_EVENT_BYTES = 8_192
FIRST_DAY, LAST_DAY = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)


class Registration(BaseModel):
    """Who the agent is."""

    node_id: Id
    node_type: NodeType
    hardware: Hardware
    capabilities: Capabilities = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict, description="anything; `location` is the node's site")


class Heartbeat(BaseModel):
    """That the agent lives, and how it is."""

    node_id: Id
    uptime_seconds: Count | None = None
    free_memory_kb: Count | None = None
    sensors_active: Count | None = None
    wifi_rssi: Whole | None = Field(None, ge=-200, le=100, description="dBm")


class AgentEvent(BaseModel):
    """Something that the agent saw."""

    event_type: Literal["sensor_reading", "alert", "error", "status_change"]
    timestamp: datetime = Field(description="ISO 8601; without an offset it is UTC")
    sensor_type: Word | None = None
    severity: Literal["info", "warning", "error", "critical"] = "info"
    message: str = Field("", max_length=1_000)
    data: dict[str, Any] = Field(default_factory=dict, description='of a reading: {"temperature": 25.0, …}')


class Report(BaseModel):
    """At most 100 events."""

    node_id: Id
    events: list[AgentEvent] = Field(description=f"at most {MOST_EVENTS}")


class Poll(BaseModel):
    """Whose commands."""

    node_id: Id


class Answer(BaseModel):
    """What has become of a command."""

    command_id: str = Field(min_length=1, max_length=200)
    status: Literal["success", "failed", "timeout"]
    executed_at: datetime | None = None
    result: dict[str, Any] = Field(default_factory=dict)


class Invitation(BaseModel):
    """For whom, and for how long."""

    model_config = ConfigDict(extra="forbid")

    node_id: Id | None = Field(None, description="for this node only")
    ttl: Whole = Field(REGISTRATION_S, ge=60, le=30 * 86_400, description="seconds")


_REGISTERED = {
    "node_id": "sensor-07",
    "token": "eyJ…",
    "expires_at": "2026-03-16T10:00:00Z",
    "fleet_broker": "mqtt://127.0.0.1:1883",
}


def router(stage: Stage, doors: Doorkeeper) -> APIRouter:
    """The routes of agents."""
    routes = APIRouter(prefix="/api/v1/fleet", tags=["agents"])
    _add_registration(routes, stage, doors)
    _add_reports(routes, stage, doors)
    _add_commands(routes, stage, doors)
    return routes


def _add_registration(routes: APIRouter, stage: Stage, doors: Doorkeeper) -> None:
    @routes.post(
        "/register",
        summary="Register an agent, or say anew what it is",
        responses=done(200, "registered", _REGISTERED)
        | problem_docs(_409="the id is taken: by other hardware, or by a node of a gateway", **DENIED),
    )
    async def register(
        registration: Registration, request: Request, secret: Annotated[str | None, Depends(doors.may_register())]
    ) -> Response:
        by = await _by_whose_leave(stage, doors, request, secret, registration.node_id)
        agent = registration.model_dump(exclude={"node_id", "node_type"})
        agent |= {"id": registration.node_id, "type": node_type_of(registration.node_type)}
        check_size("metadata", agent["metadata"], MOST_METADATA_BYTES)
        row = await carry_out(stage, stage.runtime.core.agents.register, agent, by)
        token, until_s = stage.accounts.device_token(row["id"])
        broker = f"mqtt://{stage.runtime.broker}"
        return answer(
            {"node_id": row["id"], "token": token, "expires_at": when(until_s), "fleet_broker": broker},
            headers={"Cache-Control": "no-store"},
        )

    @routes.post(
        "/registration-tokens",
        summary="A token that registers one agent, once",
        status_code=201,
        responses=done(201, "keep it, it is shown once", {"token": "reg_…", "expires_at": "2026-03-16T10:00:00Z"})
        | problem_docs(_409="there are too many tokens", **DENIED),
    )
    async def invite(
        caller: Annotated[Caller, Depends(doors.needs("operator"))], invitation: Invitation | None = None
    ) -> Response:
        invitation = invitation or Invitation()
        token, until_s = await kept(stage.accounts.invite(invitation.node_id, invitation.ttl, caller.name))
        body = {"token": token, "node_id": invitation.node_id, "expires_at": when(until_s)}
        return answer(body, 201, {"Cache-Control": "no-store"})


async def _by_whose_leave(stage: Stage, doors: Doorkeeper, request: Request, secret: str | None, node: str) -> str:
    """Who lets the agent in; a registration token is used up by it. Raises Problem."""
    if secret is not None:
        try:
            by = await kept(stage.accounts.spend(secret, node))
        except TokenError as error:
            raise unauthorized(str(error)) from None
        request.state.who = node
        return by
    caller = doors.somebody(request)
    if caller.may("operator") or caller.is_device("node", node):
        return caller.name
    raise Problem(403, "forbidden", f"{caller.name} ({caller.role}) may not register {node}")


def _add_reports(routes: APIRouter, stage: Stage, doors: Doorkeeper) -> None:
    at_work: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @routes.post(
        "/heartbeat",
        summary="An agent lives",
        responses=done(200, "heard", {"status": "ok", "next_heartbeat_seconds": 60, "commands_pending": 0})
        | problem_docs(_404="no agent is registered by that id", **DENIED),
    )
    async def heartbeat(beat: Heartbeat, caller: Annotated[Caller, Depends(doors.device("node"))]) -> Response:
        _check_self(caller, beat.node_id)
        told = ask(stage, stage.runtime.core.agents.heartbeat, beat.node_id, beat.model_dump(exclude={"node_id"}))
        status = "warning" if told["warnings"] else "ok"
        pace = {"next_heartbeat_seconds": HEARTBEAT_MS // 1000, "commands_pending": told["commands_pending"]}
        return answer({"status": status, **pace, "warnings": told["warnings"]})

    @routes.post(
        "/events",
        summary="What an agent saw: readings, alerts, errors, changes of its status",
        responses=done(200, "durable", {"events_received": 2, "events_stored": 2})
        | problem_docs(_404="no agent is registered by that id", **DENIED),
    )
    async def events(report: Report, caller: Annotated[Caller, Depends(doors.device("node"))]) -> Response:
        _check_self(caller, report.node_id)
        if len(report.events) > MOST_EVENTS:
            raise Problem(413, "too_large", f"a report has at most {MOST_EVENTS} events, not {len(report.events)}")
        found = [_event(event) for event in report.events]
        lock = at_work.setdefault(report.node_id, asyncio.Lock())
        async with lock:  # one report of an agent at a time
            durable: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            count = ask(stage, stage.runtime.core.agent_events.report, report.node_id, found, _answering(durable))
            if not await durable:
                raise unavailable("the report could not be stored; send it again")
        return answer({"events_received": len(found), "events_stored": count})


def _answering(durable: "asyncio.Future[bool]") -> Any:
    return lambda ok: None if durable.done() else durable.set_result(ok)


def _add_commands(routes: APIRouter, stage: Stage, doors: Doorkeeper) -> None:
    @routes.post(
        "/command",
        summary="The commands that wait for an agent",
        responses=done(200, "perhaps none", {"commands": [{"command_id": "c-1", "command_type": "restart"}]})
        | problem_docs(_404="no agent is registered by that id", **DENIED),
    )
    async def poll(poll: Poll, caller: Annotated[Caller, Depends(doors.device("node"))]) -> Response:
        _check_self(caller, poll.node_id)
        found = ask(stage, stage.runtime.core.agents.poll, poll.node_id)
        return answer({"commands": [_command(row) for row in found]})

    @routes.post(
        "/command/ack",
        summary="What has become of a command",
        responses=done(200, "taken", {"status": "ok", "state": "acknowledged"})
        | problem_docs(_404="the agent has no such command", **DENIED),
    )
    async def acknowledge(ack: Answer, caller: Annotated[Caller, Depends(doors.device("node"))]) -> Response:
        check_size("result", ack.result, MOST_RESULT_BYTES)
        reason = (
            ack.result.get("message") or ack.result.get("error") or ("timeout" if ack.status == "timeout" else None)
        )
        result = ack.result | ({"executed_at": ack.executed_at.isoformat()} if ack.executed_at else {})
        status = "success" if ack.status == "success" else "failed"
        message = {"id": ack.command_id, "status": status, "reason": reason and str(reason)[:200], "result": result}
        row = await carry_out(stage, stage.runtime.core.agents.answer, caller.name, message)
        return answer({"status": "ok", "command_id": ack.command_id, "state": row["state"]})


def _command(row: dict[str, Any]) -> dict[str, Any]:
    """A command in the protocol's words; an action that it has no word for is `custom`, named in the parameters."""
    action, params = row["doc"]["action"], row["doc"]["params"]
    known = action in COMMAND_TYPES
    return {
        "command_id": row["id"],
        "command_type": action if known else "custom",
        "issued_at": utc_text(row["created_utc_ms"]),
        "params": params if known else {"action": action} | params,
    }


def _check_self(caller: Caller, node: str) -> None:
    if caller.name != node:
        raise Problem(403, "forbidden", f"the token of {caller.name} does not act for {node}")


def _event(event: AgentEvent) -> dict[str, Any]:
    at = event.timestamp if event.timestamp.tzinfo else event.timestamp.replace(tzinfo=UTC)
    if not FIRST_DAY <= at <= LAST_DAY:
        raise Problem(400, "invalid", f"body.events.timestamp: {at.isoformat()} is not of our time")
    found = event.model_dump(exclude={"event_type", "timestamp"})
    check_size("events", found, MOST_EVENT_BYTES)
    return found | {"type": event.event_type, "utc_ms": round(at.timestamp() * 1000)}
