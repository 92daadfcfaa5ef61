"""The audit log, and what agents reported beside readings: rows that are only ever added, newest first."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from sqlalchemy import Connection, select, tuple_
from starlette.responses import Response

from fleet.core.agent_events import DIGEST_CHARS
from fleet.host.access import Doorkeeper
from fleet.host.answers import DENIED, answer, problem_docs
from fleet.host.listing import Cursor, Limit, read
from fleet.host.readings import decode, encode, utc_text
from fleet.host.stage import Stage
from fleet.host.tables import AUDIT, NODE_EVENTS


def router(stage: Stage, doors: Doorkeeper) -> APIRouter:
    """The routes of both logs."""
    routes = APIRouter(prefix="/api/v1/fleet", tags=["audit"])

    @routes.get(
        "/audit",
        summary="Who did what, newest first",
        dependencies=[Depends(doors.needs("admin"))],
        responses=problem_docs(**DENIED),
    )
    async def audit(
        who: Annotated[str | None, Query(max_length=64, description="only of this caller")] = None,
        cursor: Cursor = None,
        limit: Limit = 100,
    ) -> Response:
        return answer(await read(stage, _audit, who, cursor, limit))

    @routes.get(
        "/nodes/{node_id}/events",
        summary="What an agent reported beside readings, newest first",
        dependencies=[Depends(doors.needs_or_is("viewer", "node", "node_id"))],
        responses=problem_docs(**DENIED),
    )
    async def events(
        node_id: Annotated[str, Path(max_length=32)], cursor: Cursor = None, limit: Limit = 100
    ) -> Response:
        return answer(await read(stage, _events, node_id, cursor, limit))

    return routes


def _audit(connection: Connection, who: str | None, cursor: str | None, limit: int) -> dict[str, Any]:
    query = select(AUDIT).order_by(AUDIT.c.id.desc()).limit(limit + 1)
    if who is not None:
        query = query.where(AUDIT.c.who == who)
    if cursor is not None:
        query = query.where(decode(cursor, 1)[0] > AUDIT.c.id)
    rows = connection.execute(query).all()
    entries = [
        {
            "utc": utc_text(row.utc_ms),
            "who": row.who,
            "role": row.role,
            "action": f"{row.method} {row.route}",
            "status": row.status,
            "result": "done" if row.status < 400 else "refused" if row.status < 500 else "failed",
            **row.doc,
        }
        for row in rows[:limit]
    ]
    return {"entries": entries, "next_cursor": encode((rows[limit - 1].id,)) if len(rows) > limit else None}


def _events(connection: Connection, node: str, cursor: str | None, limit: int) -> dict[str, Any]:
    query = select(NODE_EVENTS).where(NODE_EVENTS.c.node == node)
    query = query.order_by(NODE_EVENTS.c.utc_ms.desc(), NODE_EVENTS.c.id.desc()).limit(limit + 1)
    if cursor is not None:
        at_ms, digest = decode(cursor, 2)
        place = tuple_(at_ms, f"{node}:{digest:0{DIGEST_CHARS}x}")
        query = query.where(tuple_(NODE_EVENTS.c.utc_ms, NODE_EVENTS.c.id) < place)
    rows = connection.execute(query).all()
    events = [
        {"event_type": row.kind, "severity": row.severity, "timestamp": utc_text(row.utc_ms), **row.doc}
        for row in rows[:limit]
    ]
    more = None
    if len(rows) > limit:
        last = rows[limit - 1]
        more = encode((last.utc_ms, int(last.id.rpartition(":")[2], 16)))
    return {"events": events, "next_cursor": more}
