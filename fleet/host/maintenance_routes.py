"""Maintenance windows: read by anybody with a token, made and ended by operators."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from fleet.core.maintenance import MAX_REASON_CHARS
from fleet.host import listing
from fleet.host.access import Doorkeeper
from fleet.host.answers import DENIED, answer, done, problem_docs
from fleet.host.bodies import Moment
from fleet.host.deeds import carry_out
from fleet.host.listing import Cursor, Limit
from fleet.host.problems import Problem
from fleet.host.readings import utc_ms_of, utc_text
from fleet.host.stage import Stage
from fleet.host.tokens import Caller

WindowId = Annotated[str, Path(max_length=64, description="as in `w-2f-1`")]
Reason = Annotated[str, Field(max_length=MAX_REASON_CHARS, pattern=r"^[^\x00]*$")]
_EXAMPLE: dict[str, Any] = {
    "window_id": "w-2f-1",
    "on": "site:office",
    "from_utc": "2026-01-01T08:00:00.000Z",
    "until_utc": "2026-01-01T10:00:00.000Z",
    "reason": "new routers",
    "by": "alice",
    "state": "open",
}
_ASKED: dict[str, Any] = {"on": "site:office", "until_utc": "2099-01-01T10:00:00Z", "reason": "new routers"}


class Window(BaseModel):
    """On what, and how long."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": _ASKED})

    on: str = Field(
        pattern=r"^(all|(node|site):[a-z0-9][a-z0-9-]{0,31})$",
        description="`node:ID` (of a node or gateway), `site:ID`, or `all`",
    )
    from_utc: Moment | None = Field(None, description="ISO 8601; without it, now")
    until_utc: Moment = Field(description="ISO 8601; the moment after the last")
    reason: Reason = ""


class Change(BaseModel):
    """What is to be different; the rest stays."""

    model_config = ConfigDict(extra="forbid")

    until_utc: Moment | None = None
    reason: Reason | None = None


def router(stage: Stage, doors: Doorkeeper) -> APIRouter:
    """The routes of maintenance windows."""
    routes = APIRouter(prefix="/api/v1/fleet", tags=["maintenance"])
    _add_views(routes, stage, [Depends(doors.needs("viewer"))])
    _add_deeds(routes, stage, doors)
    return routes


def _add_views(routes: APIRouter, stage: Stage, viewer: list[Any]) -> None:
    @routes.get(
        "/maintenance",
        summary="Maintenance windows, the latest beginning first; those over for a week are gone",
        dependencies=viewer,
        responses=done(200, "a page", {"windows": [_EXAMPLE], "next_cursor": None}) | problem_docs(**DENIED),
    )
    async def windows(
        state: Literal["to come", "open", "over", "all"] = "all", cursor: Cursor = None, limit: Limit = 100
    ) -> Response:
        found = [_window(stage, row) for row in stage.runtime.core.maintenance_views()]
        found = [each for each in found if state in ("all", each["state"])]
        found.sort(key=lambda each: (each["from_utc"], each["window_id"]), reverse=True)
        return answer(listing.page("windows", "window_id", found, cursor, limit))

    @routes.get(
        "/maintenance/{window_id}",
        summary="One maintenance window",
        dependencies=viewer,
        responses=done(200, "the window", _EXAMPLE) | problem_docs(_404="there is no such window", **DENIED),
    )
    async def window(window_id: WindowId) -> Response:
        return answer(_window(stage, _row(stage, window_id)))


def _add_deeds(routes: APIRouter, stage: Stage, doors: Doorkeeper) -> None:
    @routes.post(
        "/maintenance",
        summary="Silence what begins on a node, at a site or everywhere for a while; it is still recorded",
        status_code=201,
        responses=done(201, "the window", _EXAMPLE) | problem_docs(_409="there are too many", **DENIED),
    )
    async def add(window: Window, caller: Annotated[Caller, Depends(doors.needs("operator"))]) -> Response:
        doc = {"on": window.on, "until_utc_ms": utc_ms_of(window.until_utc), "reason": window.reason, "by": caller.name}
        if window.from_utc is not None:
            doc["from_utc_ms"] = utc_ms_of(window.from_utc)
        return answer(_window(stage, await carry_out(stage, stage.runtime.core.add_maintenance, doc)), 201)

    operator = [Depends(doors.needs("operator"))]
    missing = problem_docs(_404="there is no such window", _409="it is over", **DENIED)

    @routes.patch(
        "/maintenance/{window_id}",
        summary="Give a window another end or reason",
        dependencies=operator,
        responses=done(200, "the window as it is now", _EXAMPLE) | missing,
    )
    async def change(window_id: WindowId, changes: Change) -> Response:
        _row(stage, window_id)
        doc = changes.model_dump(exclude_none=True)
        if changes.until_utc is not None:
            doc["until_utc_ms"] = utc_ms_of(doc.pop("until_utc"))
        return answer(_window(stage, await carry_out(stage, stage.runtime.core.change_maintenance, window_id, doc)))

    @routes.delete(
        "/maintenance/{window_id}",
        summary="End a window now; one that has not begun never does",
        dependencies=operator,
        responses=done(200, "the window, which is over", _EXAMPLE | {"state": "over"})
        | problem_docs(_404="there is no such window", **DENIED),
    )
    async def end(window_id: WindowId) -> Response:
        _row(stage, window_id)
        return answer(_window(stage, await carry_out(stage, stage.runtime.core.end_maintenance, window_id)))


def _row(stage: Stage, window_id: str) -> dict[str, Any]:
    for row in stage.runtime.core.maintenance_views():
        if row["id"] == window_id:
            return row
    raise Problem(404, "not_found", f"there is no maintenance window {window_id!r}")


def _window(stage: Stage, row: dict[str, Any]) -> dict[str, Any]:
    doc, utc_ms = row["doc"], stage.runtime.clock.utc_ms()
    over, begun = doc["until_utc_ms"] <= utc_ms, doc["from_utc_ms"] <= utc_ms
    return {
        "window_id": row["id"],
        "on": doc["on"],
        "from_utc": utc_text(doc["from_utc_ms"]),
        "until_utc": utc_text(doc["until_utc_ms"]),
        "reason": doc["reason"],
        "by": doc["by"],
        "state": "over" if over else "open" if begun else "to come",
    }
