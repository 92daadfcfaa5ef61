"""What the fleet is and what it has measured: nodes, gateways, readings."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from fleet.core.rows import Secret
from fleet.host import downsample, listing, readings
from fleet.host.access import Doorkeeper
from fleet.host.answers import DENIED, answer, problem_docs
from fleet.host.bodies import Moment
from fleet.host.latest_routes import add_latest
from fleet.host.listing import Cursor, read
from fleet.host.opening import ROLE, refuse_sealed, show
from fleet.host.problems import Problem
from fleet.host.readings import MAX_PAGE, utc_ms_of
from fleet.host.stage import Stage
from fleet.host.summary_routes import add_summaries
from fleet.host.tokens import Caller
from fleet.host.views import NODE_STATUS, NodeTexts, gateway_json, node_detail_json, node_type_of

MAX_NODES_PAGE = 100
DEFAULT_PAGE = 1_000

NodeType = Literal["microclaw", "picoclaw", "picclaw", "nanoclaw", "moltclaw"]
Status = Literal["online", "offline", "down", "unknown"]
Points = Annotated[
    int | None,
    Query(
        ge=2,
        le=downsample.MOST_POINTS,
        description="at most so many readings stand for all of a metric: the lowest and highest of each slice of time",
    ),
]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="readings on a page")]


def router(stage: Stage, doors: Doorkeeper) -> APIRouter:
    """The routes that only read."""
    prefix = "/api/v1/fleet"  # of each router: a route that is asked for its path knows only its own
    routes = APIRouter(tags=["fleet"])
    readers = APIRouter(prefix=prefix, dependencies=[Depends(doors.needs("viewer"))])
    devices = APIRouter(prefix=prefix)
    _add_members(readers, stage)
    add_latest(readers, stage, doors)
    _add_own(devices, stage, doors)
    _add_readings(readers, stage, doors)
    add_summaries(readers, stage, doors)
    routes.include_router(readers)
    routes.include_router(devices)
    return routes


def _add_members(routes: APIRouter, stage: Stage) -> None:
    texts = NodeTexts()

    @routes.get("/nodes", summary="Nodes, by id", responses=problem_docs(**DENIED))
    async def nodes(
        node_type: Annotated[NodeType | None, Query(description="only of this type")] = None,
        status: Annotated[Status | None, Query(description="only in this state")] = None,
        location: Annotated[str | None, Query(max_length=64, description="only of this site")] = None,
        page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
        limit: Annotated[int, Query(ge=1, le=MAX_NODES_PAGE)] = 20,
    ) -> Response:
        registry = stage.runtime.core.registry
        found = registry.node_ids()
        if (node_type, status, location) != (None, None, None):
            found = _selected(registry.nodes, found, node_type, status, location)
        some = [texts(registry.nodes, node) for node in found[(page - 1) * limit : page * limit]]
        return answer({"nodes": some, "pagination": {"page": page, "limit": limit, "total": len(found)}})

    @routes.get("/gateways", summary="Gateways, by id", responses=problem_docs(**DENIED))
    async def gateways(
        cursor: Cursor = None, limit: Annotated[int, Query(ge=1, le=DEFAULT_PAGE)] = DEFAULT_PAGE
    ) -> Response:
        found = [gateway_json(view) for view in stage.runtime.core.gateway_views()]
        found.sort(key=lambda gateway: str(gateway["gateway_id"]))
        return answer(listing.page("gateways", "gateway_id", found, cursor, limit))


def _add_own(routes: APIRouter, stage: Stage, doors: Doorkeeper) -> None:
    """What a device may read about itself, too."""
    own = Depends(doors.needs_or_is("viewer", "node", "node_id"))

    @routes.get(
        "/nodes/{node_id}",
        summary="One node",
        dependencies=[own],
        responses=problem_docs(_404="there is no such node", **DENIED),
    )
    async def node(node_id: Annotated[str, Path(max_length=32)]) -> Response:
        return answer(node_detail_json(_node_view(stage, node_id)))

    @routes.get(
        "/gateways/{gateway_id}",
        summary="One gateway",
        dependencies=[Depends(doors.needs_or_is("viewer", "gateway", "gateway_id"))],
        responses=problem_docs(_404="there is no such gateway", **DENIED),
    )
    async def gateway(gateway_id: Annotated[str, Path(max_length=32)]) -> Response:
        view = next((view for view in stage.runtime.core.gateway_views() if view["id"] == gateway_id), None)
        if view is None:
            raise Problem(404, "not_found", f"there is no gateway {gateway_id!r}")
        return answer(gateway_json(view))


def _selected(
    rows: dict[str, Any], ids: list[str], node_type: str | None, status: str | None, location: str | None
) -> list[str]:
    """The ids whose row is of that type, state and place, each unless None."""
    kind = node_type and node_type_of(node_type)

    def fits(node: str) -> bool:
        doc = rows[node]["doc"]
        places = (doc.get("site"), (doc.get("metadata") or {}).get("location"))
        return (
            (kind is None or node_type_of(str(doc.get("type"))) == kind)
            and (status is None or NODE_STATUS.get(doc["state"], "unknown") == status)
            and (location is None or location in places)
        )

    return [node for node in ids if fits(node)]


def _add_readings(routes: APIRouter, stage: Stage, doors: Doorkeeper) -> None:
    viewer = Depends(doors.needs("viewer"))

    @routes.get(
        "/nodes/{node_id}/readings",
        summary="Readings of one node by the time they were read",
        responses=problem_docs(_404="there is no such node", **DENIED),
    )
    async def of_node(
        node_id: Annotated[str, Path(max_length=32)],
        caller: Annotated[Caller, viewer],
        metric: Annotated[str | None, Query(max_length=32)] = None,
        since: Annotated[Moment | None, Query(alias="from", description="ISO 8601; the first moment")] = None,
        until: Annotated[Moment | None, Query(alias="to", description="ISO 8601; the moment after the last")] = None,
        cursor: Cursor = None,
        limit: Limit = DEFAULT_PAGE,
        points: Points = None,
    ) -> Response:
        _node_view(stage, node_id)
        if points is not None:
            return await _downsampled(stage, caller, node_id, metric, _time_ms(since), _time_ms(until), points)
        some = await read(
            stage, readings.node_readings, node_id, metric, _time_ms(since), _time_ms(until), cursor, limit
        )
        return answer({"readings": _shown(stage, some.readings, caller), "next_cursor": some.next_cursor})

    @routes.get(
        "/readings",
        summary="Readings of all nodes in the order of storage; each exactly once, while more arrive",
        responses=problem_docs(**DENIED),
    )
    async def of_all(caller: Annotated[Caller, viewer], cursor: Cursor = None, limit: Limit = DEFAULT_PAGE) -> Response:
        some = await read(stage, readings.all_readings, cursor, limit)
        conflicts = await read(stage, readings.count_conflicts)
        shown = _shown(stage, some.readings, caller)
        return answer({"readings": shown, "next_cursor": some.next_cursor, "conflicts": conflicts})


async def _downsampled(
    stage: Stage,
    caller: Caller,
    node: str,
    metric: str | None,
    since_ms: int | None,
    until_ms: int | None,
    points: int,
) -> Response:
    if metric is None:
        raise Problem(400, "invalid", "query.metric: needed with points: one curve is drawn through them")
    may_open = caller.may(ROLE)
    try:
        if stage.runtime.core.sensitive.holds(node, metric) and not may_open:
            raise downsample.Sealed
        found, count = await read(stage, downsample.extremes, node, metric, since_ms, until_ms, points, may_open)
    except downsample.Sealed:
        raise refuse_sealed(metric) from None
    except downsample.TooMany as error:
        raise Problem(400, "invalid", str(error)) from None
    return answer({"readings": _shown(stage, found, caller), "next_cursor": None, "downsampled_from": count})


def _shown(stage: Stage, found: list[dict[str, Any]], caller: Caller) -> list[dict[str, Any]]:
    """Readings as `caller` may see them."""
    sensitive = stage.runtime.core.sensitive
    for reading in found:
        if type(reading["value"]) is Secret or reading["metric"] in sensitive.metrics:
            show(reading, sensitive.holds(reading["node"], reading["metric"]), caller)
    return found


def _node_view(stage: Stage, node_id: str) -> dict[str, Any]:
    try:
        view = stage.runtime.core.node_view(node_id)
    except KeyError:
        view = None
    if view is None:
        raise Problem(404, "not_found", f"there is no node {node_id!r}")
    return view


def _time_ms(at: datetime | None) -> int | None:
    return None if at is None else utc_ms_of(at)
