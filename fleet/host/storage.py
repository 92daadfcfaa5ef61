"""The fleet manager's database: what it restores at start, and the core's writes as transactions.

Plain blocking code, for the threads of the writer (`writer.py`) and of readers (`readings.py`); no asyncio here.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

from sqlalchemy import URL, Connection, Insert, Select, Table, and_, delete, func, insert, select, tuple_
from sqlalchemy.exc import SQLAlchemyError

from fleet.core.rows import ReadingRow, Secret, same_content
from fleet.core.vault import Vault
from fleet.host.bulk import insert_new
from fleet.host.database import (
    APPLICATION,
    Fenced,
    StorageError,
    check_server,
    is_trouble,
    make_engine,
    named,
    one_line,
    sqlite_url,
)
from fleet.host.forgotten import Forgotten, merged
from fleet.host.history import remembered
from fleet.host.migrate import known_versions, migrate, version
from fleet.host.opening import opened
from fleet.host.rule_state import latest_readings
from fleet.host.tables import CORE_TABLES, IDENTITIES, LOG_TABLES, PROBE, READINGS, key_column
from fleet.wire.terms import Value

__all__ = ["Row", "Storage", "StorageError", "Write", "one_line", "row_key", "sqlite_url"]

Write = tuple[Any, ...]
Row = dict[str, Any]

# Rows of one look-up by identity: three variables each, below SQLite's limit of 32,766 and PostgreSQL's of 65,535.
LOOKUP_ROWS = 1_000


class Fence(Protocol):
    """What stands before every commit where several managers share a database."""

    def check(self, connection: Connection) -> None:
        """Raises Fenced unless this manager leads, and goes on to until the transaction of `connection` ends."""

    def journal(self, connection: Connection, writes: Iterable[Write]) -> None:
        """Notes which rows of the core's tables `writes` touch."""


class Storage:
    """One database; `load` and `perform` raise StorageError when it fails."""

    def __init__(
        self, url: str | URL, vault: Vault | None = None, *, fence: Fence | None = None, name: str = APPLICATION
    ) -> None:
        """`vault` has the keys of sensitive values. `fence`: where several managers share the database; `name`: under
        which the server lists the connections."""
        self.vault = vault or Vault([], os.urandom)
        self.engine = make_engine(url, name)
        self.engine.update_execution_options(vault=self.vault)  # for whoever reads values, and has a connection only
        self.name = named(url)
        self._fence = fence
        self.forgotten = Forgotten()
        self._upserts: dict[tuple[str, ...], Insert] = {}

    def open(self) -> None:
        """Brings the tables to this program's version, so that a start needs no other command."""
        with self._errors():
            with self.engine.connect() as connection:
                check_server(connection)
            migrate(self.engine)

    def check_version(self) -> None:
        """Raises StorageError unless the tables are of this program's version; changes nothing."""
        with self.reading() as connection:
            found, wanted = version(connection), known_versions()[-1]
        if found != wanted:
            raise StorageError(
                f"{self.name} is of version {found or 'none'}, not {wanted}: start the server, or fleet migrate"
            )

    def load(self) -> dict[str, list[Row]]:
        """Every table but the readings, as rows by table name: what the core restores itself from. Of alerts, commands
        and messages what is open, and the latest of what is over.

        `seen` is told by the readings themselves: {"node", "boot", "ranges": [[first, last], …]}; `latest` too.
        """
        with self.reading() as connection:
            found = {name: _rows(connection, table) for name, table in CORE_TABLES.items()}
            return found | {"seen": _seen(connection, self.forgotten), "latest": latest_readings(connection)}

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for queries, which see one moment of the database. Raises StorageError."""
        with self._errors(), self.engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                yield connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            else:
                yield connection.execution_options(reads_only=True)

    def perform(self, writes: Sequence[Write]) -> list[ReadingRow]:
        """Makes `writes` durable as one transaction; returns copies of readings that differ from what is stored."""
        return self.perform_all([writes])[0]

    def perform_all(self, groups: Sequence[Sequence[Write]]) -> list[list[ReadingRow]]:
        """Several groups of writes in one transaction, so that they share one wait for the disk."""
        try:
            with self._begun() as connection:
                found = [self._apply(connection, writes) for writes in groups]
                if self._fence:
                    self._fence.journal(connection, (write for writes in groups for write in writes))
                return found
        except Fenced:
            raise
        except Exception as error:
            raise StorageError(one_line(error), not is_trouble(error)) from error

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction of one's own, committed at the end. Raises StorageError, Fenced where another manager leads."""
        with self._errors(), self._begun() as connection:
            yield connection

    def probe(self) -> None:
        """Raises StorageError unless the database commits a write."""
        with self.writing() as connection:
            connection.execute(delete(PROBE))
            connection.execute(insert(PROBE).values(id=1))

    def close(self) -> None:
        """Closes all connections; SQLite folds its write-ahead log into the file."""
        self.engine.dispose()

    @contextlib.contextmanager
    def _begun(self) -> Iterator[Connection]:
        with self.engine.begin() as connection:
            if self._fence:
                self._fence.check(connection)
            yield connection

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise StorageError(one_line(error)) from error

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
        rows = self.forgotten.without(rows)
        if not rows or insert_new(connection, rows, self.vault) == len(rows):
            return []
        return _differing(connection, rows)  # the core took a stored reading for new: its content still decides

    def _store_or_compare(self, connection: Connection, rows: Sequence[ReadingRow]) -> list[ReadingRow]:
        rows = self.forgotten.without(rows)
        stored = _stored(connection, rows)
        missing = [row for row in rows if row[:3] not in stored]
        if missing:  # the core has seen what the table lost (restored from a backup): the database decides
            insert_new(connection, missing, self.vault)
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
    query, some = select(table).order_by(key_column(table)), remembered(table)
    return [dict(row) for row in connection.execute(query if some is None else query.where(some)).mappings()]


def _seen(connection: Connection, forgotten: Forgotten) -> list[Row]:
    """Which sequence numbers of each boot are stored, or were until retention removed them, as closed ranges."""
    found = {boot: list(ranges) for boot, ranges in forgotten.load(connection).items()}
    for node, number, low, high in _stored_ranges(connection):
        found.setdefault((node, number), []).append((low, high))
    return [
        {"node": node, "boot": number, "ranges": [list(pair) for pair in merged(ranges)]}
        for (node, number), ranges in sorted(found.items())
    ]


def _stored_ranges(connection: Connection) -> Iterator[Any]:
    """Rows (node, boot, first, last).

    A boot that has as many readings as its numbers span has no gap. Only the others are looked at reading by reading,
    which takes far longer.
    """
    table = IDENTITIES if connection.dialect.name == "postgresql" else READINGS
    first, last = func.min(table.c.seq), func.max(table.c.seq)
    whole = select(table.c.node, table.c.boot, first, last, func.count()).group_by(table.c.node, table.c.boot)
    torn: list[tuple[str, int]] = []
    for node, boot, low, high, stored in connection.execute(whole):
        if stored == high - low + 1:
            yield node, boot, low, high
        else:
            torn.append((node, boot))
    for at in range(0, len(torn), LOOKUP_ROWS):
        yield from connection.execute(_ranges_of(table, torn[at : at + LOOKUP_ROWS]))


def _ranges_of(table: Table, boots: Sequence[tuple[str, int]]) -> Select[Any]:
    """Consecutive numbers differ from their rank by the same amount, so that amount names the range."""
    boot = (table.c.node, table.c.boot)
    rank = func.row_number().over(partition_by=boot, order_by=table.c.seq)
    some = select(*boot, table.c.seq, (table.c.seq - rank).label("gap")).where(tuple_(*boot).in_(boots))
    ranked = some.subquery()
    first, last = func.min(ranked.c.seq), func.max(ranked.c.seq)
    return select(ranked.c.node, ranked.c.boot, first, last).group_by(ranked.c.node, ranked.c.boot, ranked.c.gap)


def _differing(connection: Connection, rows: Sequence[ReadingRow]) -> list[ReadingRow]:
    stored = _stored(connection, rows)
    return [row for row in rows if not _same(row, stored[row[:3]])]


def _stored(connection: Connection, rows: Sequence[ReadingRow]) -> dict[tuple[Any, ...], tuple[str, Value | Secret]]:
    """Metric and value of those identities that are stored."""
    columns = (READINGS.c.node, READINGS.c.boot, READINGS.c.seq, READINGS.c.metric, READINGS.c.value)
    query, keys = select(*columns), READINGS
    if connection.dialect.name == "postgresql":
        keys = IDENTITIES
        query = query.join(IDENTITIES, and_(*(READINGS.c[column.name] == column for column in IDENTITIES.c)))
    identity = tuple_(keys.c.node, keys.c.boot, keys.c.seq)
    found: dict[tuple[Any, ...], tuple[str, Value | Secret]] = {}
    source = iter(rows)
    while chunk := [row[:3] for row in islice(source, LOOKUP_ROWS)]:
        for node, boot, seq, metric, value in connection.execute(query.where(identity.in_(chunk))):
            found[(node, boot, seq)] = (metric, opened(connection, value, node, boot, seq, metric))
    return found


def _same(row: ReadingRow, stored: tuple[str, Value | Secret]) -> bool:
    metric, value = stored
    return row.metric == metric and same_content(row.value, value)
