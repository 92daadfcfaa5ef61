"""A bug planted in a fleet manager among several: it commits without asking whether it still leads."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from sqlalchemy import select

from fleet.host.database import Fenced
from fleet.host.managers.leadership import Leadership
from fleet.host.managers.term import Term
from fleet.host.storage import Storage
from fleet.host.tables import CHANGES
from tests.fleet_host.stand import Database
from tests.servers import PostgresServer

WRITE: Any = ("upsert", "nodes", {"id": "sensor-01", "doc": {"state": "up"}})


@contextlib.contextmanager
def without_epoch_check() -> Iterator[None]:
    """Every commit goes through."""
    with patch.object(Term, "check", lambda _term, _connection: None):
        yield


def caught_overtaken() -> tuple[str, str]:
    """What catches the bug (or what was said instead), and the verdict; on a PostgreSQL of its own."""
    server = PostgresServer()
    try:
        without, planted = _found_by_the_check(server), []
        with without_epoch_check():
            planted = _found_by_the_check(server)
    finally:
        server.remove()
    if without:
        return f"caught without the bug too: {without[0]}", "NOT CAUGHT"
    return (planted[0], "FAIL") if planted else ("nothing", "NOT CAUGHT")


def _found_by_the_check(server: PostgresServer) -> list[str]:
    database = Database.postgresql(server)
    database.open().close()
    two = [Leadership(database.url, {"name": name, "keys": []}) for name in ("first", "second")]
    try:
        return commits_after_takeover(database, *two)
    finally:
        for each in two:
            each.close()


def commits_after_takeover(database: Database, first: Leadership, second: Leadership) -> list[str]:
    """What the first leader still gets into the database after the second has taken over; nothing, by the rules."""
    old = first.campaign()
    assert isinstance(old, Term)
    storage = Storage(database.url, fence=old)
    storage.perform([WRITE])
    first.resign()
    new = second.campaign()
    assert isinstance(new, Term)
    following = Storage(database.url, fence=new)
    following.perform([WRITE])
    following.close()
    with contextlib.suppress(Fenced):
        storage.perform([WRITE])
    found = epochs(storage)
    storage.close()
    return overtaken(found)


def epochs(storage: Storage) -> list[int]:
    """Of the commits, in their order."""
    with storage.reading() as connection:
        return list(connection.execute(select(CHANGES.c.epoch).order_by(CHANGES.c.version)).scalars())


def overtaken(found: list[int]) -> list[str]:
    """The commits of a leader that came after one of a later leader."""
    return [
        f"written by epoch {epoch} after epoch {max(found[:place])} began"
        for place, epoch in enumerate(found)
        if place and epoch < max(found[:place])
    ]
