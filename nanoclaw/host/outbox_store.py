"""The gateway's disk: one SQLite file in which a `Store` of the core is one transaction, durable when it is answered.

All SQL runs in one thread of its own, so that a slow disk never stops the loop. A file that SQLite cannot read is moved
aside and a new one is started: a gateway that has lost its backlog is worth more than one that does not run. One that
breaks while the gateway runs ends it, since the core counts on what it has stored; the next start does the rest.
"""

import asyncio
import json
import logging
import sqlite3
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

_log = logging.getLogger("clawland.outbox")

OUTBOX_FILE = "outbox.sqlite"
SCHEMA_VERSION = 1
_BUSY_S = 5.0
_PRIMARY_CODE = 0xFF  # of SQLite's error codes; the rest says more about it
_SCHEMA = """
CREATE TABLE slots (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE outbox (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, body BLOB NOT NULL);
"""

Restored = dict[str, Any]


class StoreError(Exception):
    """A transaction was not made durable; the message is the reason, for the core."""


class OutboxBroken(Exception):
    """What is in the file cannot be read any more, and the next start moves it aside; the message is for the user."""


class OutboxUnusable(Exception):
    """The outbox cannot be opened, and starting anew would not help; the message is for the user."""


class OutboxStore:
    """The outbox in `directory`. Raises `OutboxUnusable` when it cannot be opened or made."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / OUTBOX_FILE
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="outbox")
        self._database: sqlite3.Connection
        self._restored: Restored
        try:
            self._writer.submit(self._open).result()
        except BaseException:
            self._writer.shutdown()
            raise

    def load(self) -> Restored:
        """What was on disk when the store was opened: {"slots": {name: value}, "outbox": [(id, kind, body)]}."""
        return self._restored

    async def write(self, writes: Iterable[tuple[Any, ...]]) -> None:
        """Make one transaction of `("put", slot, value or None)`, `("add", id, kind, body)`, `("remove", [id, …])`.

        Raises `StoreError`, and then none of it has happened; `OutboxBroken` when no later one can do better.
        """
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._writer, self._transact, list(writes))
        except sqlite3.Error as error:
            if _is_broken(error):
                raise OutboxBroken(f"{self._path}: {error}; the next start moves it aside") from None
            raise StoreError(str(error)) from None

    def close(self) -> None:
        """Finish what is being written and let go of the file."""
        self._writer.submit(self._database.close).result()
        self._writer.shutdown()

    # in the writer's thread

    def _open(self) -> None:
        try:
            self._database = self._connect()
            self._restored = _load(self._database)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and not _is_broken(error):
                raise OutboxUnusable(f"{self._path}: {error}") from None
            self._move_aside(error)
            self._database = self._connect()
            self._restored = _load(self._database)

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=FULL")
            self._prepare(database)
        except BaseException:
            database.close()
            raise
        return database

    def _prepare(self, database: sqlite3.Connection) -> None:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise OutboxUnusable(f"{self._path}: made by a newer nanoclaw (schema {version}, this is {SCHEMA_VERSION})")
        if version == 0:
            database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
        elif (verdict := database.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(verdict)

    def _move_aside(self, error: Exception) -> None:
        number = 1
        while (aside := self._path.with_name(f"{OUTBOX_FILE}.broken-{number}")).exists():
            number += 1
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                Path(f"{self._path}{suffix}").replace(f"{aside}{suffix}")
        _log.error("the outbox is broken (%s): moved to %s, starting with an empty one", error, aside)

    def _transact(self, writes: list[tuple[Any, ...]]) -> None:
        database = self._database
        database.execute("BEGIN IMMEDIATE")
        try:
            for write in writes:
                _apply(database, write)
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise


def read_outbox(path: Path) -> Restored:
    """What an outbox (its file, or the gateway's data directory) holds, whether or not its gateway runs.

    The same as `OutboxStore.load`; empty when there is none yet. Raises sqlite3.Error when it cannot be read, and
    PermissionError for a user who may not.
    """
    file = path / OUTBOX_FILE if path.is_dir() else path
    try:
        file.open("rb").close()  # SQLite's own word for a file that is another user's is no help
    except (FileNotFoundError, NotADirectoryError):
        return {"slots": {}, "outbox": []}
    with closing(sqlite3.connect(file, timeout=_BUSY_S)) as database:
        database.execute("PRAGMA query_only=ON")
        return _load(database)


def _load(database: sqlite3.Connection) -> Restored:
    slots = {name: json.loads(value) for name, value in database.execute("SELECT name, value FROM slots")}
    rows = database.execute("SELECT id, kind, body FROM outbox ORDER BY id").fetchall()
    return {"slots": slots, "outbox": [(item_id, kind, bytes(body)) for item_id, kind, body in rows]}


def _apply(database: sqlite3.Connection, write: tuple[Any, ...]) -> None:
    match write:
        case ("put", name, None):
            database.execute("DELETE FROM slots WHERE name = ?", (name,))
        case ("put", name, value):
            database.execute("INSERT OR REPLACE INTO slots VALUES (?, ?)", (name, json.dumps(value)))
        case ("add", item_id, kind, body):
            database.execute("INSERT INTO outbox VALUES (?, ?, ?)", (item_id, kind, body))
        case ("remove", item_ids):
            database.executemany("DELETE FROM outbox WHERE id = ?", ((item_id,) for item_id in item_ids))
        case _:
            raise ValueError(f"the outbox does not know how to {write[:1]}")


def _is_broken(error: sqlite3.Error) -> bool:
    """Whether an error is about what is in the file, such as a table that is not there; a full disk is not."""
    if getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return True
    return "no such table" in str(error) or "malformed" in str(error) or "no such column" in str(error)
