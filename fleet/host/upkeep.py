"""Readings past their time go, a bounded step at a time, so that batches never wait long.

SQLite deletes rows. PostgreSQL drops a month once all of it is past its time (so a reading lives up to 31 days longer
there), after the identities of its readings have been removed step by step; in the default partition it deletes rows.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, delete, text
from sqlalchemy.exc import SQLAlchemyError

from fleet.host import partitions
from fleet.host.database import StorageError, one_line
from fleet.host.forgotten import Forgotten
from fleet.host.storage import Storage
from fleet.host.tables import READINGS

LOG = logging.getLogger(__name__)
STEP_ROWS = 5_000
EVERY_S = 3_600.0
AFTER_FAILURE_S = 60.0

# Node by node through the index (node, utc_ms, id): no table scan to find out that nothing is old enough.
_OLD = """
    WITH RECURSIVE nodes (node) AS (
        SELECT min(node) FROM {table}
        UNION ALL SELECT (SELECT min(node) FROM {table} WHERE node > nodes.node) FROM nodes WHERE node IS NOT NULL
    )
    SELECT r.id, r.node, r.boot, r.seq FROM nodes JOIN {table} r ON r.node = nodes.node AND r.utc_ms < :horizon
    LIMIT :limit
"""
_OF_MONTH = "SELECT id, node, boot, seq FROM {table} WHERE id > :after ORDER BY id LIMIT :limit"
_FREE = """
    DELETE FROM reading_identities i USING {table} r
    WHERE r.id = ANY(:ids) AND (i.node, i.boot, i.seq) = (r.node, r.boot, r.seq)
"""


@dataclass(frozen=True)
class Step:
    """What one step did: readings removed, and whether more are due."""

    removed: int
    more: bool


class Upkeep:
    """Makes partitions and removes readings, on the writer's thread, whenever it is due."""

    def __init__(
        self, storage: Storage, utc_ms: Callable[[], int], retention_ms: int | None, removed: Callable[[int], None]
    ) -> None:
        """`retention_ms`: how old a reading gets, None for ever; `removed` is told how many a step took."""
        self._storage, self._utc_ms, self._retention_ms, self._removed = storage, utc_ms, retention_ms, removed
        self._after: dict[int, int] = {}
        self._due_s = time.monotonic()

    def wait_s(self) -> float:
        """Wall seconds until the next step is due, 0 when it is."""
        return max(0.0, self._due_s - time.monotonic())

    def step(self) -> None:
        """Does what is due, for at most a moment; a failure is logged, and tried again a minute later."""
        try:
            done = self._step()
        except (StorageError, SQLAlchemyError) as error:
            self._after.clear()  # what was rolled back is to be done again
            LOG.warning("the upkeep of the database has to wait: %s", one_line(error))
            self._due_s = time.monotonic() + AFTER_FAILURE_S
            return
        if done.removed:
            self._removed(done.removed)
        self._due_s = time.monotonic() + (0.0 if done.more else EVERY_S)

    def _step(self) -> Step:
        utc_ms, forgotten = self._utc_ms(), self._storage.forgotten
        horizon_ms = None if self._retention_ms is None else utc_ms - self._retention_ms
        with self._storage.writing() as connection:
            if connection.dialect.name != "postgresql":
                return Step(0, False) if horizon_ms is None else remove_rows(connection, horizon_ms, forgotten)
            partitions.make_ahead(connection, utc_ms)
            if horizon_ms is None:
                return Step(0, False)
            for month in partitions.months(connection):
                if partitions.starts_ms(month + 1) <= horizon_ms:
                    return self._retire(connection, month)
            return remove_rows(connection, horizon_ms, forgotten, partitions.DEFAULT)

    def _retire(self, connection: Connection, month: int) -> Step:
        """Forgets the next readings of a month; after the last, the month goes."""
        table, after = partitions.name_of(month), self._after.get(month, 0)
        found = connection.execute(text(_OF_MONTH.format(table=table)), {"after": after, "limit": STEP_ROWS}).all()
        if not found:
            partitions.drop(connection, month)
            self._after.pop(month, None)
            return Step(0, True)
        self._storage.forgotten.remember(connection, [(node, boot, seq) for _, node, boot, seq in found])
        _free_identities(connection, table, [row[0] for row in found])
        self._after[month] = found[-1][0]
        return Step(len(found), True)


def remove_rows(connection: Connection, horizon_ms: int, forgotten: Forgotten, table: str = "readings") -> Step:
    """Removes some of the readings of `table` that were read before `horizon_ms`."""
    query = text(_OLD.format(table=table))
    found = connection.execute(query, {"horizon": horizon_ms, "limit": STEP_ROWS}).all()
    if not found:
        return Step(0, False)
    ids = [row[0] for row in found]
    forgotten.remember(connection, [(node, boot, seq) for _, node, boot, seq in found])
    if connection.dialect.name == "postgresql":
        _free_identities(connection, table, ids)
        connection.execute(text(f"DELETE FROM {table} WHERE id = ANY(:ids)"), {"ids": ids})  # noqa: S608 - our own names
    else:
        connection.execute(delete(READINGS).where(READINGS.c.id.in_(ids)))
    return Step(len(found), len(found) == STEP_ROWS)


def _free_identities(connection: Connection, table: str, ids: list[int]) -> None:
    connection.execute(text(_FREE.format(table=table)), {"ids": ids})
