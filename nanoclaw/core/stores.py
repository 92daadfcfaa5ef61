"""What goes to the disk: transactions, what waits for each, and the writes that a full disk is still owed."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from firmware.wire.outputs import Store

if TYPE_CHECKING:
    from nanoclaw.core.gateway import GatewayCore

Then = Callable[[int], None]
"""Called with the time, in core milliseconds."""


class Stores:
    """The Stores that are not answered yet, by token."""

    def __init__(self, core: "GatewayCore") -> None:
        self._core = core
        self._token = 0
        self._waiting: dict[int, tuple[Then | None, Then | None, list[Any]]] = {}
        self._owed: list[Any] = []
        self.due_ms: int | None = None

    def persist(self, writes: list[Any], then: Then | None, failed: Then | None = None) -> None:
        """Store `writes` as one transaction; `then(now_ms)` once durable, `failed(now_ms)` if not.

        Without `then` nobody waits for the writes, and a disk that refuses is owed them: they go with a later Store.
        """
        owed, self._owed = self._owed, []
        kept = owed if then else owed + writes
        self._token += 1
        self._waiting[self._token] = (then, failed, kept)
        self._core.emit(Store(self._token, owed + writes))

    def put(self, slot: str, value: Any) -> None:
        """Keep `value` under `slot` (None deletes it), without waiting for it."""
        self.persist([("put", slot, value)], None)

    def stored(self, token: int, now_ms: int) -> None:
        """The Store with this token is durable."""
        done = self._waiting.pop(token, None)
        if done and done[0]:
            done[0](now_ms)

    def store_failed(self, token: int, reason: str, now_ms: int) -> None:
        """The Store with this token is not durable: nothing that depends on it happens."""
        done = self._waiting.pop(token, None)
        self._core.event("store.failed", {"reason": reason})
        if done and done[2]:
            self._owed = done[2] + self._owed
            self.due_ms = now_ms + self._core.config.commit_ms
        if done and done[1]:
            done[1](now_ms)

    def on_timer(self, now_ms: int) -> None:
        """Try again what the disk is owed, if nothing took it along meanwhile."""
        if self.due_ms is not None and now_ms >= self.due_ms:
            self.due_ms = None
            if self._owed:
                self.persist([], None)
