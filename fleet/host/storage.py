"""The fleet manager's database: what it restores at start, and the core's writes as transactions.

Plain blocking code, for the threads of the writer (`writer.py`) and of readers (`readings.py`); no asyncio here.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, Insert, Table, create_engine, delete, event, func, insert, select, tuple_
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from fleet.core.rows import ReadingRow
from fleet.host.latest import latest_readings
from fleet.host.tables import CORE_TABLES, LOG_TABLES, METADATA, PROBE, READINGS, key_column

Write = tuple[Any, ...]
Row = dict[str, Any]

BUSY_TIMEOUT_MS = 5_000
# Rows of one look-up by identity: three variables each, below SQLite's limit of 32,766 and PostgreSQL's of 65,535.
LOOKUP_ROWS = 1_000


class StorageError(Exception):
    """The database refused or cannot be reached; the text says why, in one line.

    `bad_data`: these very writes can never succeed, while the database is well.
    """

    def __init__(self, reason: str, bad_data: bool = False) -> None:
        super().__init__(reason)
        self.bad_data = bad_data


def sqlite_url(path: Path) -> str:
    """The SQLAlchemy URL of a SQLite file."""
    return f"sqlite+pysqlite:///{path}"


class Storage:
    """One database; `load` and `perform` raise StorageError when it fails."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self._insert_reading = self._insert(READINGS).on_conflict_do_nothing()
        self._upserts: dict[tuple[str, ...], Insert] = {}

    def open(self) -> None:
        """Creates what is missing, so that the first start needs no other command."""
        try:
            METADATA.create_all(self.engine)
        except SQLAlchemyError as error:
            raise StorageError(one_line(error)) from error

    def load(self) -> dict[str, list[Row]]:
        """Every table but the readings, as rows by table name: what the core restores itself from.

        `seen` is told by the readings themselves: {"node", "boot", "ranges": [[first, last], …]}; `latest` too.
        """
        try:
            with self.engine.connect() as connection:
                found = {name: _rows(connection, table) for name, table in CORE_TABLES.items()}
                return found | {"seen": stored_ranges(connection), "latest": latest_readings(connection)}
        except SQLAlchemyError as error:
            raise StorageError(one_line(error)) from error

    def perform(self, writes: Sequence[Write]) -> list[ReadingRow]:
        """Makes `writes` durable as one transaction; returns copies of readings that differ from what is stored."""
        return self.perform_all([writes])[0]

    def perform_all(self, groups: Sequence[Sequence[Write]]) -> list[list[ReadingRow]]:
        """Several groups of writes in one transaction, so that they share one wait for the disk."""
        try:
            with self.engine.begin() as connection:
                return [self._apply(connection, writes) for writes in groups]
        except Exception as error:
            raise StorageError(one_line(error), not _is_trouble(error)) from error

    def probe(self) -> None:
        """Raises StorageError unless the database commits a write."""
        try:
            with self.engine.begin() as connection:
                connection.execute(delete(PROBE))
                connection.execute(insert(PROBE).values(id=1))
        except SQLAlchemyError as error:
            raise StorageError(one_line(error)) from error

    def close(self) -> None:
        """Closes all connections; SQLite folds its write-ahead log into the file."""
        self.engine.dispose()

    def _apply(self, connection: Connection, writes: Sequence[Write]) -> list[ReadingRow]:
        conflicts: list[ReadingRow] = []
        for write in writes:
            kind = write[0]
            if kind == "readings":
                conflicts += self._store_new(connection, write[1])
            elif kind == "compare":
                conflicts += self._store_or_compare(connection, write[1])
            elif kind == "upsert":
                self._upsert(connection, write[1], write[2])
            elif kind == "append":
                connection.execute(self._insert(LOG_TABLES[write[1]]).on_conflict_do_nothing(), write[2])
            else:
                table = CORE_TABLES[write[1]]
                connection.execute(delete(table).where(key_column(table) == write[2]))
        return conflicts

    def _store_new(self, connection: Connection, rows: Sequence[ReadingRow]) -> list[ReadingRow]:
        if not rows:
            return []
        result = connection.execute(self._insert_reading, [row._asdict() for row in rows])
        if result.rowcount == len(rows):
            return []
        return _differing(connection, rows)  # the core took a stored reading for new: its content still decides

    def _store_or_compare(self, connection: Connection, rows: Sequence[ReadingRow]) -> list[ReadingRow]:
        stored = _stored(connection, rows)
        missing = [row for row in rows if row[:3] not in stored]
        if missing:  # the core has seen what the table lost (restored from a backup): the database decides
            connection.execute(self._insert_reading, [row._asdict() for row in missing])
            return _differing(connection, rows)
        return [row for row in rows if not _same(row, stored[row[:3]])]

    def _upsert(self, connection: Connection, name: str, row: Row) -> None:
        shape = (name, *row)
        statement = self._upserts.get(shape)
        if statement is None:
            statement = self._upserts[shape] = self._make_upsert(CORE_TABLES[name], row)
        connection.execute(statement, row)

    def _make_upsert(self, table: Table, columns: Iterable[str]) -> Insert:
        statement, key = self._insert(table), key_column(table)
        others = {column: statement.excluded[column] for column in columns if column != key.name}
        upsert: Insert = statement.on_conflict_do_update(index_elements=[key], set_=others)
        return upsert

    def _insert(self, table: Table) -> Any:
        """The dialect's INSERT: ON CONFLICT is spelt alike, but lives in each dialect's module."""
        if self.engine.dialect.name == "postgresql":
            from sqlalchemy.dialects import postgresql

            return postgresql.insert(table)
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)


def row_key(write: Write) -> str:
    """The primary key of the row that an upsert or delete is about."""
    return str(write[2] if write[0] == "delete" else write[2][key_column(CORE_TABLES[write[1]]).name])


def _rows(connection: Connection, table: Table) -> list[Row]:
    return [dict(row) for row in connection.execute(select(table).order_by(key_column(table))).mappings()]


def stored_ranges(connection: Connection) -> list[Row]:
    """Which sequence numbers of each boot are stored, as closed ranges.

    Consecutive numbers differ from their rank by the same amount, so that amount names the range.
    """
    boot = (READINGS.c.node, READINGS.c.boot)
    rank = func.row_number().over(partition_by=boot, order_by=READINGS.c.seq)
    ranked = select(*boot, READINGS.c.seq, (READINGS.c.seq - rank).label("gap")).subquery()
    first, last = func.min(ranked.c.seq), func.max(ranked.c.seq)
    query = select(ranked.c.node, ranked.c.boot, first, last).group_by(ranked.c.node, ranked.c.boot, ranked.c.gap)
    found: dict[tuple[str, int], list[list[int]]] = {}
    for node, number, low, high in connection.execute(query.order_by(ranked.c.node, ranked.c.boot, first)):
        found.setdefault((node, number), []).append([low, high])
    return [{"node": node, "boot": number, "ranges": ranges} for (node, number), ranges in found.items()]


def _differing(connection: Connection, rows: Sequence[ReadingRow]) -> list[ReadingRow]:
    stored = _stored(connection, rows)
    return [row for row in rows if not _same(row, stored[row[:3]])]


def _stored(connection: Connection, rows: Sequence[ReadingRow]) -> dict[tuple[Any, ...], tuple[str, object]]:
    """Metric and value of those identities that are stored."""
    identity = tuple_(READINGS.c.node, READINGS.c.boot, READINGS.c.seq)
    columns = (READINGS.c.node, READINGS.c.boot, READINGS.c.seq, READINGS.c.metric, READINGS.c.value)
    found: dict[tuple[Any, ...], tuple[str, object]] = {}
    source = iter(rows)
    while chunk := [row[:3] for row in islice(source, LOOKUP_ROWS)]:
        for node, boot, seq, metric, value in connection.execute(select(*columns).where(identity.in_(chunk))):
            found[(node, boot, seq)] = (metric, value)
    return found


def _same(row: ReadingRow, stored: tuple[str, object]) -> bool:
    """Equal content; JSON's true is not 1, though Python's is."""
    metric, value = stored
    return row.metric == metric and row.value == value and isinstance(row.value, bool) == isinstance(value, bool)


def _engine(url: str) -> Engine:
    engine = create_engine(url, json_serializer=_json, json_deserializer=orjson.loads)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # sqlite3 would open its transactions late, and only before some statements
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_TIMEOUT_MS}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    reads_only = connection.get_execution_options().get("reads_only")
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")


def _is_trouble(error: Exception) -> bool:
    """Whether the database is at fault (gone, full, locked, damaged) rather than what was to be written."""
    return isinstance(error, DBAPIError) and not isinstance(error, IntegrityError | DataError)


def one_line(error: Exception) -> str:
    """The driver's own message, without SQLAlchemy's statement, parameters and link."""
    lines = str(getattr(error, "orig", None) or error).splitlines()
    return lines[0] if lines else type(error).__name__
