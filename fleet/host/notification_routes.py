"""Dead letters: messages for people that no service accepted in all their attempts."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from starlette.responses import Response

from fleet.host import listing
from fleet.host.access import Doorkeeper
from fleet.host.answers import DENIED, answer, done, problem_docs
from fleet.host.deeds import carry_out
from fleet.host.listing import Cursor, Limit
from fleet.host.problems import Problem
from fleet.host.stage import Stage

MessageId = Annotated[str, Path(max_length=64, description="as in `m-2f-1`")]
_EXAMPLE: dict[str, Any] = {
    "message_id": "m-2f-1",
    "kind": "node.down",
    "severity": "warning",
    "subject": "node sensor-01 is down",
    "body": "…",
    "attempts": 5,
    "state": "failed",
}


def router(stage: Stage, doors: Doorkeeper) -> APIRouter:
    """The routes of dead letters."""
    routes = APIRouter(prefix="/api/v1/fleet", tags=["dead letters"])
    viewer, operator = [Depends(doors.needs("viewer"))], [Depends(doors.needs("operator"))]
    missing = problem_docs(_404="there is no such dead letter", **DENIED)

    @routes.get(
        "/dead-letters",
        summary="Messages that nobody accepted, the oldest first; the last 1,000",
        dependencies=viewer,
        responses=done(200, "a page", {"letters": [_EXAMPLE], "next_cursor": None}) | problem_docs(**DENIED),
    )
    async def letters(cursor: Cursor = None, limit: Limit = 100) -> Response:
        found = [_letter(row) for row in stage.runtime.core.dead_letter_views()]
        return answer(listing.page("letters", "message_id", found, cursor, limit))

    @routes.get(
        "/dead-letters/{message_id}",
        summary="One dead letter",
        dependencies=viewer,
        responses=done(200, "the letter", _EXAMPLE) | missing,
    )
    async def letter(message_id: MessageId) -> Response:
        return answer(_letter(_row(stage, message_id)))

    @routes.post(
        "/dead-letters/{message_id}/retry",
        summary="Try a dead letter again, from its first attempt",
        dependencies=operator,
        status_code=202,
        responses=done(202, "it is on its way", _EXAMPLE | {"attempts": 0, "state": "pending"}) | missing,
    )
    async def retry(message_id: MessageId) -> Response:
        _row(stage, message_id)
        row = await carry_out(stage, stage.runtime.core.retry_notification, message_id)
        return answer(_letter(row), 202)

    @routes.delete(
        "/dead-letters/{message_id}",
        summary="Give a dead letter up",
        dependencies=operator,
        status_code=204,
        responses=missing,
    )
    async def discard(message_id: MessageId) -> Response:
        _row(stage, message_id)
        await carry_out(stage, stage.runtime.core.discard_notification, message_id)
        return Response(status_code=204)

    return routes


def _row(stage: Stage, message_id: str) -> dict[str, Any]:
    for row in stage.runtime.core.dead_letter_views():
        if row["id"] == message_id:
            return row
    raise Problem(404, "not_found", f"there is no dead letter {message_id!r}")


def _letter(row: dict[str, Any]) -> dict[str, Any]:
    doc = row["doc"] or {}
    return {
        "message_id": row["id"],
        "kind": doc.get("kind"),
        "severity": doc.get("severity"),
        "subject": row["subject"],
        "body": row["body"],
        "attempts": row["attempts"],
        "state": row["state"],
    }
