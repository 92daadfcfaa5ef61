"""The one thread that writes: stores queue up, share a transaction where they can, and are answered in order.

A disk takes about as long to confirm sixty transactions as sixty thousand rows in one, so whatever waits when the last
commit returns goes into the next one together.
"""

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fleet.core.rows import ReadingRow
from fleet.host.storage import Storage, StorageError, Write, row_key
from fleet.host.upkeep import Upkeep

LOG = logging.getLogger(__name__)
MAX_GROUP = 64
MAX_WAITING = 10_000
RETRY_S = 1.0

Done = Callable[[list[ReadingRow], "str | None"], None]


@dataclass(slots=True)
class Job:
    """One store: its writes, and who is told (conflicts, reason of failure or None)."""

    writes: Sequence[Write]
    done: Done | None
    result: tuple[list[ReadingRow], str | None] = field(default=([], None))


class Writer:
    """Performs stores on its own thread and calls `tell(finished jobs)` there, in the order of submission.

    Writes that nobody waits for are never dropped: when their transaction fails, the latest of each row is owed, and
    paid before anything newer as soon as the database takes it.
    """

    def __init__(self, storage: Storage, tell: Callable[[list[Job]], None], upkeep: Upkeep | None = None) -> None:
        """`upkeep` is given a step whenever one is due, between transactions."""
        self._storage, self._tell, self._upkeep = storage, tell, upkeep
        self._jobs: queue.Queue[Job | None] = queue.Queue()
        self._owed: dict[tuple[object, ...], Write] = {}
        self.failing: str | None = None  # why the database cannot be written at the moment
        self._closed, self._ending = False, threading.Lock()
        self._thread = threading.Thread(target=self._run, name="storage-writer", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Stores that are queued and not yet taken up."""
        return self._jobs.qsize()

    def submit(self, writes: Sequence[Write], done: Done | None) -> None:
        """Queues one store; with `MAX_WAITING` ahead of it, or after `close`, it fails at once."""
        job = Job(writes, done)
        with self._ending:
            refusal = self._refusal(done is not None)
            if refusal is None:
                self._jobs.put(job)
        if refusal is not None:
            job.result = ([], refusal)
            self._tell([job])

    def _refusal(self, awaited: bool) -> str | None:
        if self._closed:
            return "this server is stopping"
        full = awaited and self.waiting >= MAX_WAITING
        return f"{MAX_WAITING} transactions are waiting already" if full else None

    def close(self, timeout_s: float) -> bool:
        """Writes what is queued and ends the thread; False when that takes longer than `timeout_s`."""
        with self._ending:
            self._closed = True
            self._jobs.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        open_for_more = True
        while open_for_more:
            group, open_for_more = self._next_group()
            if group:
                self._perform(group)
                self._tell(group)
            elif self._owed or self.failing:
                self._retry()
            if open_for_more and self._upkeep and self.failing is None and self._upkeep.wait_s() == 0:
                self._upkeep.step()

    def _next_group(self) -> tuple[list[Job], bool]:
        """What is queued, at most `MAX_GROUP`, and whether more may come; waits for the first."""
        group: list[Job] = []
        wait_s = self._wait_s()
        while len(group) < MAX_GROUP:
            try:
                job = self._jobs.get(block=not group, timeout=wait_s)
            except queue.Empty:
                break
            if job is None:
                return group, False
            group.append(job)
        return group, True

    def _wait_s(self) -> float | None:
        """How long to wait for a job before something else is due."""
        if self._owed or self.failing:
            return RETRY_S
        return self._upkeep.wait_s() if self._upkeep else None

    def _perform(self, group: list[Job]) -> None:
        if self.failing is not None and not any(job.writes for job in group):
            # Who asks whether all is on disk is told that it is not: an empty transaction would prove nothing.
            self._failed(group, StorageError(self.failing))
            return
        try:
            self._pay()
            found = self._storage.perform_all([job.writes for job in group])
        except StorageError as error:
            if error.bad_data and len(group) > 1:
                self._one_by_one(group)
            else:
                self._failed(group, error)
            return
        for job, conflicts in zip(group, found, strict=True):
            job.result = (conflicts, None)
        self._recovered()

    def _one_by_one(self, group: list[Job]) -> None:
        """Among these is one that can never be stored: each gets its own transaction, so that its neighbours live."""
        for job in group:
            self._perform([job])

    def _failed(self, group: list[Job], error: StorageError) -> None:
        if error.bad_data:
            LOG.error("a transaction cannot be stored: %s", error)
        elif self.failing is None:
            LOG.error("the database fails: %s", error)
        if not error.bad_data:
            self.failing = str(error)
        for job in group:
            job.result = ([], str(error))
            if job.done is None and not error.bad_data:
                self._owe(job.writes)

    def _owe(self, writes: Sequence[Write]) -> None:
        for write in writes:
            key = (write[1], row_key(write)) if write[0] in ("upsert", "delete") else (len(self._owed),)
            self._owed.pop(key, None)
            self._owed[key] = write

    def _retry(self) -> None:
        try:
            self._storage.probe()
            self._pay()
            self._recovered()
        except StorageError as error:
            self._failed([], error)

    def _pay(self) -> None:
        """Writes what is owed. Raises StorageError while the database fails."""
        if not self._owed:
            return
        try:
            self._storage.perform(list(self._owed.values()))
        except StorageError as error:
            if not error.bad_data:
                raise
            LOG.error("%d rows are lost, they cannot be stored: %s", len(self._owed), error)
        self._owed.clear()

    def _recovered(self) -> None:
        if self.failing is not None:
            LOG.warning("the database works again")
        self.failing = None
