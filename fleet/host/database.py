"""Where the database is, and connections to it: SQLite's file, or a PostgreSQL by URL.

A URL never carries a password, since it shows up in process lists and logs: libpq reads PGPASSFILE and PGPASSWORD by
itself, and a file of ours goes to the driver only.
"""

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from fleet.host.bulk import STAGING
from fleet.host.settings import SettingsError, read_secret_text

DATABASE_FILE = "fleet.sqlite"
BUSY_TIMEOUT_MS = 5_000
SQLITE_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "cache_size=-65536",  # KiB; a commit of 64 batches touches a page a node in each index, more than the usual 2 MiB
    "wal_autocheckpoint=8192",  # pages; such a commit alone is more than the usual 1,000
)
OLDEST_POSTGRESQL = 15
CONNECT_TIMEOUT_S = 5
# A peer that vanished without a word is given up after this long; TCP alone would wait for a quarter of an hour.
SILENCE_MS = 10_000
APPLICATION = "clawland-fleet"
_DRIVER = "postgresql+psycopg"


class StorageError(Exception):
    """The database refused or cannot be reached; the text says why, in one line.

    `bad_data`: these very writes can never succeed, while the database is well.
    """

    def __init__(self, reason: str, bad_data: bool = False) -> None:
        super().__init__(reason)
        self.bad_data = bad_data


class Fenced(StorageError):
    """Another manager leads by now: nothing that this one wants to write is written any more."""


def sqlite_url(path: Path) -> str:
    """The SQLAlchemy URL of a SQLite file."""
    return f"sqlite+pysqlite:///{path}"


def database_of(data: Path, url: str | None, password_file: Path | None) -> str | URL:
    """The PostgreSQL that is configured, or the SQLite file of the data directory. Raises SettingsError."""
    return postgresql_url(url, password_file) if url else sqlite_url(data / DATABASE_FILE)


def postgresql_url(text: str, password_file: Path | None = None) -> URL:
    """The URL of a PostgreSQL database, with the password of `password_file`. Raises SettingsError."""
    try:
        url = make_url(text)
    except ArgumentError:
        raise SettingsError("--database-url: not a URL: postgresql://USER@HOST:PORT/DATABASE") from None
    if url.get_backend_name() not in ("postgresql", "postgres"):
        message = f"--database-url: {url.drivername} is not supported: postgresql://USER@HOST:PORT/DATABASE"
        raise SettingsError(f"{message}; without it, SQLite in the data directory")
    if url.password is not None or "password" in url.query:
        message = "--database-url carries a password, which others could read: put it into a file"
        raise SettingsError(f"{message} and name that with --database-password-file, or use PGPASSFILE")
    if password_file is not None:
        url = url.set(password=read_secret_text(password_file))
    return url.set(drivername=_DRIVER)


def named(url: str | URL) -> str:
    """The database as people may read it: without a password, nor the driver's name."""
    full = make_url(url)
    if full.get_backend_name() == "sqlite":
        return str(full.database)
    return str(URL.create("postgresql", full.username, None, full.host, full.port, full.database, full.query))


def make_engine(url: str | URL, name: str = APPLICATION) -> Engine:
    """An engine whose connections commit to disk before they say so; a PostgreSQL lists them under `name`."""
    url = make_url(url)
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    # Asked before each use: a connection that the server closed meanwhile is replaced, not reported.
    engine = create_engine(url, connect_args=postgresql_arguments(name), pool_pre_ping=True)
    event.listen(engine, "connect", _prepare_postgresql)
    return engine


def check_server(connection: Connection) -> None:
    """Raises StorageError for a PostgreSQL that is too old."""
    if connection.dialect.name != "postgresql":
        return
    major = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one()) // 10_000
    if major < OLDEST_POSTGRESQL:
        raise StorageError(f"this is PostgreSQL {major}; {OLDEST_POSTGRESQL} or newer is needed")


def postgresql_arguments(name: str) -> dict[str, Any]:
    """What the driver is told beside the address, for connections that the server lists under `name`."""
    return {
        "application_name": name,
        "connect_timeout": CONNECT_TIMEOUT_S,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": SILENCE_MS,
    }


def _prepare_postgresql(connection: Any, _record: object) -> None:
    """A batch is acknowledged after its commit, so a commit is on disk, whatever the server's default.

    No query here runs for so long that compiling it first, for half a second, would pay.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = on")
        cursor.execute("SET jit = off")
        cursor.execute(STAGING)
    connection.commit()


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # sqlite3 would open its transactions late, and only before some statements
    for pragma in (*SQLITE_PRAGMAS, f"busy_timeout={BUSY_TIMEOUT_MS}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    reads_only = connection.get_execution_options().get("reads_only")
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")


def is_trouble(error: Exception) -> bool:
    """Whether the database is at fault (gone, full, locked, damaged) rather than what was to be written."""
    cause = getattr(error, "orig", error)
    if isinstance(cause, sqlite3.Error):
        return not isinstance(cause, sqlite3.IntegrityError | sqlite3.DataError)
    import psycopg

    return isinstance(cause, psycopg.Error) and not isinstance(cause, psycopg.IntegrityError | psycopg.DataError)


def one_line(error: Exception) -> str:
    """The driver's own message, without SQLAlchemy's statement, parameters and link."""
    lines = str(getattr(error, "orig", None) or error).splitlines()
    return lines[0] if lines else type(error).__name__
