"""New readings into the table, each identity once, as fast as each database takes them.

SQLite: one prepared INSERT for many rows. PostgreSQL: COPY to a staging table, then one statement that claims the
identities and inserts the rows whose identity was free.
"""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import Connection

from fleet.core.rows import ReadingRow, Secret
from fleet.core.vault import Vault

_IDENTITY = itemgetter(0, 1, 2)
_COLUMNS = ", ".join(ReadingRow._fields)
_SQLITE = f"INSERT INTO readings ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"  # noqa: S608 - our columns

# Of one connection, and empty again after each transaction.
STAGING = """
    CREATE TEMPORARY TABLE reading_staging (
        n bigint, node varchar COLLATE "C", boot bigint, seq bigint, metric varchar COLLATE "C", value text, unit text,
        utc_ms bigint, time_quality text, gateway varchar COLLATE "C", stored_utc_ms bigint
    ) ON COMMIT DELETE ROWS
"""
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
    return connection.exec_driver_sql(_SQLITE, [_encoded(row, vault) for row in rows]).rowcount


def _encoded(row: ReadingRow, vault: Vault) -> tuple[Any, ...]:
    node, boot, seq, metric, value, unit, utc_ms, quality, gateway, stored_ms = row
    if type(value) is Secret:
        return node, boot, seq, metric, vault.at_rest(row), unit, utc_ms, quality, gateway, stored_ms
    return node, boot, seq, metric, orjson.dumps(value).decode(), unit, utc_ms, quality, gateway, stored_ms


def _copy(connection: Connection, rows: Sequence[ReadingRow], vault: Vault) -> int:
    """The driver's own cursor: SQLAlchemy has no COPY."""
    unique = {row[:3]: row for row in reversed(rows)}
    first = connection.info.setdefault("staged", 0)  # an earlier call of this transaction has staged rows too
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor:
        with cursor.copy(_COPY) as copy:
            for number, row in enumerate(reversed(unique.values()), first):
                copy.write_row((number, *_encoded(row, vault)))
        connection.info["staged"] = first + len(unique)
        cursor.execute(_CLAIM, {"first": first})
        return int(cursor.rowcount)
