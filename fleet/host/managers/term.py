"""A manager's time as the leader: its epoch, which every commit checks, and how sure it may be that it still leads."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Connection, insert, select

from fleet.host.database import Fenced
from fleet.host.storage import Write, row_key
from fleet.host.tables import CHANGES, LEADERSHIP

EPOCH_ROW, BEAT_ROW = 1, 2
BEAT_S = 1.0
LEASE_S = 5.0
"""Without a heartbeat for so long, a leader serves nothing more and the next one ousts it."""


class Term:
    """From the taking of the lock to its loss; a `Fence` for the leader's storage."""

    def __init__(self, epoch: int, begun_s: float, now_s: Callable[[], float] = time.monotonic) -> None:
        """`begun_s`: on the clock `now_s`, no later than the moment in which the lock was taken."""
        self.epoch = epoch
        self.over: str | None = None
        """Why this manager does not lead any more."""
        self._ended: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._heard_s, self._now_s = begun_s, now_s

    @property
    def certain(self) -> bool:
        """Whether nobody else can lead at this moment; what a leader remembers is the truth only then."""
        return self.over is None and self._now_s() - self._heard_s < LEASE_S

    def confirmed(self, at_s: float) -> None:
        """A heartbeat that was sent at `at_s` has reached the database."""
        self._heard_s = at_s

    def end(self, reason: str) -> None:
        """It is over; what is said later changes nothing. On whichever thread notices."""
        if self.over is None:
            self.over = reason
            if self._loop is not None and self._ended is not None:
                with contextlib.suppress(RuntimeError):  # the loop has closed
                    self._loop.call_soon_threadsafe(self._ended.set)

    async def ended(self) -> None:
        """Waits until it is over."""
        self._ended, self._loop = asyncio.Event(), asyncio.get_running_loop()
        if self.over is None:
            await self._ended.wait()

    def check(self, connection: Connection) -> None:
        """See `storage.Fence`. The shared lock on the row makes whoever wants the next epoch wait for this commit."""
        query = select(LEADERSHIP.c.number).where(LEADERSHIP.c.id == EPOCH_ROW).with_for_update(read=True)
        found = connection.execute(query).scalar_one()
        if found != self.epoch:
            self.end(f"another manager leads since epoch {found}; this one led in epoch {self.epoch}")
            raise Fenced(str(self.over))

    def journal(self, connection: Connection, writes: Iterable[Write]) -> None:
        """See `storage.Fence`."""
        touched: dict[tuple[str, str], Any] = {
            (write[1], row_key(write)): None for write in writes if write[0] in ("upsert", "delete")
        }
        if touched:
            connection.execute(insert(CHANGES).values(epoch=self.epoch, doc=[list(each) for each in touched]))
