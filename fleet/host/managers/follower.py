"""What the routes of a manager that does not lead work with: a mirror of the leader's rows, and the database."""

import asyncio
import logging
import random
from collections.abc import Sequence

from firmware.hosting.clock import Clock
from firmware.hosting.mqtt import Login
from firmware.hosting.trace import Tracer
from fleet.core.config import FleetConfig
from fleet.core.mirror import Mirror
from fleet.core.vault import VaultError
from fleet.host.accounts import Accounts
from fleet.host.latest import Values, stored_latest
from fleet.host.managers import changes
from fleet.host.managers.changes import ACCOUNTS, Copy, News
from fleet.host.runtime import Runtime
from fleet.host.storage import Storage, StorageError

LOG = logging.getLogger(__name__)


class FollowingRuntime(Runtime):
    """A runtime that pumps nothing: its core is a mirror, brought up to date before each request."""

    leads = False

    def __init__(self, found: Copy, clock: Clock, storage: Storage, login: Login, hub: str, tracer: Tracer) -> None:
        self.mirror = Mirror(FleetConfig(), found.rows, random.Random(0), clock.now_ms(), storage.vault)
        super().__init__(self.mirror, clock, storage, login, hub, tracer, [])
        self.version = found.version
        self.accounts: Accounts | None = None
        """Kept up to date too, once they are there."""
        self._refreshing = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None

    def start(self) -> None:
        """There is nothing to begin."""

    async def close(self) -> bool:
        """Lets go of the database."""
        self._readers.shutdown(wait=False)
        self.storage.close()
        return True

    async def current(self) -> None:
        """Shows at least what was committed before this call; calls that wait share a look. Raises StorageError."""
        if self._next is None:
            self._next = asyncio.create_task(self._refresh())
            self._next.add_done_callback(_seen)
        await asyncio.shield(self._next)

    async def latest_of(self, nodes: Sequence[str]) -> dict[str, Values]:
        """From the database: the leader's cache is the leader's."""
        return await self.read(stored_latest, nodes)

    async def _refresh(self) -> None:
        async with self._refreshing:
            self._next = None  # who comes from now on may have seen a later commit
            try:
                found = await self.read(changes.news, self.version)
                if found is None:
                    self._take_all(await self.read(changes.copy))
                else:
                    self._take(found)
            except (StorageError, VaultError) as error:
                self._failed(error)
                raise StorageError(str(error)) from error
            self.writer.failing = None

    def _failed(self, error: StorageError | VaultError) -> None:
        if self.writer.failing is None:
            LOG.error("this manager cannot follow: %s", error)
        self.writer.failing = str(error)

    def _take(self, found: News) -> None:
        self.version = found.version
        if not found.changed:
            return
        self.mirror.show(found.changed)
        if self.accounts is not None:
            self.accounts.show(each for each in found.changed if each[0] in ACCOUNTS)

    def _take_all(self, found: Copy) -> None:
        """So many changes were missed that nobody lists them any more."""
        LOG.warning("too far behind the leader; everything is read again")
        self.version = found.version
        self.mirror = Mirror(FleetConfig(), found.rows, random.Random(0), self.clock.now_ms(), self.storage.vault)
        self.core = self.mirror
        if self.accounts is not None:
            self.accounts.show_all(found.rows["users"], found.rows["tokens"])


def _seen(done: "asyncio.Task[None]") -> None:
    """Whoever waited for it has been told; where nobody waits any more, nobody misses it."""
    if not done.cancelled():
        done.exception()
