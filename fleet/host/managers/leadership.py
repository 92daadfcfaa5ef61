"""Who leads: a PostgreSQL advisory lock, held by a connection that does nothing else.

A process that dies loses its connections, and with them the lock, at once. One that is stopped, or whose machine is
gone, keeps the lock for as long as TCP believes in it; so the leader also counts up a heartbeat, and whoever sees it
stand still for `LEASE_S` has the server end that leader's sessions. Blocking code, for a thread.
"""

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import URL, Connection, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError

from fleet.host.database import APPLICATION, Fenced, StorageError, make_engine, one_line
from fleet.host.managers.term import BEAT_ROW, EPOCH_ROW, LEASE_S, Term
from fleet.host.tables import LEADERSHIP

LOG = logging.getLogger(__name__)
# Of PostgreSQL's advisory locks, beside the one of migrations.
_LOCK = 0x_C1A3_0002
_TRY = text("SELECT pg_try_advisory_lock(:lock)")
_OUST = text(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE application_name = :name AND datname = current_database() AND pid <> pg_backend_pid()"
)
_OUST_OWN = text(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity JOIN pg_locks USING (pid)"
    " WHERE application_name = :name AND locktype = 'advisory' AND objid = :lock AND pid <> pg_backend_pid()"
)
Doc = dict[str, Any]


def manager_name() -> str:
    """A name for this process that no other has, short enough for PostgreSQL's list of sessions."""
    return f"{socket.gethostname()[:24]}-{os.getpid()}-{secrets.token_hex(3)}"


def sessions_of(name: str) -> str:
    """What PostgreSQL lists a manager's connections under."""
    return f"{APPLICATION} {name}"


@dataclass(frozen=True)
class Held:
    """Another manager leads: what it says of itself, and its heartbeat."""

    holder: Doc
    epoch: int
    beat: int


class Stillness:
    """Whether a heartbeat stands still: only the time in which we saw that it did counts."""

    def __init__(self) -> None:
        self._seen: tuple[int, int] | None = None
        self._since_s = 0.0

    def look(self, held: Held, now_s: float) -> bool:
        """Whether the leader has been silent for `LEASE_S` by now."""
        if (held.epoch, held.beat) != self._seen:
            self._seen, self._since_s = (held.epoch, held.beat), now_s
        return now_s - self._since_s >= LEASE_S

    def reset(self) -> None:
        """The database did not answer: what we did not see is no silence."""
        self._seen = None


class Leadership:
    """One process's part in it. Everything raises StorageError while the database does not answer."""

    def __init__(self, url: str | URL, about: Doc) -> None:
        """`about`: what others are told of this manager while it leads; `name` is in it."""
        self.about = about
        self._engine = make_engine(url, sessions_of(about["name"]))
        self._connection: Connection | None = None
        self._using = threading.RLock()  # one call at a time; a call whose caller was cancelled runs to its end

    def campaign(self) -> Term | Held:
        """The lead if it is to be had, or who has it."""
        with self._connected() as connection:
            begun_s = time.monotonic()
            if not connection.execute(_TRY, {"lock": _LOCK}).scalar_one():
                return _held(connection)
            try:
                return Term(self._enthrone(connection), begun_s)
            except SQLAlchemyError:
                self.resign()  # the lock without the epoch is worth nothing: the next attempt begins anew
                raise

    def oust(self, held: Held) -> None:
        """Ends all sessions of a leader that does not move, and so what they hold and were about to write."""
        with self._connected() as connection:
            ended = connection.execute(_OUST, {"name": sessions_of(str(held.holder.get("name")))}).scalar_one()
        LOG.warning("the leader %s is silent for %g s; ended its %d sessions", held.holder.get("name"), LEASE_S, ended)

    def beat(self, term: Term) -> None:
        """Says that this manager leads on. Raises Fenced when it does not."""
        sent_s = time.monotonic()
        with self._connected() as connection:
            # After a lost connection the lock is to be taken again; nothing was decided meanwhile if the epoch stands.
            locked = connection.info.get("locked") or connection.execute(_TRY, {"lock": _LOCK}).scalar_one()
            found = _number(connection, EPOCH_ROW)
            if found != term.epoch:
                raise Fenced(f"another manager leads since epoch {found}; this one led in epoch {term.epoch}")
            if not locked:  # perhaps by our own last session, which the server takes for alive
                connection.execute(_OUST_OWN, {"name": sessions_of(self.about["name"]), "lock": _LOCK})
                raise StorageError("the leader's lock is not free again yet")
            connection.info["locked"] = True
            row = update(LEADERSHIP).where(LEADERSHIP.c.id == BEAT_ROW)
            connection.execute(row.values(number=LEADERSHIP.c.number + 1, doc=self.about))
        term.confirmed(sent_s)

    def resign(self) -> None:
        """Lets go of the lock, and of everything else of its own."""
        with self._using:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.invalidate()  # ends the session, and with it the lock; a return to the pool keeps both
                connection.close()

    def close(self) -> None:
        """The end."""
        self.resign()
        self._engine.dispose()

    def _enthrone(self, connection: Connection) -> int:
        """The next epoch. Nobody of the one before writes any more when it is there."""
        before = _doc(connection, EPOCH_ROW)
        if before and before.get("name") != self.about["name"]:
            connection.execute(_OUST, {"name": sessions_of(str(before["name"]))})
        connection.exec_driver_sql(f"SET lock_timeout = {int(LEASE_S * 1000)}")
        first = insert(LEADERSHIP).values(id=EPOCH_ROW, number=1, doc=self.about)
        following = {"number": LEADERSHIP.c.number + 1, "doc": first.excluded.doc}
        taken = first.on_conflict_do_update(index_elements=["id"], set_=following).returning(LEADERSHIP.c.number)
        epoch = int(connection.execute(taken).scalar_one())
        beat = insert(LEADERSHIP).values(id=BEAT_ROW, number=1, doc=self.about)
        following = {"number": LEADERSHIP.c.number + 1, "doc": beat.excluded.doc}
        connection.execute(beat.on_conflict_do_update(index_elements=["id"], set_=following))
        connection.info["locked"] = True
        return epoch

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        with self._using:
            try:
                if self._connection is None:
                    self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
                    self._connection.info.pop("locked", None)
                yield self._connection
            except SQLAlchemyError as error:
                self.resign()
                raise StorageError(one_line(error)) from error


def _held(connection: Connection) -> Held:
    rows = {row.id: row for row in connection.execute(select(LEADERSHIP))}
    if EPOCH_ROW not in rows or BEAT_ROW not in rows:
        return Held({}, 0, 0)  # it has the lock, and is about to write these for the first time
    return Held(rows[BEAT_ROW].doc or {}, rows[EPOCH_ROW].number, rows[BEAT_ROW].number)


def _number(connection: Connection, row: int) -> int:
    return int(connection.execute(select(LEADERSHIP.c.number).where(LEADERSHIP.c.id == row)).scalar_one())


def _doc(connection: Connection, row: int) -> Doc | None:
    found: Doc | None = connection.execute(select(LEADERSHIP.c.doc).where(LEADERSHIP.c.id == row)).scalar_one_or_none()
    return found
