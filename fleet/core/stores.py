"""What goes to the database: transactions, and what waits for each."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from firmware.wire.outputs import Store
from fleet.core.rows import ReadingRow
from fleet.core.transaction import Transaction
from fleet.wire.uplink import Message

if TYPE_CHECKING:
    from fleet.core.manager import FleetCore

Done = Callable[[int, list[ReadingRow]], None]
"""Called with the time of the commit, in core milliseconds, and the conflicting copies."""
Refresh = Callable[[Transaction], None]
"""Puts rows as they are now in the place of those that were not stored."""
AGAIN_MS = 5_000


class Stores:
    """The Stores that are not answered yet, by token."""

    def __init__(self, core: "FleetCore") -> None:
        self._core = core
        self._token = 0
        self._waiting: dict[int, tuple[Done, Callable[[int], None] | None]] = {}
        self._unwritten: list[tuple[int, Transaction, Refresh]] = []

    @property
    def due_ms(self) -> int | None:
        """When what the database refused is tried again."""
        return min((due_ms for due_ms, _, _ in self._unwritten), default=None)

    def persist(self, writes: list[Any], then: Done | None, failed: Callable[[int], None] | None = None) -> None:
        """Store `writes` as one transaction; `then(now_ms, conflicts)` once committed, `failed(now_ms)` if not."""
        token = None
        if then:
            self._token += 1
            token = self._token
            self._waiting[token] = (then, failed)
        self._core.emit(Store(token, writes))

    def commit(self, tx: Transaction) -> None:
        """Store what `tx` holds as one transaction, and go on from there."""
        self.persist(tx.writes, lambda at_ms, _: tx.committed(at_ms), lambda _: tx.failed())

    def insist(self, tx: Transaction, refresh: Refresh) -> None:
        """Store what `tx` holds, which nobody would repeat: if the database refuses, again until it does not. What
        happened meanwhile must not be overwritten, so the rows are then made anew by `refresh`."""
        self.persist(
            tx.writes,
            lambda at_ms, _: tx.committed(at_ms),
            lambda at_ms: self._unwritten.append((at_ms + AGAIN_MS, tx, refresh)),
        )

    def on_timer(self, now_ms: int) -> None:
        """Try again what is due."""
        if not self._unwritten:
            return
        ready = [entry for entry in self._unwritten if now_ms >= entry[0]]
        self._unwritten = [entry for entry in self._unwritten if now_ms < entry[0]]
        for _, tx, refresh in ready:
            tx.writes.clear()
            refresh(tx)
            self.insist(tx, refresh)

    def save(self, table: str, row: Message) -> None:
        """Keep a row as it is now, without waiting for it."""
        self.persist([("upsert", table, {**row, "doc": dict(row["doc"])})], None)

    def stored(self, token: int, now_ms: int, conflicts: list[ReadingRow]) -> None:
        """The Store with this token is committed."""
        done = self._waiting.pop(token, None)
        if done:
            done[0](now_ms, conflicts)

    def store_failed(self, token: int, reason: str, now_ms: int) -> None:
        """The Store with this token was rolled back: what depends on it does not happen."""
        done = self._waiting.pop(token, None)
        self._core.event("store.failed", {"reason": reason})
        if done and done[1]:
            done[1](now_ms)
