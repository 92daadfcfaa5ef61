"""News between managers by PostgreSQL's LISTEN and NOTIFY: quick, and never relied on.

Whoever waits for news also looks by itself now and then, so that a lost connection costs a moment and nothing else.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any, LiteralString

from sqlalchemy import URL, Connection, make_url, text

from fleet.host.database import one_line, postgresql_arguments

LOG = logging.getLogger(__name__)
ASKED, ANSWERED = "clawland_asked", "clawland_answered"
HEARING, HAPPENED = "clawland_hearing", "clawland_happened"
_LISTEN: tuple[LiteralString, ...] = (
    "LISTEN clawland_asked",
    "LISTEN clawland_answered",
    "LISTEN clawland_hearing",
    "LISTEN clawland_happened",
)
AGAIN_S = 1.0
MOST_BYTES = 7_900  # of a payload; PostgreSQL's limit is 8,000

Listener = Callable[[str], None]
_NOTIFY = text("SELECT pg_notify(:channel, :payload)")


def ring(connection: Connection, channel: str, payload: str = "") -> None:
    """Told to everybody when the transaction of `connection` commits."""
    connection.execute(_NOTIFY, {"channel": channel, "payload": payload})


class Bell:
    """One connection that hears; `listeners` by channel are called on the loop."""

    def __init__(self, url: str | URL, name: str) -> None:
        """`name`: under which the server lists the connection."""
        found = make_url(url)
        where: dict[str, Any] = {
            "host": found.host,
            "port": found.port,
            "user": found.username,
            "password": found.password,
        }
        where |= {"dbname": found.database} | dict(found.query)
        self._arguments: dict[str, Any] = {key: value for key, value in where.items() if value is not None}
        self._arguments |= postgresql_arguments(name) | {"autocommit": True}
        self.listeners: dict[str, list[Listener]] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Hears from soon on, until `close`."""
        self._task = asyncio.create_task(self._hear())

    async def close(self) -> None:
        """Hears no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @contextlib.contextmanager
    def listening(self, channel: str, listener: Listener) -> Iterator[None]:
        """`listener` is called for each message on `channel` inside the block."""
        self.listeners.setdefault(channel, []).append(listener)
        try:
            yield
        finally:
            self.listeners[channel].remove(listener)

    async def _hear(self) -> None:
        import psycopg  # takes an eighth of a second to load, and a manager that is alone needs it not at all

        failing = False
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(**self._arguments) as connection:
                    for statement in _LISTEN:
                        await connection.execute(statement)
                    failing = False
                    async for heard in connection.notifies():
                        for listener in list(self.listeners.get(heard.channel, ())):
                            listener(heard.payload)
            except psycopg.Error as error:
                if not failing:
                    LOG.info("news from other managers come late for a while: %s", one_line(error))
                failing = True
            await asyncio.sleep(AGAIN_S)
