"""The latest reading of each metric of each node, from which rules go on after a restart."""

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Connection, func, select

from fleet.host.latest import MOST_METRICS
from fleet.host.opening import opened
from fleet.host.tables import READINGS

_COLUMNS = [column for column in READINGS.c if column is not READINGS.c.id]


def latest_readings(connection: Connection, nodes: Iterable[str]) -> list[dict[str, Any]]:
    """One row a metric of each of `nodes`; those whose time is a guess do not count, as they do not for rules."""
    return [row for node in nodes for row in _of_node(connection, node)]


def _of_node(connection: Connection, node: str) -> Iterator[dict[str, Any]]:
    """Metric by metric, each by a step in the index (node, metric, utc_ms, id)."""
    of_node, after = READINGS.c.node == node, ""
    for _ in range(MOST_METRICS):
        metric = connection.execute(
            select(func.min(READINGS.c.metric)).where(of_node, READINGS.c.metric > after)
        ).scalar_one()
        if metric is None:
            return
        newest = select(*_COLUMNS).where(of_node, READINGS.c.metric == metric, READINGS.c.time_quality == "exact")
        found = connection.execute(newest.order_by(READINGS.c.utc_ms.desc(), READINGS.c.id.desc()).limit(1)).mappings()
        yield from (dict(row) | {"value": _opened(connection, row)} for row in found)
        after = metric


def _opened(connection: Connection, row: Any) -> Any:
    return opened(connection, row["value"], row["node"], row["boot"], row["seq"], row["metric"])
