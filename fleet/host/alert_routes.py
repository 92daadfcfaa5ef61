"""Alerts: what is wrong now, what was, and who has seen it."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from fleet.host import history, listing
from fleet.host.access import Doorkeeper
from fleet.host.answers import DENIED, answer, done, problem_docs
from fleet.host.deeds import carry_out
from fleet.host.listing import Cursor, Limit, read
from fleet.host.stage import Stage
from fleet.host.tokens import Caller
from fleet.host.views import alert_json

State = Literal["open", "cleared", "all"]
NodeId = Annotated[str | None, Query(max_length=32, description="only of this node")]
RuleName = Annotated[str | None, Query(max_length=64, description="only of this rule")]


def router(stage: Stage, doors: Doorkeeper) -> APIRouter:
    """The routes of alerts."""
    routes = APIRouter(prefix="/api/v1/fleet", tags=["alerts"])
    viewer = [Depends(doors.needs("viewer"))]

    @routes.get(
        "/alerts", summary="Alert episodes, latest first", dependencies=viewer, responses=problem_docs(**DENIED)
    )
    async def alerts(
        state: Annotated[State, Query(description="which episodes")] = "all",
        node_id: NodeId = None,
        rule: RuleName = None,
        cursor: Cursor = None,
        limit: Limit = 100,
    ) -> Response:
        if state == "open":
            return answer(_open(stage, node_id, rule, cursor, limit))
        where = {"node": node_id, "rule": rule, "state": "cleared" if state == "cleared" else None}
        chosen = {column: (value,) for column, value in where.items() if value is not None}
        rows, more = await read(stage, history.page, "alerts", chosen, cursor, limit)
        return answer({"alerts": [alert_json(row) for row in rows], "next_cursor": more})

    @routes.post(
        "/alerts/{alert_id}/acknowledge",
        summary="Say that somebody has seen an alert; the first who says so is kept",
        responses=done(200, "the alert as it is now", {"alert_id": "hot:sensor-01:7:1", "state": "open"})
        | problem_docs(_404="there is no such alert", **DENIED),
    )
    async def acknowledge(
        alert_id: Annotated[str, Path(max_length=200)], caller: Annotated[Caller, Depends(doors.needs("operator"))]
    ) -> Response:
        return answer(alert_json(await carry_out(stage, stage.runtime.core.acknowledge_alert, alert_id, caller.name)))

    return routes


def _open(stage: Stage, node: str | None, rule: str | None, cursor: str | None, limit: int) -> dict[str, Any]:
    """What is open is in memory, all of it."""
    found = [
        alert_json(view)
        for view in stage.runtime.core.alert_views()
        if view["state"] == "raised" and node in (None, view["node"]) and rule in (None, view["rule"])
    ]
    found.sort(key=lambda alert: (alert["raised_utc"] or "", str(alert["alert_id"])), reverse=True)
    return listing.page("alerts", "alert_id", found, cursor, limit)
