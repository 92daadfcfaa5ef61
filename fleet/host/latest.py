"""The latest reading of each metric of each node, from which rules go on after a restart."""

from typing import Any

from sqlalchemy import Connection, func, select

from fleet.host.tables import READINGS

_KEY = (READINGS.c.node, READINGS.c.metric)
_COLUMNS = [column for column in READINGS.c if column is not READINGS.c.id]


def latest_readings(connection: Connection) -> list[dict[str, Any]]:
    """One row a metric of a node; those whose time is a guess do not count, as they do not for rules."""
    rank = func.row_number().over(partition_by=_KEY, order_by=(READINGS.c.utc_ms.desc(), READINGS.c.id.desc()))
    ranked = select(*_COLUMNS, rank.label("rank")).where(READINGS.c.time_quality == "exact").subquery()
    query = select(*[column for column in ranked.c if column.name != "rank"]).where(ranked.c.rank == 1)
    return [dict(row) for row in connection.execute(query).mappings()]
