"""`POST /api/nodes/{id}/{action}` and what has become of a command.

Answers of the POST: 200 the node did it; 202 it has not answered within `timeout`, with the command's URL; 502 the
node or its gateway reported that it failed; 504 the command expired before it could be delivered.
"""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from fleet.core.commands import OPEN, InvalidCommand, UnknownTarget
from fleet.host import history
from fleet.host.access import Doorkeeper
from fleet.host.answers import DENIED, answer, documented, done, problem_docs
from fleet.host.listing import Cursor, Limit, read
from fleet.host.problems import Problem, unavailable
from fleet.host.stage import Stage
from fleet.host.storage import StorageError
from fleet.host.tokens import Caller
from fleet.host.views import command_json

DEFAULT_TIMEOUT_S = 30.0
MAX_TIMEOUT_S = 300.0
DEFAULT_TTL_S = 300.0
MAX_TTL_S = 7 * 86_400.0
MAX_KEY_CHARS = 128
NOT_STORED = "not stored"  # the core's word for a command that its transaction lost

State = Literal["open", "queued", "sent", "acknowledged", "failed", "expired"]
NodeId = Annotated[str, Path(max_length=32, description="the node, as in `sensor-01`")]
Timeout = Annotated[
    float | None,
    Query(ge=0, le=MAX_TIMEOUT_S, allow_inf_nan=False, description="seconds to wait for the node's answer; default 30"),
]
Key = Annotated[
    str | None,
    Header(alias="Idempotency-Key", min_length=1, max_length=MAX_KEY_CHARS, description="repeats are the same command"),
]


class CommandRequest(BaseModel):
    """What to do and how long to wait; everything is optional, also the whole body."""

    model_config = ConfigDict(extra="forbid")

    action: str | None = Field(None, max_length=32, description="the action, for /command only")
    params: dict[str, Any] = Field(default_factory=dict, description="the action's own parameters")
    timeout: float | None = Field(None, ge=0, le=MAX_TIMEOUT_S, allow_inf_nan=False, description="as in the query")
    ttl: float | None = Field(
        None,
        gt=0,
        le=MAX_TTL_S,
        allow_inf_nan=False,
        description="seconds until it expires undelivered; default 300",
    )


_EXAMPLE = {"id": "c-1", "action": "restart", "target": "sensor-01", "state": "acknowledged"}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: documented("the node has done it", {"result": "success", "command": _EXAMPLE}),
    202: documented("no answer yet; `Location` tells more", {"result": "pending", "command": _EXAMPLE}),
    **problem_docs(
        _400="not a command, or not one for this node",
        _401="no valid token",
        _403="the token's role is too low",
        _404="there is no such node",
        _409="the node is marked stolen",
        _413="the body is too long",
        _422="this Idempotency-Key was used for another command",
        _502="the node reported that it failed",
        _429="too many requests; Retry-After says when to come back",
        _503="the database is not available; Retry-After says when to come back",
        _504="the command expired before it was delivered",
    ),
}


def router(stage: Stage, doors: Doorkeeper) -> APIRouter:
    """The routes about commands."""
    routes = APIRouter(tags=["commands"])

    @routes.post("/api/nodes/{node_id}/{action}", summary="Have a node do something", responses=_RESPONSES)
    async def dispatch(
        node_id: NodeId,
        action: Annotated[str, Path(max_length=32, description="restart, alert, or command for any action")],
        caller: Annotated[Caller, Depends(doors.needs("operator"))],
        request: CommandRequest | None = None,
        timeout: Timeout = None,
        key: Key = None,
    ) -> Response:
        request = request or CommandRequest()
        command = _request(stage, node_id, _action(action, request), request, caller, key)
        try:
            await stage.runtime.committed()
        except StorageError as error:
            raise unavailable(str(error)) from None
        return _outcome(await stage.desk.wait(command["id"], _timeout_ms(timeout, request)))

    @routes.get(
        "/api/v1/fleet/commands",
        summary="Commands, latest first",
        dependencies=[Depends(doors.needs("viewer"))],
        responses=done(200, "a page", {"commands": [_EXAMPLE], "next_cursor": None}) | problem_docs(**DENIED),
    )
    async def commands(
        node_id: Annotated[str | None, Query(max_length=32, description="only to this node or gateway")] = None,
        state: Annotated[State | None, Query(description="only in this state; open: queued or sent")] = None,
        cursor: Cursor = None,
        limit: Limit = 100,
    ) -> Response:
        where: dict[str, tuple[str, ...]] = {} if node_id is None else {"target": (node_id,)}
        if state is not None:
            where["state"] = OPEN if state == "open" else (state,)
        rows, more = await read(stage, history.page, "commands", where, cursor, limit)
        return answer({"commands": [command_json(row) for row in rows], "next_cursor": more})

    @routes.get(
        "/api/v1/fleet/commands/{command_id}",
        summary="One command and its state",
        responses=problem_docs(_404="there is no such command", **DENIED),
    )
    async def show(
        command_id: Annotated[str, Path(max_length=200)], _caller: Annotated[Caller, Depends(doors.needs("viewer"))]
    ) -> Response:
        try:
            view = stage.runtime.core.command_view(command_id)
        except KeyError:  # of long ago
            view = await read(stage, history.one, "commands", command_id)
        if view is None:
            raise Problem(404, "not_found", f"there is no command {command_id!r}")
        return answer(command_json(view))

    return routes


def _action(action: str, request: CommandRequest) -> str:
    if action != "command":
        if request.action not in (None, action):
            raise Problem(400, "invalid", f"body.action: {request.action!r} is not the action of this URL, {action!r}")
        return action
    if not request.action:
        raise Problem(400, "invalid", 'body.action: expected the action to take, as in {"action": "restart"}')
    return request.action


def _request(
    stage: Stage, node_id: str, action: str, request: CommandRequest, caller: Caller, key: str | None
) -> dict[str, Any]:
    row = stage.runtime.core.registry.nodes.get(node_id)
    if row is not None and row["doc"].get("stolen"):
        raise Problem(409, "stolen", f"{node_id} is marked stolen; nothing is sent to it")
    ttl_ms = int((DEFAULT_TTL_S if request.ttl is None else request.ttl) * 1000)
    scoped_key = None if key is None else f"{caller.name}/{key}"  # one caller's keys are nobody else's
    try:
        command = stage.runtime.do(
            stage.runtime.core.request_command,
            action=action,
            target=node_id,
            params=request.params,
            by=caller.name,
            ttl_ms=max(ttl_ms, 1),
            key=scoped_key,
        )
    except UnknownTarget:
        raise Problem(404, "not_found", f"there is no node {node_id!r}") from None
    except InvalidCommand as error:
        raise Problem(400, "invalid", str(error)) from None
    doc = command["doc"]
    if (command["target"], doc["action"], doc["params"]) != (node_id, action, request.params):
        raise Problem(422, "key_reused", f"this Idempotency-Key stands for another command, {command['id']}")
    return command


def _timeout_ms(query: float | None, request: CommandRequest) -> int:
    chosen = query if query is not None else request.timeout
    return int((DEFAULT_TIMEOUT_S if chosen is None else chosen) * 1000)


def _outcome(view: dict[str, Any]) -> Response:
    command = command_json(view)
    state, action, target = command["state"], command["action"], command["target"]
    if state == "acknowledged":
        return answer({"result": "success", "command": command})
    if state == "failed" and command["reason"] == NOT_STORED:
        raise unavailable("the command could not be stored and was not sent")
    if state == "failed":
        message = f"{target} reports that {action} failed: {command['reason'] or 'no reason given'}"
        raise Problem(502, "command_failed", message, result="failed", command=command)
    if state == "expired":
        message = f"{action} expired before {target} answered"
        raise Problem(504, "command_expired", message, result="expired", command=command)
    where = {"Location": f"/api/v1/fleet/commands/{view['id']}"}
    return answer({"result": "pending", "command": command}, 202, where)
