"""The raw rate of a database: the same rows into one plain table with the same uniqueness, and nothing else."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import orjson
import psycopg

from fleet.core.rows import ReadingRow
from fleet.host.database import SQLITE_PRAGMAS

Row = tuple[object, ...]

_COLUMNS = ", ".join(ReadingRow._fields)
_TABLE = """
    CREATE TABLE raw_readings (
        node varchar(32) NOT NULL, boot bigint NOT NULL, seq bigint NOT NULL, metric varchar(32) NOT NULL,
        value text NOT NULL, unit varchar(200), utc_ms bigint NOT NULL, time_quality varchar(32) NOT NULL,
        gateway varchar(32) NOT NULL, stored_utc_ms bigint NOT NULL, PRIMARY KEY (node, boot, seq)
    )
"""
_STAGING = "CREATE TEMPORARY TABLE raw_staging (LIKE raw_readings) ON COMMIT DELETE ROWS"


class RawSqlite:
    """executemany in one transaction, in a file with the pragmas of ours."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        for pragma in SQLITE_PRAGMAS:
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute(_TABLE)
        self._insert = f"INSERT INTO raw_readings VALUES ({', '.join('?' * 10)}) ON CONFLICT DO NOTHING"

    def store(self, rows: Sequence[Row]) -> None:
        """One transaction."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(self._insert, rows)
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()


class RawPostgresql:
    """COPY to staging, then INSERT … ON CONFLICT."""

    def __init__(self, connection: "psycopg.Connection[tuple[object, ...]]") -> None:
        self._connection = connection
        connection.execute(_TABLE)
        connection.execute(_STAGING)

    def store(self, rows: Sequence[Row]) -> None:
        """One transaction."""
        with self._connection.transaction(), self._connection.cursor() as cursor:
            with cursor.copy(f"COPY raw_staging ({_COLUMNS}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
            cursor.execute("INSERT INTO raw_readings SELECT * FROM raw_staging ON CONFLICT DO NOTHING")

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


def encoded(rows: Sequence[ReadingRow]) -> list[Row]:
    """Rows as the raw table takes them: what this costs is not the database's."""
    return [(*row[:4], orjson.dumps(row.value).decode(), *row[5:]) for row in rows]
