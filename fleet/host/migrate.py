"""Brings a database to a version of its tables: the program's own at start, any known one by `fleet migrate`.

Each move is one transaction, on both databases: it happens whole, or not at all. Alembic is loaded when there is one to
make: it takes as long to load as a small fleet.
"""

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from firmware.hosting.lifecycle import CannotRun
from fleet.host.database import StorageError, database_of, make_engine, named, one_line
from fleet.host.lock import DirectoryLock

if TYPE_CHECKING:
    from alembic.config import Config

FIRST = "0001"
# Of PostgreSQL's advisory locks; so that two servers that start together migrate one after the other.
_LOCK = 0x_C1A3_0001


def migrate_database(data: Path, url: str | None, password_file: Path | None, to: str | None) -> str:
    """Migrates the database that a server would use; says what was done. Raises SettingsError, CannotRun."""
    database = database_of(data, url, password_file)
    lock = DirectoryLock(data)
    engine = make_engine(database)
    try:
        before, after = migrate(engine, to)
    except (StorageError, SQLAlchemyError) as error:
        raise CannotRun(f"{named(database)}: {one_line(error)}") from None
    finally:
        engine.dispose()
        lock.release()
    moved = f"is now of version {after}, it was {before or 'empty'}" if before != after else f"is of version {after}"
    return f"{named(database)} {moved}"


def known_versions() -> list[str]:
    """All versions that this program knows, oldest first: `v0001_tables.py` brings a database to version 0001."""
    found = resources.files("fleet.host.migrations").joinpath("versions").iterdir()
    return sorted(file.name[1:5] for file in found if file.name.startswith("v") and file.name.endswith(".py"))


def migrate(engine: Engine, to: str | None = None) -> tuple[str | None, str]:
    """Brings the database to version `to`, by default the latest; from which (None: empty) to which it went.

    Raises StorageError for a version that this program does not know, in the database or asked for.
    """
    known = known_versions()
    to = known[-1] if to is None else to
    if to not in known:
        raise StorageError(f"there is no version {to!r} of the database; known are {', '.join(known)}")
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        found = version(connection)
        if found is not None and found not in known:
            raise StorageError(
                f"the database is of version {found}, made by a newer program; this one knows up to {known[-1]}. "
                f"Run the newer program, or let it take the database back: fleet migrate --to {known[-1]}"
            )
        if found != to:
            _move(connection, found, to)
    return found, to


def version(connection: Connection) -> str | None:
    """The version of a database, None for an empty one."""
    found = _noted(connection)
    if found is None and inspect(connection).has_table("readings"):
        return FIRST  # from before versions were written down
    return found


def _noted(connection: Connection) -> str | None:
    """The version that Alembic has written down."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    noted: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return noted


def _move(connection: Connection, found: str | None, to: str) -> None:
    from alembic import command

    config = _config()
    config.attributes["connection"] = connection
    if found is not None and _noted(connection) is None:
        command.stamp(config, found)
    if found is None or found < to:
        command.upgrade(config, to)
    elif found > to:
        command.downgrade(config, to)


def _config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "fleet.host:migrations")
    config.set_main_option("path_separator", "os")
    return config
