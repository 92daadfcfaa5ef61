"""What gateways on a metered uplink send instead of readings: count, min, mean and max of each window of a metric."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from sqlalchemy import Connection, Text, select, tuple_, type_coerce
from starlette.responses import Response

from fleet.core.summaries import NUMBERS, SUMMARY
from fleet.host.access import Doorkeeper
from fleet.host.answers import answer, problem_docs
from fleet.host.bodies import Moment
from fleet.host.opening import ROLE
from fleet.host.problems import Problem, unavailable
from fleet.host.readings import utc_ms_of, utc_text
from fleet.host.stage import Stage
from fleet.host.storage import StorageError
from fleet.host.tables import NODE_EVENTS
from fleet.host.tokens import Caller

MAX_PAGE = 1_000
_DENIED = {"_401": "no valid token", "_503": "the database is not available; Retry-After says when to come back"}


def add_summaries(routes: APIRouter, stage: Stage, doors: Doorkeeper) -> None:
    """Adds the route to those that a viewer may ask."""

    @routes.get(
        "/nodes/{node_id}/summaries",
        summary="Summaries of one node by the time of their first reading",
        responses=problem_docs(_400="bad parameter", _404="there is no such node", **_DENIED),
    )
    async def of_node(
        caller: Annotated[Caller, Depends(doors.needs("viewer"))],
        node_id: Annotated[str, Path(max_length=32)],
        metric: Annotated[str | None, Query(max_length=32)] = None,
        since: Annotated[Moment | None, Query(alias="from", description="ISO 8601; the first moment")] = None,
        until: Annotated[Moment | None, Query(alias="to", description="ISO 8601; the moment after the last")] = None,
        cursor: Annotated[str | None, Query(max_length=240, description="`next_cursor` of the page before")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="summaries on a page")] = MAX_PAGE,
    ) -> Response:
        if node_id not in stage.runtime.core.registry.nodes:
            raise Problem(404, "not_found", f"there is no node {node_id!r}")
        after = _after(cursor)
        span = since and utc_ms_of(since), until and utc_ms_of(until)
        try:
            rows = await stage.runtime.read(node_summaries, node_id, metric, *span, after, limit + 1)
        except StorageError as error:
            raise unavailable(str(error)) from None
        more = f"{rows[limit - 1].utc_ms}:{rows[limit - 1].id}" if len(rows) > limit else None
        return answer({"summaries": _for(stage, caller, node_id, rows[:limit]), "next_cursor": more})


def node_summaries(
    connection: Connection,
    node: str,
    metric: str | None,
    from_ms: int | None,
    to_ms: int | None,
    after: tuple[int, str] | None,
    limit: int,
) -> list[Any]:
    """The first `limit` summaries of `node` from `from_ms` up to but not at `to_ms`, after the row `after`."""
    table = NODE_EVENTS.c
    query = select(table.id, table.utc_ms, table.doc).where(table.node == node, table.kind == SUMMARY)
    if metric is not None:
        # The document is written without spaces, and no metric has a quotation mark in it.
        query = query.where(type_coerce(table.doc, Text).contains(f'"metric":"{metric}"', autoescape=True))
    if from_ms is not None:
        query = query.where(table.utc_ms >= from_ms)
    if to_ms is not None:
        query = query.where(table.utc_ms < to_ms)
    if after is not None:
        query = query.where(tuple_(table.utc_ms, table.id) > tuple_(*after))
    return list(connection.execute(query.order_by(table.utc_ms, table.id).limit(limit)))


def _for(stage: Stage, caller: Caller, node: str, rows: list[Any]) -> list[dict[str, Any]]:
    """Summaries as `caller` may see them: of what is sensitive by now, a viewer sees that there were some."""
    found = [_shown(row) for row in rows]
    for each in found:
        if stage.runtime.core.sensitive.holds(node, each["metric"]):
            each |= {"sealed": True} | ({} if caller.may(ROLE) else dict.fromkeys(NUMBERS))
    return found


def _shown(row: Any) -> dict[str, Any]:
    doc = dict(row.doc)
    first_ms, last_ms = doc.pop("from_utc_ms"), doc.pop("to_utc_ms")
    return doc | {"first_utc": utc_text(first_ms), "last_utc": utc_text(last_ms)}


def _after(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    at_ms, _, name = cursor.partition(":")
    if not (at_ms.isascii() and at_ms.isdigit() and len(at_ms) < 16 and name) or "\0" in name:
        raise Problem(400, "invalid", "query.cursor: no page of summaries has given this")
    return int(at_ms), name
