"""A bug planted in a fleet manager among several: it commits without asking whether it still leads.

`python -m tests.planted.managers serve …` is such a manager as a process.
"""

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

WRITE: Any = ("upsert", "nodes", {"id": "sensor-01", "doc": {"state": "up"}})


@contextlib.contextmanager
def without_epoch_check() -> Iterator[None]:
    """Every commit goes through."""
    with patch.object(Term, "check", lambda _term, _connection: None):
        yield


def commits_after_takeover(database: Database, first: Leadership, second: Leadership) -> list[str]:
    """What the first leader still gets into the database after the second has taken over; nothing, by the rules."""
    old = first.campaign()
    assert isinstance(old, Term)
    storage = Storage(database.url, fence=old)
    storage.perform([WRITE])
    first.resign()
    new = second.campaign()
    assert isinstance(new, Term)
    Storage(database.url, fence=new).perform([WRITE])
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


if __name__ == "__main__":
    from fleet.cli import main

    with without_epoch_check():
        main()
