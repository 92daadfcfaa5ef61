"""What the leader's commits changed, for a copy of the core's rows in another process.

A commit notes its rows in the table `changes`, in the same transaction. So whoever has seen a version, and reads the
rows of all later ones, has seen every commit up to that moment.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, delete, func, select

from fleet.core.mirror import SHOWN
from fleet.host.history import remembered
from fleet.host.tables import CHANGES, CORE_TABLES, key_column

MOST_VERSIONS = 10_000
"""So many are kept; who is farther behind reads everything again."""
ACCOUNTS = ("users", "tokens")
COPIED = (*SHOWN, *ACCOUNTS)
MOST_KEYS = 5_000  # of one query

Row = dict[str, Any]


@dataclass(frozen=True)
class Copy:
    """All rows that are copied, by table, as of a version."""

    version: int
    rows: dict[str, list[Row]]


@dataclass(frozen=True)
class News:
    """What has changed up to a version: (table, key, row), the row None when it is gone."""

    version: int
    changed: list[tuple[str, str, Row | None]] = field(default_factory=list)


def copy(connection: Connection) -> Copy:
    """Everything, in the one moment that `connection` sees."""
    return Copy(_latest(connection), {name: _rows(connection, name, None) for name in COPIED})


def news(connection: Connection, since: int) -> News | None:
    """What is newer than version `since`; None when that is not known any more."""
    oldest = connection.execute(select(func.min(CHANGES.c.version))).scalar_one()
    if (oldest is None and since > 0) or (oldest is not None and oldest > since + 1):
        return None
    found = connection.execute(
        select(CHANGES.c.version, CHANGES.c.doc).where(CHANGES.c.version > since).order_by(CHANGES.c.version)
    ).all()
    if not found:
        return News(since)
    keys: dict[str, set[str]] = {}
    for _, doc in found:
        for table, key in doc:
            if table in COPIED:
                keys.setdefault(table, set()).add(key)
    return News(found[-1].version, [each for table in keys for each in _changed(connection, table, keys[table])])


def forget_old(connection: Connection) -> None:
    """Keeps the latest `MOST_VERSIONS`."""
    connection.execute(delete(CHANGES).where(CHANGES.c.version <= _latest(connection) - MOST_VERSIONS))


def _latest(connection: Connection) -> int:
    return int(connection.execute(select(func.coalesce(func.max(CHANGES.c.version), 0))).scalar_one())


def _changed(connection: Connection, table: str, keys: set[str]) -> Iterable[tuple[str, str, Row | None]]:
    name = key_column(CORE_TABLES[table]).name
    wanted = sorted(keys)
    for start in range(0, len(wanted), MOST_KEYS):
        some = wanted[start : start + MOST_KEYS]
        rows = {str(row[name]): row for row in _rows(connection, table, some)}
        yield from ((table, key, rows.get(key)) for key in some)


def _rows(connection: Connection, name: str, keys: list[str] | None) -> list[Row]:
    table = CORE_TABLES[name]
    query = select(table).order_by(key_column(table))
    some = remembered(table) if keys is None else key_column(table).in_(keys)
    if some is not None:
        query = query.where(some)
    return [dict(row) for row in connection.execute(query).mappings()]
