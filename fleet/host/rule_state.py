"""The latest reading of each metric of each node, from which rules go on after a restart."""

from typing import Any

from sqlalchemy import Connection, text

from fleet.core.rows import ReadingRow
from fleet.host.latest import MOST_METRICS
from fleet.host.opening import opened
from fleet.host.tables import READINGS

_COLUMNS = ", ".join(f"newest.{name}" for name in ReadingRow._fields)
# Node by node and metric by metric, each by one step in the index (node, metric, utc_ms, id): however many readings
# there are, it takes as long as there are metrics. Those whose time is a guess do not count, as they do not for rules.
_METRICS = """
    WITH RECURSIVE measured (node, metric, nth) AS (
        SELECT id, (SELECT min(metric) FROM readings WHERE node = nodes.id), 1 FROM nodes
        UNION ALL
        SELECT node, (SELECT min(r.metric) FROM readings r WHERE r.node = measured.node AND r.metric > measured.metric),
               nth + 1
        FROM measured WHERE metric IS NOT NULL AND nth < :most
    )
"""
_NEWEST = """
    FROM readings r WHERE r.node = measured.node AND r.metric = measured.metric AND r.time_quality = 'exact'
    ORDER BY r.utc_ms DESC, r.id DESC LIMIT 1
"""
_SQLITE = f"""{_METRICS} SELECT {_COLUMNS} FROM measured JOIN readings newest ON newest.id = (SELECT r.id {_NEWEST})
    ORDER BY newest.node, newest.metric"""  # noqa: S608
_POSTGRESQL = f"""{_METRICS} SELECT {_COLUMNS} FROM measured CROSS JOIN LATERAL (SELECT r.* {_NEWEST}) newest
    ORDER BY newest.node, newest.metric"""  # noqa: S608


def latest_readings(connection: Connection) -> list[dict[str, Any]]:
    """One row a metric of each registered node."""
    query = text(_POSTGRESQL if connection.dialect.name == "postgresql" else _SQLITE)
    found = connection.execute(query.columns(value=READINGS.c.value.type), {"most": MOST_METRICS})
    return [_opened(connection, row) for row in found]


def _opened(connection: Connection, row: Any) -> dict[str, Any]:
    found: dict[str, Any] = dict(zip(ReadingRow._fields, row, strict=True))
    found["value"] = opened(connection, found["value"], *row[:4])
    return found
