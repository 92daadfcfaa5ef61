"""Pages of stored readings: blocking queries for a reader's thread, and the opaque cursors that walk them.

All readings are walked in the order in which they were stored, so a walk sees each exactly once while more arrive. One
node's readings are walked by their own time.
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, func, select, tuple_

from fleet.host.opening import opened
from fleet.host.tables import CORE_TABLES, READINGS, Closed

MAX_PAGE = 10_000
_COLUMNS = (
    READINGS.c.id,
    READINGS.c.node,
    READINGS.c.boot,
    READINGS.c.seq,
    READINGS.c.metric,
    READINGS.c.value,
    READINGS.c.unit,
    READINGS.c.utc_ms,
    READINGS.c.time_quality,
    READINGS.c.gateway,
    READINGS.c.stored_utc_ms,
)
LAST_DAY_MS = 253_402_300_799_000  # year 9999, the last that ISO 8601 writes with four digits
_MAX_CURSOR_CHARS = 80
_EPOCH = datetime(1970, 1, 1)


class BadCursor(ValueError):
    """A cursor that no page of this query has given."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some readings as JSON objects, and the cursor of what follows, None at the end."""

    readings: list[dict[str, Any]]
    next_cursor: str | None


def all_readings(connection: Connection, cursor: str | None, limit: int) -> Page:
    """Readings of every node in the order of storage. Raises BadCursor."""
    query: Select[Any] = select(*_COLUMNS).order_by(READINGS.c.id).limit(limit + 1)
    if cursor is not None:
        query = query.where(READINGS.c.id > decode(cursor, 1)[0])
    rows = connection.execute(query).all()
    return _page(connection, rows, limit, lambda row: (row.id,))


def node_readings(
    connection: Connection,
    node: str,
    metric: str | None,
    from_ms: int | None,
    to_ms: int | None,
    cursor: str | None,
    limit: int,
) -> Page:
    """Readings of `node` by the time they were read, from `from_ms` up to but not at `to_ms`. Raises BadCursor."""
    query: Select[Any] = select(*_COLUMNS).where(READINGS.c.node == node)
    if metric is not None:
        query = query.where(READINGS.c.metric == metric)
    query = between(query, from_ms, to_ms)
    if cursor is not None:
        query = query.where(tuple_(READINGS.c.utc_ms, READINGS.c.id) > tuple_(*decode(cursor, 2)))
    rows = connection.execute(query.order_by(READINGS.c.utc_ms, READINGS.c.id).limit(limit + 1)).all()
    return _page(connection, rows, limit, lambda row: (row.utc_ms, row.id))


def count_conflicts(connection: Connection) -> int:
    """How many copies of stored readings arrived with other content and are kept aside."""
    return connection.execute(select(func.count()).select_from(CORE_TABLES["conflicts"])).scalar_one()


def count_readings(connection: Connection) -> int:
    """How many readings are stored."""
    return connection.execute(select(func.count()).select_from(READINGS)).scalar_one()


def utc_text(utc_ms: int | None) -> str | None:
    """ISO 8601 with milliseconds and Z; None for None, and for what lies outside the years 1 to 9999."""
    if utc_ms is None:
        return None
    try:
        return (_EPOCH + timedelta(milliseconds=utc_ms)).isoformat(timespec="milliseconds") + "Z"
    except OverflowError:
        return None


def utc_ms_of(at: datetime) -> int:
    """UTC in ms; a time without an offset is UTC."""
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return min(round(at.timestamp() * 1000), LAST_DAY_MS)


def columns() -> tuple[Any, ...]:
    """What `render` needs of a row."""
    return _COLUMNS


def between(query: Select[Any], from_ms: int | None, to_ms: int | None) -> Select[Any]:
    """Of the readings that `query` selects, those from `from_ms` up to but not at `to_ms`."""
    if from_ms is not None:
        query = query.where(from_ms <= READINGS.c.utc_ms)
    return query if to_ms is None else query.where(to_ms > READINGS.c.utc_ms)


def _page(connection: Connection, rows: Sequence[Any], limit: int, place: Any) -> Page:
    more = len(rows) > limit
    kept = rows[:limit]
    return Page([render(connection, row) for row in kept], encode(place(kept[-1])) if more and kept else None)


def render(connection: Connection, row: Any) -> dict[str, Any]:
    """A row as a JSON object; a sensitive value in it is a Secret, for `show`."""
    _, node, boot, seq, metric, value, unit, utc_ms, quality, gateway, stored_ms = row
    return {
        "node": node,
        "boot": boot,
        "seq": seq,
        "metric": metric,
        "value": opened(connection, value, node, boot, seq, metric) if type(value) is Closed else value,
        "unit": unit,
        "utc": utc_text(utc_ms),
        "time_quality": quality,
        "gateway": gateway,
        "stored_utc": utc_text(stored_ms),
    }


def encode(place: tuple[int, ...]) -> str:
    return base64.urlsafe_b64encode(".".join(map(str, place)).encode()).decode().rstrip("=")


def decode(cursor: str, parts: int) -> list[int]:
    try:
        if len(cursor) > _MAX_CURSOR_CHARS:
            raise BadCursor
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
        place = [int(part) for part in text.split(".")]
    except (binascii.Error, ValueError):
        raise BadCursor("this cursor is not one of ours; start again without it") from None
    if len(place) != parts or not all(0 <= part < 2**63 for part in place):
        raise BadCursor("this cursor belongs to another list; start again without it")
    return place
