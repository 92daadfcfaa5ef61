"""Alerts and commands of any age, the latest first: blocking queries for a reader's thread.

The database keeps them all. A core remembers what is open, and the latest of what is over.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, func, or_, select, tuple_

from fleet.core.commands import OPEN
from fleet.core.config import FleetConfig
from fleet.host.readings import BadCursor
from fleet.host.tables import CORE_TABLES, key_column

KEPT = FleetConfig().kept_commands
_TIMES = {"alerts": "raised_utc_ms", "commands": "created_utc_ms"}
_OPEN = {"alerts": ("raised",), "commands": OPEN, "notifications": ("gathering", "pending", "failed")}


def remembered(table: Table) -> ColumnElement[bool] | None:
    """Which rows a core is given at its start; None for all."""
    if table.name not in _OPEN:
        return None
    is_open: ColumnElement[bool] = table.c.state.in_(_OPEN[table.name])
    if table.name not in _TIMES:
        return is_open
    key = key_column(table)
    return or_(is_open, key.in_(select(key).order_by(*_latest_first(table)).limit(KEPT)))


def page(
    connection: Connection, name: str, where: dict[str, tuple[str, ...]], cursor: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    """Rows whose columns have one of the values in `where`, and the cursor of the next page. Raises BadCursor.

    A cursor is the id of a page's last row, so that a list which has grown at its head does not shift.
    """
    table = CORE_TABLES[name]
    query = select(table).order_by(*_latest_first(table)).limit(limit + 1)
    for column, values in where.items():
        query = query.where(table.c[column].in_(values))
    if cursor is not None:
        last = _place_of(connection, table, cursor)
        query = query.where(tuple_(_time(table), key_column(table)) < tuple_(*last))
    rows = [dict(row) for row in connection.execute(query).mappings()]
    more = rows[limit - 1][key_column(table).name] if len(rows) > limit else None
    return rows[:limit], more


def one(connection: Connection, name: str, key: str) -> dict[str, Any] | None:
    """The row of that id."""
    table = CORE_TABLES[name]
    found = connection.execute(select(table).where(key_column(table) == key)).mappings().first()
    return None if found is None else dict(found)


def _place_of(connection: Connection, table: Table, cursor: str) -> Sequence[Any]:
    key = key_column(table)
    found = connection.execute(select(_time(table), key).where(key == cursor)).first()
    if found is None:
        raise BadCursor("no entry of this list; start again without it")
    return tuple(found)


def _latest_first(table: Table) -> tuple[ColumnElement[Any], ...]:
    return _time(table).desc(), key_column(table).desc()


def _time(table: Table) -> ColumnElement[Any]:
    """Of an episode whose beginning nobody knows, the beginning of time."""
    return func.coalesce(table.c[_TIMES[table.name]], 0)
