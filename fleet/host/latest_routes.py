"""The latest value of each metric: of one node, and of all, a page of nodes at a time."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from fleet.host.access import Doorkeeper
from fleet.host.answers import answer, problem_docs
from fleet.host.latest import Values
from fleet.host.opening import show
from fleet.host.problems import Problem, unavailable
from fleet.host.stage import Stage
from fleet.host.storage import StorageError
from fleet.host.tokens import Caller
from fleet.host.views import node_json

MAX_PAGE = 100
_DENIED = {"_401": "no valid token", "_503": "the database is not available; Retry-After says when to come back"}


def add_latest(routes: APIRouter, stage: Stage, doors: Doorkeeper) -> None:
    """Adds the routes to those that a viewer may ask."""
    viewer = Depends(doors.needs("viewer"))

    @routes.get(
        "/nodes/{node_id}/latest",
        summary="The latest value of each metric of one node, by the time it was read",
        responses=problem_docs(_404="there is no such node", **_DENIED),
    )
    async def of_node(node_id: Annotated[str, Path(max_length=32)], caller: Annotated[Caller, viewer]) -> Response:
        if node_id not in stage.runtime.core.registry.nodes:
            raise Problem(404, "not_found", f"there is no node {node_id!r}")
        return answer((await _latest(stage, [node_id], caller))[0])

    @routes.get(
        "/latest",
        summary="The latest values of all nodes, by id",
        responses=problem_docs(_400="bad parameter", **_DENIED),
    )
    async def of_all(
        caller: Annotated[Caller, viewer],
        cursor: Annotated[str | None, Query(max_length=32, description="`next_cursor` of the page before")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="nodes on a page")] = 20,
    ) -> Response:
        nodes = sorted(node for node in stage.runtime.core.registry.nodes if cursor is None or node > cursor)
        some, more = nodes[:limit], len(nodes) > limit
        return answer({"nodes": await _latest(stage, some, caller), "next_cursor": some[-1] if more else None})


async def _latest(stage: Stage, nodes: list[str], caller: Caller) -> list[dict[str, Any]]:
    try:
        found = await stage.runtime.latest_of(nodes)
    except StorageError as error:
        raise unavailable(str(error)) from None
    return [_node_json(stage, node, found[node], caller) for node in nodes]


def _node_json(stage: Stage, node: str, values: Values, caller: Caller) -> dict[str, Any]:
    shown = node_json(stage.runtime.core.node_view(node))
    kept = {name: shown[name] for name in ("node_id", "status", "last_heartbeat")}
    holds = stage.runtime.core.sensitive.holds
    latest = [show(values[metric].json(), holds(node, metric), caller) for metric in sorted(values)]
    return kept | {"latest": latest}
