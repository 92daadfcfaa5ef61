"""The fleet manager at work: its core, and everything that the core asks for performed for real."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from firmware.hosting.clock import Clock
from firmware.hosting.mqtt import Login, MqttPort
from firmware.hosting.pump import Pump
from firmware.hosting.trace import Tracer
from firmware.wire.outputs import Connect, Disconnect, Notify, Send, Store
from fleet.core.manager import FleetCore
from fleet.core.rows import ReadingRow, Secret, Stored
from fleet.host.latest import LatestCache, MemoryLatest, Values, stored_latest
from fleet.host.managers.term import Term
from fleet.host.notify import Notifier
from fleet.host.storage import Storage, StorageError
from fleet.host.upkeep import Upkeep
from fleet.host.writer import Job, Writer

LOG = logging.getLogger(__name__)
HUB_PORT = "hub"
SUBSCRIPTIONS = tuple(
    f"clawland/+/{verb}" for verb in ("batch", "batch/gz", "heartbeat", "status", "ack", "config/ack")
)
READERS = 2
CLOSE_S = 8.0

T = TypeVar("T")


class EventTap:
    """A tracer that also counts events by kind and tells whoever listens, in the order in which they happen.

    `crowds` are told of the readings of a whole commit, where no trace has to have a line for each.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self.counts: dict[str, int] = {}
        self.listeners: list[Callable[[str, Mapping[str, Any]], None]] = []
        self.crowds: list[Callable[[Sequence[ReadingRow]], None]] = []

    def write(self, kind: str, fields: Mapping[str, Any], now_ms: int) -> None:
        self._tracer.write(kind, fields, now_ms)
        self.counts[kind] = self.counts.get(kind, 0) + 1
        for listener in self.listeners:
            listener(kind, fields)

    def on_stored(self, rows: Sequence[ReadingRow]) -> None:
        """As many events `reading.stored`."""
        self.counts["reading.stored"] = self.counts.get("reading.stored", 0) + len(rows)
        for crowd in self.crowds:
            crowd(rows)


class Runtime:
    """Pumps one core between the hub, the database and the notification services. Made on the running loop."""

    leads = True
    """Whether what is asked for is carried out here."""

    def __init__(
        self,
        core: FleetCore,
        clock: Clock,
        storage: Storage,
        login: Login,
        hub: str,
        tracer: Tracer,
        urls: Sequence[str],
        retention_ms: int | None = None,
        latest: LatestCache | None = None,
        term: Term | None = None,
    ) -> None:
        """`retention_ms`: how old a stored reading gets; None keeps all. `latest`: by default in this process.

        `term`: where several managers share the database, that of this one.
        """
        self.term = term
        self.core, self.clock, self.storage, self.broker = core, clock, storage, hub
        self.events = EventTap(tracer)
        self.counts = {"readings_stored": 0, "transactions": 0, "transactions_failed": 0, "reading_conflicts": 0}
        self.counts["readings_removed"] = 0
        self._failure = ""  # why the last of them did
        self.latest: LatestCache = latest or MemoryLatest()
        self.events.listeners.append(self._on_event)
        self._loop = asyncio.get_running_loop()
        self.writer = Writer(storage, self._tell, Upkeep(storage, clock.utc_ms, retention_ms, self._removed))
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="storage-reader")
        self._notifier = Notifier(urls, self._notified)
        self.pump = Pump(core, clock, self._handlers(), self.events)
        self.hub = MqttPort(HUB_PORT, login, SUBSCRIPTIONS, self.pump, target=hub)

    def start(self) -> None:
        """Lets the core begin. UTC comes first, since it stamps whatever follows."""
        self.writer.start()
        self.latest.start()
        self.pump.feed(self.core.learn_utc, self.clock.utc_ms())
        self.pump.start()

    async def close(self) -> bool:
        """Finishes what is begun: no more input, queued writes written. False when the database is too slow."""
        await self.pump.close()
        await self.hub.close()
        await self._notifier.close()
        await self.latest.close()
        written = await self._loop.run_in_executor(None, self.writer.close, CLOSE_S)
        self._readers.shutdown(wait=False)
        if written:
            self.storage.close()
        return written

    def totals(self) -> dict[str, int]:
        """What can be told as a rate."""
        counts = self.counts
        events = sum(self.events.counts.values())
        rejected = self.events.counts.get("message.rejected", 0)
        return {
            "readings_stored": counts["readings_stored"],
            "transactions": counts["transactions"],
            "events": events,
            "messages_rejected": rejected,
        }

    # what the API asks

    async def current(self) -> None:
        """What the core says from now on is true. Raises StorageError while another manager may lead."""
        if self.term is not None and not self.term.certain:
            raise StorageError(self.term.over or "the database has not confirmed for too long that this manager leads")

    def do(self, method: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Calls an input of the core that may refuse; unlike `Pump.feed` it lets the core's own errors through."""
        return self.pump.ask(lambda now_ms: method(*args, now_ms=now_ms, **kwargs))

    async def read(self, query: Callable[..., T], *args: Any) -> T:
        """Runs `query(connection, *args)` on a reader's thread, in one snapshot. Raises StorageError."""
        return await self._on_thread(self._read, query, args)

    async def write(self, work: Callable[..., T], *args: Any) -> T:
        """Runs `work(connection, *args)` on a thread, in a transaction that writes. Raises StorageError."""
        return await self._on_thread(self._write, work, args)

    async def _on_thread(self, work: Callable[..., T], *args: Any) -> T:
        try:
            return await self._loop.run_in_executor(self._readers, work, *args)
        except RuntimeError:  # of the executor, after `close`
            raise StorageError("this server is stopping, or about to lead or follow") from None

    def _write(self, work: Callable[..., T], args: tuple[Any, ...]) -> T:
        with self.storage.writing() as connection:
            return work(connection, *args)

    def _read(self, query: Callable[..., T], args: tuple[Any, ...]) -> T:
        with self.storage.reading() as connection:
            return query(connection, *args)

    async def latest_of(self, nodes: Sequence[str]) -> dict[str, Values]:
        """The latest values of each of `nodes`, by metric. Raises StorageError."""
        found = await self.latest.find(nodes)
        missing = [node for node in nodes if node not in found.known]
        if not missing:
            return found.known
        read = {node: self._closed(node, values) for node, values in (await self.read(stored_latest, missing)).items()}
        await self.latest.fill(read, found.state)
        return found.known | read

    def _closed(self, node: str, values: Values) -> Values:
        """What was stored openly and is sensitive by now goes into no cache openly."""
        found = dict(values)
        for metric, at in values.items():
            if self.core.sensitive.holds(node, metric) and not isinstance(at.value, Secret):
                found[metric] = at._replace(value=Secret(at.value))
        return found

    async def save(self, writes: Sequence[Any]) -> None:
        """Stores what is not the core's, as one transaction. Raises StorageError."""
        await self._written(writes)

    async def committed(self) -> None:
        """Waits until everything that was asked to be stored so far is on disk. Raises StorageError, also when some
        of it was rolled back: be it another request's, it is safer to be asked again."""
        before = self.counts["transactions_failed"]
        await self._written([])
        if self.counts["transactions_failed"] != before:
            raise StorageError(self._failure)

    async def _written(self, writes: Sequence[Any]) -> None:
        done: asyncio.Future[str | None] = self._loop.create_future()
        self.writer.submit(writes, lambda _conflicts, reason: _answer(done, reason))
        reason = await done
        if reason is not None:
            raise StorageError(reason)

    # what the core asks

    def _handlers(self) -> dict[type, Callable[[Any], None]]:
        return {
            Send: lambda output: self._send(output.topic, output.payload),
            Store: self._store,
            Stored: lambda output: self.events.on_stored(output.rows),
            Connect: lambda output: self.hub.connect(output.target),
            Disconnect: lambda output: self.hub.disconnect(),
            Notify: self._notify,
        }

    def _notify(self, output: Any) -> None:
        """Unless another manager may tell people the same by now; the message is stored, and keeps its id."""
        if self.term is None or self.term.certain:
            self._notifier.deliver(output.message_id, output.subject, output.body)

    def _send(self, topic: str, payload: bytes) -> None:
        self.hub.send(topic, payload)

    def _store(self, output: Any) -> None:
        """Stores queue up while later outputs go on: the core itself holds back what depends on one."""
        done = None if output.token is None else partial(self._stored, output.token, output.writes)
        self.writer.submit(output.writes, done)

    def _stored(self, token: int, writes: Sequence[Any], conflicts: list[ReadingRow], reason: str | None) -> None:
        if reason is not None:
            self.counts["transactions_failed"] += 1
            self._failure = reason
            self.pump.feed(self.core.store_failed, token, reason)
            return
        self.counts["transactions"] += 1
        self.counts["readings_stored"] += sum(len(write[1]) for write in writes if write[0] == "readings")
        self.counts["reading_conflicts"] += len(conflicts)
        for write in writes:
            if write[0] == "readings":
                self.latest.note(write[1] if not conflicts else [row for row in write[1] if row not in conflicts])
        self.pump.feed(self.core.stored, token, conflicts=conflicts)

    def _tell(self, jobs: list[Job]) -> None:
        """From the writer's thread: its finished jobs, to the loop."""
        try:
            self._loop.call_soon_threadsafe(_finish, jobs)
        except RuntimeError:
            LOG.debug("the loop closed before %d stores were answered", len(jobs))

    def _on_event(self, kind: str, fields: Mapping[str, Any]) -> None:
        if kind in ("node.up", "node.down", "gateway.up", "gateway.down"):
            self.latest.note_alive(str(fields[kind.partition(".")[0]]))
        elif kind in ("sensitive.changed", "sealing.changed"):
            self.latest.clear()

    def _removed(self, readings: int) -> None:
        """From the writer's thread, the only one that counts these."""
        self.counts["readings_removed"] += readings
        with contextlib.suppress(RuntimeError):  # the loop has closed
            self._loop.call_soon_threadsafe(self.latest.clear)

    def _notified(self, message_id: str, ok: bool) -> None:
        self.pump.feed(self.core.notified, message_id, ok)


def _answer(waiting: "asyncio.Future[str | None]", reason: str | None) -> None:
    if not waiting.done():
        waiting.set_result(reason)


def _finish(jobs: list[Job]) -> None:
    for job in jobs:
        if job.done is not None:
            job.done(*job.result)
