"""What people do about alerts."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from starlette.responses import Response

from fleet.host.access import Doorkeeper
from fleet.host.answers import DENIED, answer, done, problem_docs
from fleet.host.deeds import carry_out
from fleet.host.stage import Stage
from fleet.host.tokens import Caller
from fleet.host.views import alert_json


def router(stage: Stage, doors: Doorkeeper) -> APIRouter:
    """The routes that change an alert."""
    routes = APIRouter(prefix="/api/v1/fleet", tags=["alerts"])

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
