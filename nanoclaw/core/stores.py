"""What goes to the disk: transactions, what waits for each, and the writes that a full disk is still owed."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from firmware.wire.outputs import Store

if TYPE_CHECKING:
    from nanoclaw.core.gateway import GatewayCore

Then = Callable[[int], None]
"""Called with the time, in core milliseconds."""


class _Waiting(NamedTuple):
    """A Store under way: what follows it, all that it writes, and what of that is owed if it fails."""

    then: Then | None
    failed: Then | None
    writes: list[Any]
    owed: list[Any]


class Stores:
    """The Stores that are not answered yet, by token."""

    def __init__(self, core: "GatewayCore") -> None:
        self._core = core
        self._token = 0
        self._waiting: dict[int, _Waiting] = {}
        self._owed = _Owed()
        self.due_ms: int | None = None

    def persist(self, writes: list[Any], then: Then | None, failed: Then | None = None) -> None:
        """Store `writes` as one transaction; `then(now_ms)` once durable, `failed(now_ms)` if not.

        Without `then` nobody waits for the writes, and a disk that refuses is owed them: they go with a later Store.
        """
        owed = self._owed.take()
        everything = owed + writes
        self._token += 1
        self._waiting[self._token] = _Waiting(then, failed, everything, owed if then else everything)
        self._core.emit(Store(self._token, everything))

    def put(self, slot: str, value: Any) -> None:
        """Keep `value` under `slot` (None deletes it), without waiting for it."""
        self.persist([("put", slot, value)], None)

    def stored(self, token: int, now_ms: int) -> None:
        """The Store with this token is durable."""
        done = self._waiting.pop(token, None)
        if done and done.then:
            done.then(now_ms)

    def store_failed(self, token: int, reason: str, now_ms: int) -> None:
        """The Store with this token is not durable: nothing that depends on it happens."""
        done = self._waiting.pop(token, None)
        self._core.event("store.failed", {"reason": reason})
        if done and done.owed:
            overtaken = {write[1] for later in self._waiting.values() for write in later.writes if write[0] == "put"}
            self._owed.put_back([write for write in done.owed if write[0] != "put" or write[1] not in overtaken])
            self.due_ms = now_ms + self._core.config.commit_ms
        if done and done.failed:
            done.failed(now_ms)

    def on_timer(self, now_ms: int) -> None:
        """Try again what the disk is owed, if nothing took it along meanwhile."""
        if self.due_ms is not None and now_ms >= self.due_ms:
            self.due_ms = None
            if self._owed:
                self.persist([], None)


class _Owed:
    """Writes that a disk refused: of each slot the latest, of the outbox the ids to remove, so that it stays small."""

    def __init__(self) -> None:
        self._slots: dict[str, Any] = {}
        self._removed: dict[int, None] = {}

    def __bool__(self) -> bool:
        return bool(self._slots or self._removed)

    def take(self) -> list[Any]:
        """All of it, which is owed no longer."""
        writes: list[Any] = [("put", slot, value) for slot, value in self._slots.items()]
        if self._removed:
            writes.append(("remove", list(self._removed)))
        self._slots, self._removed = {}, {}
        return writes

    def put_back(self, writes: list[Any]) -> None:
        """These failed too: Stores are answered in their order, so they are newer than what is owed by now."""
        for write in writes:
            if write[0] == "put":
                self._slots[write[1]] = write[2]
            else:
                self._removed.update(dict.fromkeys(write[1]))
