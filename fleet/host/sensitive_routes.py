"""Which metrics are sensitive, and what nodes seal: seen by anybody with a token, decided by admins."""

import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from fleet.core.sensitive import MOST_SCOPES
from fleet.core.vault import KEY_BYTES
from fleet.host.access import Doorkeeper
from fleet.host.answers import DENIED, answer, done, problem_docs
from fleet.host.deeds import carry_out
from fleet.host.problems import Problem
from fleet.host.stage import Stage

_METRIC = r"^[a-z][a-z0-9_]{0,31}$"
Metric = Annotated[str, Path(pattern=_METRIC)]
NodeId = Annotated[str, Path(max_length=32, description="the node, as in `sensor-01`")]
SCOPE = r"^(fleet|(node|group|site):[a-z0-9][a-z0-9-]{0,31})$"
_EXAMPLE: dict[str, Any] = {"metric": "co2", "in": ["site:office"], "rules": False}
_SEALING: dict[str, Any] = {"node_id": "sensor-01", "metrics": ["co2"], "keys": 1}


class Sensitive(BaseModel):
    """Where, and whether rules may look."""

    model_config = ConfigDict(extra="forbid")

    scopes: list[Annotated[str, Field(pattern=SCOPE)]] = Field(
        default=["fleet"],
        alias="in",
        min_length=1,
        max_length=MOST_SCOPES,
        description="`fleet` (everywhere), `site:ID`, `group:ID`, `node:ID`",
    )
    rules: bool = Field(False, strict=True, description="whether rules may look at the values")


class Sealing(BaseModel):
    """What the node seals."""

    model_config = ConfigDict(extra="forbid")

    metrics: list[Annotated[str, Field(pattern=_METRIC)]] = Field(
        max_length=MOST_SCOPES, description="empty: nothing from now on"
    )


def router(stage: Stage, doors: Doorkeeper) -> APIRouter:
    """The routes of sensitive metrics and of sealing."""
    routes = APIRouter(prefix="/api/v1/fleet", tags=["sensitive"])
    viewer, admin = [Depends(doors.needs("viewer"))], [Depends(doors.needs("admin"))]
    _add_metrics(routes, stage, viewer, admin)
    _add_sealing(routes, stage, viewer, admin)
    return routes


def _add_metrics(routes: APIRouter, stage: Stage, viewer: list[Any], admin: list[Any]) -> None:
    closed = "a rule looks at it, there are too many, or the server has no data key"
    known = done(200, "changed", _EXAMPLE) | done(201, "new", _EXAMPLE)

    @routes.get(
        "/sensitive",
        summary="Metrics whose values are kept closed, by name",
        dependencies=viewer,
        responses=done(200, "all of them", {"sensitive": [_EXAMPLE]}) | problem_docs(**DENIED),
    )
    async def sensitive() -> Response:
        rows = stage.runtime.core.sensitive.rows
        return answer({"sensitive": [{"metric": metric} | rows[metric]["doc"] for metric in sorted(rows)]})

    @routes.put(
        "/sensitive/{metric}",
        summary="Keep a metric's values closed from now on; `fleet keys reencrypt` closes those stored before",
        dependencies=admin,
        responses=known | problem_docs(_409=closed, **DENIED),
    )
    async def put(metric: Metric, sensitive: Sensitive) -> Response:
        doc = {"in": sensitive.scopes, "rules": sensitive.rules}
        new = await carry_out(stage, stage.runtime.core.sensitive.put, metric, doc)
        return answer({"metric": metric} | doc, 201 if new else 200)

    @routes.delete(
        "/sensitive/{metric}",
        summary="Treat a metric like any other from now on; values that are closed stay so",
        dependencies=admin,
        status_code=204,
        responses=problem_docs(_404="it is not marked", _409="a rule looks at it, and a node seals it", **DENIED),
    )
    async def drop(metric: Metric) -> Response:
        await carry_out(stage, stage.runtime.core.sensitive.drop, metric)
        return Response(status_code=204)


def _add_sealing(routes: APIRouter, stage: Stage, viewer: list[Any], admin: list[Any]) -> None:
    missing = {"_404": "there is no such node"}

    @routes.get(
        "/nodes/{node_id}/sealing",
        summary="What a node seals by itself, and how many sealing keys it has had",
        dependencies=viewer,
        responses=done(200, "its metrics", _SEALING) | problem_docs(**DENIED, **missing),
    )
    async def sealing(node_id: NodeId) -> Response:
        if node_id not in stage.runtime.core.registry.nodes:
            raise Problem(404, "not_found", f"there is no node {node_id!r}")
        return answer(_sealing(stage, node_id))

    @routes.put(
        "/nodes/{node_id}/sealing",
        summary="Give a node a new sealing key for these metrics; earlier ones still open what they sealed",
        dependencies=admin,
        responses=done(200, "the key is shown this once", _SEALING | {"sealing_key": "64 hex digits"})
        | problem_docs(_409="a rule looks at one of them, or the server has no data key", **DENIED, **missing),
    )
    async def put_sealing(node_id: NodeId, sealing: Sealing) -> Response:
        key = secrets.token_hex(KEY_BYTES) if sealing.metrics else None
        await carry_out(stage, stage.runtime.core.sensitive.set_sealing, node_id, sealing.metrics, key)
        return answer(_sealing(stage, node_id) | {"sealing_key": key}, headers={"Cache-Control": "no-store"})


def _sealing(stage: Stage, node: str) -> dict[str, Any]:
    doc = stage.runtime.core.sensitive.sealing.get(node, {}).get("doc", {"metrics": [], "keys": []})
    return {"node_id": node, "metrics": doc["metrics"], "keys": len(doc["keys"])}
