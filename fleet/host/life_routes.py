"""The life of nodes and gateways by the operator's hand, and what their configuration is and shall be.

Keys are made here, and shown once, in the answer to the request that made them.
"""

import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from firmware.wire.auth import KEY_BYTES
from fleet.host.access import Doorkeeper
from fleet.host.answers import DENIED, answer, done, problem_docs
from fleet.host.bodies import MOST_METADATA_BYTES, Capabilities, Hardware, Id, NodeType
from fleet.host.deeds import carry_out, check_size
from fleet.host.problems import Problem
from fleet.host.readings import utc_text
from fleet.host.stage import Stage
from fleet.host.tokens import Caller
from fleet.host.views import gateway_json, node_detail_json, node_type_of

NodeId = Annotated[str, Path(max_length=32, description="the node, as in `sensor-01`")]
SECRET = {"Cache-Control": "no-store"}


class NewNode(BaseModel):
    """A node that a gateway will reach; its site is its gateway's."""

    model_config = ConfigDict(extra="forbid")

    node_id: Id
    node_type: NodeType = "microclaw"
    gateway: Id | None = Field(None, description="its home; without one, `site` is needed")
    site: Id | None = None
    hardware: Hardware | None = None
    capabilities: Capabilities = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict)


class NewGateway(BaseModel):
    """A gateway of a site."""

    model_config = ConfigDict(extra="forbid")

    gateway_id: Id
    site: Id
    role: Annotated[str, Field(pattern="^(primary|fallback)$")] = "primary"


class NewBoard(BaseModel):
    """What the new board is."""

    model_config = ConfigDict(extra="forbid")

    hardware: Hardware | None = None


class Move(BaseModel):
    """Where to; at least one of both."""

    model_config = ConfigDict(extra="forbid")

    gateway: Id | None = None
    site: Id | None = None


_NO_NODE = DENIED | {"_404": "there is no such node"}
_WITH_KEY = ("the key is shown this once", {"node": {"node_id": "sensor-07"}, "key": "64 hex digits"})


def router(stage: Stage, doors: Doorkeeper) -> APIRouter:
    """The routes about members of the fleet."""
    prefix = "/api/v1/fleet"  # of each router: a route that is asked for its path knows only its own
    routes = APIRouter(tags=["members"])
    managers = APIRouter(prefix=prefix, dependencies=[Depends(doors.needs("admin"))])
    everybody = APIRouter(prefix=prefix)
    _add_members(managers, stage)
    _add_changes(managers, stage)
    _add_configuration(everybody, stage, doors)
    routes.include_router(managers)
    routes.include_router(everybody)
    return routes


def _add_members(routes: APIRouter, stage: Stage) -> None:
    @routes.post(
        "/nodes",
        summary="Add a node; its key is in the answer",
        status_code=201,
        responses=done(201, *_WITH_KEY) | problem_docs(_409="the id is taken, or there is no such gateway", **DENIED),
    )
    async def add_node(node: NewNode) -> Response:
        check_size("metadata", node.metadata, MOST_METADATA_BYTES)
        found = node.model_dump(exclude={"node_id", "node_type"}) | {"id": node.node_id, "key": _new_key()}
        found["type"] = node_type_of(node.node_type)
        await carry_out(stage, stage.runtime.core.members.add_node, found)
        return answer({"node": _node(stage, node.node_id), "key": found["key"]}, 201, SECRET)

    @routes.post(
        "/gateways",
        summary="Add a gateway; its key is in the answer",
        status_code=201,
        responses=done(201, "the key is shown this once", {"gateway": {"gateway_id": "gateway-07"}, "key": "…"})
        | problem_docs(_409="the id is taken, or there is no such gateway", **DENIED),
    )
    async def add_gateway(gateway: NewGateway) -> Response:
        found = {"id": gateway.gateway_id, "site": gateway.site, "role": gateway.role, "key": _new_key()}
        await carry_out(stage, stage.runtime.core.members.add_gateway, found)
        return answer({"gateway": _gateway(stage, gateway.gateway_id), "key": found["key"]}, 201, SECRET)

    @routes.delete(
        "/nodes/{node_id}",
        summary="Decommission a node: it leaves the fleet, its readings stay",
        status_code=204,
        responses=problem_docs(**_NO_NODE),
    )
    async def decommission(node_id: NodeId) -> Response:
        await carry_out(stage, stage.runtime.core.members.decommission, node_id)
        return Response(status_code=204)


def _add_changes(routes: APIRouter, stage: Stage) -> None:
    @routes.post(
        "/nodes/{node_id}/replace",
        summary="Another board takes the node's place: same id, new hardware and key",
        responses=done(200, *_WITH_KEY) | problem_docs(**_NO_NODE),
    )
    async def replace(node_id: NodeId, board: NewBoard | None = None) -> Response:
        hardware = board and board.hardware and board.hardware.model_dump()
        key = _new_key()
        row = await carry_out(stage, stage.runtime.core.members.replace, node_id, key, hardware)
        shown = key if row["doc"].get("key") == key else None  # an agent has no key: it registers again
        return answer({"node": _node(stage, node_id), "key": shown}, headers=SECRET)

    @routes.post(
        "/nodes/{node_id}/move",
        summary="To another home gateway, another site or both",
        responses=done(200, "the node as it is now", {"node_id": "sensor-07"})
        | problem_docs(_409="there is no such gateway, or the node needs none", **_NO_NODE),
    )
    async def move(node_id: NodeId, where: Move) -> Response:
        await carry_out(stage, stage.runtime.core.members.move, node_id, where.gateway, where.site)
        return answer(_node(stage, node_id))

    @routes.post(
        "/nodes/{node_id}/stolen",
        summary="Mark a node stolen: its key and its tokens are worth nothing from now on",
        responses=done(200, "the node as it is now", {"node_id": "sensor-07", "stolen": True})
        | problem_docs(**_NO_NODE),
    )
    async def stolen(node_id: NodeId) -> Response:
        await carry_out(stage, stage.runtime.core.members.mark_stolen, node_id)
        return answer(_node(stage, node_id))


def _add_configuration(routes: APIRouter, stage: Stage, doors: Doorkeeper) -> None:
    @routes.get(
        "/nodes/{node_id}/configuration",
        summary="A node's configuration as it shall be, as it is, and where they differ",
        dependencies=[Depends(doors.needs_or_is("viewer", "node", "node_id"))],
        responses=problem_docs(**_NO_NODE),
    )
    async def of_node(node_id: NodeId) -> Response:
        return answer(_node_configuration(stage, node_id))

    @routes.put(
        "/nodes/{node_id}/configuration",
        summary="What a node's configuration shall be; sent to it as a `config` command",
        responses=problem_docs(_409="the node is marked stolen", **_NO_NODE),
    )
    async def desire(
        node_id: NodeId, values: dict[str, Any], caller: Annotated[Caller, Depends(doors.needs("operator"))]
    ) -> Response:
        check_size("values", values, MOST_METADATA_BYTES)
        await carry_out(stage, stage.runtime.core.members.desire, node_id, values, caller.name)
        return answer(_node_configuration(stage, node_id))

    @routes.get(
        "/gateways/{gateway_id}/configuration",
        summary="The version that a gateway shall have, the one it has, and whether they differ",
        dependencies=[Depends(doors.needs_or_is("viewer", "gateway", "gateway_id"))],
        responses=problem_docs(**(DENIED | {"_404": "there is no such gateway"})),
    )
    async def of_gateway(gateway_id: Annotated[str, Path(max_length=32)]) -> Response:
        core = stage.runtime.core
        health = _gateway(stage, gateway_id)["health"] or {}
        view = next(view for view in core.gateway_views() if view["id"] == gateway_id)
        desired = {"version": core.config_version}
        reported = {"version": health.get("config"), "hash": view.get("config_hash")}
        if health.get("config_refused"):
            reported["refused"] = health["config_refused"]
        return answer({"desired": desired, "reported": reported, "difference": difference(desired, reported)})


def difference(desired: dict[str, Any], reported: dict[str, Any]) -> dict[str, Any]:
    """What is desired and not (or not yet) reported so, by name."""
    return {
        name: {"desired": value, "reported": reported.get(name)}
        for name, value in desired.items()
        if name not in reported or reported[name] != value
    }


def _node_configuration(stage: Stage, node: str) -> dict[str, Any]:
    view = _view(stage, node)
    wanted, reported = view.get("desired") or {}, view.get("reported") or {}
    command = stage.runtime.core.commands.rows.get(wanted.get("command", ""))
    return {
        "desired": wanted.get("values", {}),
        "desired_version": wanted.get("version", 0),
        "desired_utc": utc_text(wanted.get("utc_ms")),
        "delivery": command and command["state"],
        "reported": reported,
        "difference": difference(wanted.get("values", {}), reported),
    }


def _new_key() -> str:
    return secrets.token_hex(KEY_BYTES)


def _view(stage: Stage, node: str) -> dict[str, Any]:
    if node not in stage.runtime.core.registry.nodes:
        raise Problem(404, "not_found", f"there is no node {node!r}")
    return stage.runtime.core.node_view(node)


def _node(stage: Stage, node: str) -> dict[str, Any]:
    return node_detail_json(_view(stage, node))


def _gateway(stage: Stage, gateway: str) -> dict[str, Any]:
    for view in stage.runtime.core.gateway_views():
        if view["id"] == gateway:
            return gateway_json(view)
    raise Problem(404, "not_found", f"there is no gateway {gateway!r}")
