"""The life of a manager among others: it follows while another leads, and leads when it is its turn."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from sqlalchemy import URL

from firmware.hosting.clock import Clock
from firmware.hosting.lifecycle import CannotRun
from firmware.hosting.mqtt import Login
from firmware.hosting.trace import Tracer
from fleet.core.vault import Vault, VaultError
from fleet.host.database import Fenced, StorageError, named
from fleet.host.keyring import Keyring
from fleet.host.managers import changes, pulse
from fleet.host.managers.bell import Bell
from fleet.host.managers.broadcast import Broadcaster, hear
from fleet.host.managers.desk import RequestDesk
from fleet.host.managers.envelope import Sealer
from fleet.host.managers.follower import FollowingRuntime
from fleet.host.managers.leadership import Held, Leadership, Stillness, manager_name, sessions_of
from fleet.host.managers.relay import Outbox
from fleet.host.managers.term import BEAT_S, Term
from fleet.host.runtime import Runtime
from fleet.host.stage import Stage
from fleet.host.storage import Storage

LOG = logging.getLogger("clawland.fleet")
POLL_S = 0.5
OWN_HUB = "its own"


class Managers:
    """One process among those that share a database; an asynchronous context."""

    def __init__(
        self,
        database: str | URL,
        vault: Vault,
        keys: Keyring,
        stage: Stage,
        clock: Clock,
        tracer: Tracer,
        hub: str | None,
    ) -> None:
        """`hub`: the address of the Event Hub that all of them use; None for one inside this process."""
        self._database, self._vault, self._keys, self._stage = database, vault, keys, stage
        self._clock, self._tracer, self._hub = clock, tracer, hub
        self.name = manager_name()
        self._leadership = Leadership(database, self._about())
        self._bell = Bell(database, sessions_of(self.name))
        self._sealer = Sealer(keys)
        self._stillness = Stillness()
        self._outbox = Outbox(self.storage(), clock, self._sealer, self._bell)

    async def __aenter__(self) -> "Managers":
        self._bell.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Gone."""
        await self._outbox.close()
        await self._bell.close()
        await asyncio.to_thread(self._leadership.close)

    def storage(self, term: Term | None = None) -> Storage:
        """The database, for the leader of `term` or for a follower."""
        return Storage(self._database, self._vault, fence=term, name=sessions_of(self.name))

    async def enter(self) -> Term | None:
        """The lead, if it is free; None where it is to be awaited. Raises CannotRun where both together cannot work."""
        while True:
            try:
                found = await asyncio.to_thread(self._leadership.campaign)
            except StorageError as error:
                raise CannotRun(f"{named(self._database)}: {error}") from None
            if isinstance(found, Term):
                return found
            if self._hub is not None:
                self._check_fits(found)
                return None
            await self._outlive(found)

    async def follow(self, login: Login, stop: asyncio.Event, ready: Callable[[], None]) -> Term | None:
        """Serves what a follower can until it is to lead; None when it is to stop. `ready` is called when it serves."""
        while not stop.is_set():
            try:
                async with self._following(login):
                    ready()
                    return await self._until_turn(stop)
            except StorageError as error:
                LOG.error("this manager cannot follow: %s", error)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), POLL_S)
        return None

    @contextlib.asynccontextmanager
    async def holding(self, term: Term) -> AsyncIterator[None]:
        """Says that this manager lives, also while its core is being made; then lets the next one lead."""
        task = asyncio.create_task(self._beat(term))
        try:
            yield
        finally:
            await _cancel([task])
            await asyncio.to_thread(self._leadership.resign)

    @contextlib.asynccontextmanager
    async def leading(self, runtime: Runtime, term: Term) -> AsyncIterator[None]:
        """What a leader does beside its core."""
        self._stage.leader = self.name
        desk = RequestDesk(runtime, term, self._sealer, self._bell, self._stage.entrance)
        broadcaster = Broadcaster(runtime, self._bell, self._stage.stream.life)
        runtime.events.write("manager.leading", {"manager": self.name, "epoch": term.epoch}, self._clock.now_ms())
        tasks = [asyncio.create_task(work) for work in (desk.run(), broadcaster.run(), pulse.tell(runtime))]
        try:
            yield
        finally:
            if term.over is not None:
                LOG.error("this manager does not lead any more: %s", term.over)
                told = {"manager": self.name, "epoch": term.epoch, "reason": term.over}
                runtime.events.write("manager.fenced", told, self._clock.now_ms())
            await desk.close()
            await _cancel(tasks)

    async def _beat(self, term: Term) -> None:
        failing = False
        while term.over is None:
            try:
                self._leadership.about = self._about()
                await asyncio.to_thread(self._leadership.beat, term)
                failing = False
            except Fenced as error:
                term.end(str(error))
            except StorageError as error:
                if not failing:
                    LOG.warning("the database does not confirm that this manager leads: %s", error)
                failing = True
            await asyncio.sleep(BEAT_S)

    @contextlib.asynccontextmanager
    async def _following(self, login: Login) -> AsyncIterator[FollowingRuntime]:
        storage = self.storage()
        try:
            found = await asyncio.to_thread(_copied, storage)
            runtime = FollowingRuntime(found, self._clock, storage, login, self._hub or "", self._tracer)
        except VaultError as error:
            storage.close()
            raise StorageError(f"{error}; name the file of data keys with --data-key-file") from error
        except StorageError:
            storage.close()
            raise
        stage = self._stage
        stage.open(runtime, self._keys, found.rows, self._outbox)
        runtime.accounts = stage.accounts
        task = asyncio.create_task(hear(runtime, self._bell, stage.stream))
        try:
            yield runtime
        finally:
            stage.close()
            stage.key_trouble = None
            await _cancel([task])
            await runtime.close()

    async def _until_turn(self, stop: asyncio.Event) -> Term | None:
        runtime = self._stage.runtime
        while not stop.is_set():
            with contextlib.suppress(StorageError):  # said by the follower's own look
                await runtime.current()
            try:
                found = await self._look()
                if isinstance(found, Term):
                    return found
                self._note(found)
            except StorageError:
                self._stillness.reset()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), POLL_S)
        return None

    async def _look(self) -> Term | Held:
        found = await asyncio.to_thread(self._leadership.campaign)
        if isinstance(found, Held) and self._stillness.look(found, asyncio.get_running_loop().time()):
            await asyncio.to_thread(self._leadership.oust, found)
            self._stillness.reset()
        return found

    async def _outlive(self, held: Held) -> None:
        """With a hub of its own a manager is alone; what is left of one that died may take a moment to go."""
        before = (held.epoch, held.beat)
        await asyncio.sleep(BEAT_S + POLL_S)
        found = await self._look()
        if isinstance(found, Term):
            await asyncio.to_thread(self._leadership.resign)
        elif (found.epoch, found.beat) != before and before != (0, 0):
            raise CannotRun(
                f"{named(self._database)}: the manager {found.holder.get('name')} leads there, and this one would have "
                "an Event Hub of its own; several managers need one hub beside them: start each with --hub HOST:PORT"
            )

    def _check_fits(self, held: Held) -> None:
        """Raises CannotRun for a manager that could never take over from that leader."""
        leader = f"{named(self._database)}: the manager {held.holder.get('name')} leads there"
        if held.holder.get("hub") == OWN_HUB:
            message = "with an Event Hub in its own process, which would die with it"
            raise CannotRun(f"{leader} {message}; start it again with --hub HOST:PORT, as this one")
        trouble = self._key_trouble(held)
        if trouble is not None:
            raise CannotRun(f"{leader}, and {trouble}")

    def _note(self, held: Held) -> None:
        name = held.holder.get("name")
        if name is not None and name != self._stage.leader:
            self._stage.leader = str(name)
            told = {"manager": self.name, "leader": name, "epoch": held.epoch}
            self._stage.runtime.events.write("manager.following", told, self._clock.now_ms())
        trouble = self._key_trouble(held)
        if trouble is not None and self._stage.key_trouble is None:
            LOG.error("what this manager hands to %s cannot be read there: %s", name, trouble)
        self._stage.key_trouble = trouble

    def _key_trouble(self, held: Held) -> str | None:
        theirs, mine = held.holder.get("keys"), [name for name, _ in self._keys.views()]
        if not theirs or (theirs[0] in mine and mine[0] in theirs):
            return None
        return "its token keys are others; all managers need the same api.key: copy it from the leader's --data"

    def _about(self) -> dict[str, Any]:
        ids = [name for name, _ in self._keys.views()]
        return {"name": self.name, "hub": self._hub or OWN_HUB, "keys": ids}


def _copied(storage: Storage) -> changes.Copy:
    with storage.reading() as connection:
        return changes.copy(connection)


async def _cancel(tasks: "list[asyncio.Task[None]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
