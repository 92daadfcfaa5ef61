"""Many readings as a few that look the same in a chart: the lowest and the highest of each slice of time.

Not LTTB (largest triangle, three buckets): that keeps the shape of a curve, but may leave out the one reading that went
over a limit, and that is what an operator looks for. Both extremes of each slice are real readings at their own time,
and one pass in bounded memory finds them.
"""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Select, func, select

from fleet.core.rows import plain_of
from fleet.host.opening import opened
from fleet.host.readings import between, columns, render
from fleet.host.tables import READINGS, Closed

MOST_POINTS = 10_000
MOST_READ = 5_000_000  # a minute's work on a slow machine
_AT_ONCE = 10_000
_LOOKUP = 1_000


class Sealed(Exception):
    """Among the readings are some that the caller may not see."""


class TooMany(ValueError):
    """There are more readings than one request may go through."""


def extremes(
    connection: Connection,
    node: str,
    metric: str,
    since_ms: int | None,
    until_ms: int | None,
    points: int,
    may_open: bool = False,
) -> tuple[list[dict[str, Any]], int]:
    """At most `points` readings in the order of time, and how many numbers they stand for. Raises TooMany, Sealed."""
    read_at = READINGS.c.utc_ms
    extent: list[Any] = [func.min(read_at), func.max(read_at), func.count()]
    first_ms, last_ms, count = connection.execute(_of(select(*extent), node, metric, since_ms, until_ms)).one()
    if count > MOST_READ:
        raise TooMany(f"{count} readings are too many for one answer; ask for a shorter time with from and to")
    if not count:
        return [], 0
    slice_ms = (last_ms - first_ms + 1) / (points // 2)
    lows: dict[int, tuple[float, int]] = {}
    highs: dict[int, tuple[float, int]] = {}
    read = 0
    for row_id, at_ms, value in _values(connection, node, metric, since_ms, until_ms, may_open):
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue  # a state or a text has no extremes
        read += 1
        place, found = int((at_ms - first_ms) / slice_ms), (value, row_id)
        if place not in lows:
            lows[place] = highs[place] = found
        elif value < lows[place][0]:
            lows[place] = found
        elif value > highs[place][0]:
            highs[place] = found
    return _readings(connection, sorted({found[1] for found in (*lows.values(), *highs.values())})), read


def _values(
    connection: Connection, node: str, metric: str, since_ms: int | None, until_ms: int | None, may_open: bool
) -> Iterator[tuple[int, int, Any]]:
    """Id, time and value of each reading, opened. Raises Sealed."""
    identity = (READINGS.c.boot, READINGS.c.seq)
    query = _of(select(READINGS.c.id, READINGS.c.utc_ms, READINGS.c.value, *identity), node, metric, since_ms, until_ms)
    for row_id, at_ms, value, boot, seq in connection.execution_options(yield_per=_AT_ONCE).execute(query):
        if type(value) is Closed:
            if not may_open:
                raise Sealed
            yield row_id, at_ms, plain_of(opened(connection, value, node, boot, seq, metric))
        else:
            yield row_id, at_ms, value


def _of(query: Select[Any], node: str, metric: str, since_ms: int | None, until_ms: int | None) -> Select[Any]:
    return between(query.where(READINGS.c.node == node, READINGS.c.metric == metric), since_ms, until_ms)


def _readings(connection: Connection, ids: list[int]) -> list[dict[str, Any]]:
    rows: list[Any] = []
    for start in range(0, len(ids), _LOOKUP):
        rows += connection.execute(select(*columns()).where(READINGS.c.id.in_(ids[start : start + _LOOKUP]))).all()
    rows.sort(key=lambda row: (row.stored_utc_ms if row.utc_ms is None else row.utc_ms, row.id))
    return [render(connection, row) for row in rows]
