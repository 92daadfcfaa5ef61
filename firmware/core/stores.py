"""What goes to flash: writes that something waits for, those that nobody does, and those that flash refused."""

from firmware.wire.outputs import Store

STORE_AGAIN_MS = 5000


class Stores:
    """The Stores that are not answered yet, by token, and the writes to try again."""

    def __init__(self, core) -> None:
        self._core = core
        self._token = 0
        self._waiting: dict = {}
        self.again: dict = {}  # by what they are about: when to try again, the write, what then follows

    def persist(self, write: tuple, then, failed=None) -> None:
        """Store `write`; `then(now_ms)` runs once it is durable. If it fails: `failed(now_ms)`, or another try."""
        self._token += 1
        self._waiting[self._token] = (write, then, failed)
        self._core.emit(Store(self._token, [write]))

    def together(self, writes: "list[tuple]", then, failed) -> None:
        """Store `writes` as one; `then(now_ms)` runs once they are durable, `failed(now_ms)` if they cannot be."""
        self._token += 1
        self._waiting[self._token] = (None, then, failed)
        self._core.emit(Store(self._token, writes))

    def later(self, write: tuple) -> None:
        """Store `write`, without waiting for it."""
        self._core.emit(Store(None, [write]))

    def stored(self, token: int, now_ms: int) -> None:
        """The Store with this token is durable."""
        found = self._waiting.pop(token, None)
        if found and found[1]:
            found[1](now_ms)

    def failed(self, token: int, reason: str, now_ms: int) -> None:
        """The Store with this token could not be made durable: what depends on it does not happen."""
        found = self._waiting.pop(token, None)
        self._core.event("store.failed", {"reason": reason})
        if found and found[2]:
            found[2](now_ms)
        elif found:
            self._try_again(found[0], found[1], now_ms)

    def refused(self, writes: list, reason: str, now_ms: int) -> None:
        """Flash refused writes that nobody waits for; what they are about would not survive a loss of power."""
        self._core.event("store.failed", {"reason": reason})
        for write in writes:
            self._try_again(write, None, now_ms)

    def due_ms(self) -> "int | None":
        """When a refused write is tried again."""
        return min([entry[0] for entry in self.again.values()]) if self.again else None

    def on_timer(self, now_ms: int) -> None:
        """Try again what is due, as far as it still matters."""
        if not self.again:
            return
        due = [key for key in self.again if now_ms >= self.again[key][0]]
        for key in due:
            _, write, then = self.again.pop(key)
            if write[0] != "keep" or self._core.backlog.has(write[1], write[2]):
                self.persist(write, then)

    def _try_again(self, write: tuple, then, now_ms: int) -> None:
        """Of a slot the latest; readings are as many as the backlog holds."""
        self.again[write[:2] if write[0] == "put" else write[:3]] = (now_ms + STORE_AGAIN_MS, write, then)
