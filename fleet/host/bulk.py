"""New readings into the table, each identity once, as fast as each database takes them.

SQLite: INSERTs of many rows each, since every statement hands the interpreter to another thread and has to wait for it
again. PostgreSQL: COPY to a staging table, then one statement that claims the
identities and inserts the rows whose identity was free.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, count, islice
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import Connection

from fleet.core.rows import ReadingRow, Secret
from fleet.core.vault import Vault

_IDENTITY = itemgetter(0, 1, 2)
_COLUMNS = ", ".join(ReadingRow._fields)
STATEMENT_ROWS = 512  # ten variables each, below SQLite's limit of 32,766
_ROW = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

# Of one connection, and empty again after each transaction.
STAGING = """
    CREATE TEMPORARY TABLE reading_staging (
        n bigint, node varchar COLLATE "C", boot bigint, seq bigint, metric varchar COLLATE "C", value text, unit text,
        utc_ms bigint, time_quality text, gateway varchar COLLATE "C", stored_utc_ms bigint
    ) ON COMMIT DELETE ROWS
"""
_VALUE, _UNIT = ReadingRow._fields.index("value"), ReadingRow._fields.index("unit")
_LINE = "\t".join(["%s"] * (1 + len(ReadingRow._fields))) + "\n"
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_COPY = f"COPY reading_staging (n, {_COLUMNS}) FROM STDIN"
# The order of insertion is the order of the serial numbers, and so of the walk through all readings.
_CLAIM = f"""
    WITH fresh AS (
        INSERT INTO reading_identities (node, boot, seq, utc_ms)
        SELECT node, boot, seq, utc_ms FROM reading_staging WHERE n >= %(first)s
        ON CONFLICT DO NOTHING RETURNING node, boot, seq
    )
    INSERT INTO readings ({_COLUMNS})
    SELECT {_COLUMNS} FROM reading_staging JOIN fresh USING (node, boot, seq) WHERE n >= %(first)s ORDER BY n
"""  # noqa: S608 - our columns


def insert_new(connection: Connection, rows: Sequence[ReadingRow], vault: Vault) -> int:
    """Stores those of `rows` whose identity is free; how many that were. Raises VaultError.

    In the order of the indexes: a commit has a few rows of each node, and finds their page once instead of each time.
    """
    rows = sorted(rows, key=_IDENTITY)  # stable: of two alike, the first counts
    if connection.dialect.name == "postgresql":
        return _copy(connection, rows, vault)
    driver: Any = connection.connection.driver_connection
    stored, found = 0, _columns(rows, vault)
    while some := [*islice(found, STATEMENT_ROWS)]:
        stored += driver.execute(_insert(len(some)), [*chain.from_iterable(some)]).rowcount
    return stored


@lru_cache
def _insert(rows: int) -> str:
    """The INSERT of so many rows."""
    return f"INSERT INTO readings ({_COLUMNS}) VALUES {', '.join([_ROW] * rows)} ON CONFLICT DO NOTHING"  # noqa: S608


def _columns(rows: Sequence[ReadingRow], vault: Vault) -> Iterator[tuple[Any, ...]]:
    """The rows with their values as they are stored; column by column, in a fraction of the time of row by row."""
    columns: list[Any] = [*zip(*rows, strict=True)]
    columns[_VALUE] = _at_rest(rows, columns[_VALUE], vault)
    return zip(*columns, strict=True)


def _at_rest(rows: Sequence[ReadingRow], values: Sequence[Any], vault: Vault) -> list[str]:
    """The `values` of the rows: as JSON, the secrets closed."""
    if {*map(type, values)} == {float}:  # no comma in any of them
        return orjson.dumps(values)[1:-1].decode().split(",")
    return [
        vault.at_rest(row) if type(value) is Secret else orjson.dumps(value).decode()
        for row, value in zip(rows, values, strict=True)
    ]


def _copy(connection: Connection, rows: Sequence[ReadingRow], vault: Vault) -> int:
    """The driver's own cursor: SQLAlchemy has no COPY."""
    unique = {row[:3]: row for row in reversed(rows)}
    rows = rows if len(unique) == len(rows) else [*reversed(unique.values())]
    first = connection.info.setdefault("staged", 0)  # an earlier call of this transaction has staged rows too
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor:
        with cursor.copy(_COPY) as copy:
            copy.write(_copied(rows, first, vault))
        connection.info["staged"] = first + len(rows)
        cursor.execute(_CLAIM, {"first": first})
        return int(cursor.rowcount)


def _copied(rows: Sequence[ReadingRow], first: int, vault: Vault) -> str:
    """The rows, numbered from `first`, in COPY's text format. What is a name or a number has nothing to be escaped."""
    columns: list[Any] = [*zip(*rows, strict=True)]
    columns[_VALUE] = map(_escaped, _at_rest(rows, columns[_VALUE], vault))
    columns[_UNIT] = map(_escaped, columns[_UNIT])
    return "".join(map(_LINE.__mod__, zip(count(first), *columns)))


def _escaped(text: str | None) -> str:
    """A text or NULL as COPY reads it: https://www.postgresql.org/docs/15/sql-copy.html#id-1.9.3.55.9.2"""
    if text is None:
        return "\\N"
    return text if text.isalnum() else text.translate(_ESCAPES)
