"""Who wants to be woken when: many keys whose time moves on with almost every reading, one deadline."""

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Wakes(Generic[K]):
    """Putting a key off costs one write to a dictionary: its old entry is put back when it comes up too early."""

    def __init__(self) -> None:
        self._due_ms: dict[K, int] = {}
        self._queued_ms: dict[K, int] = {}
        self._heap: list[tuple[int, int, K]] = []
        self._pushed = 0

    @property
    def due_ms(self) -> int | None:
        """When to look again; nobody may be due then."""
        return self._heap[0][0] if self._heap else None

    def set(self, key: K, due_ms: int | None) -> None:
        """Wake `key` then, and not when it was to be woken before; None: not at all."""
        if due_ms is None:
            self._due_ms.pop(key, None)
            return
        self._due_ms[key] = due_ms
        queued_ms = self._queued_ms.get(key)
        if queued_ms is None or due_ms < queued_ms:
            self._push(key, due_ms)

    def take(self, now_ms: int) -> list[K]:
        """Those that are due, in the order of their time; each is woken once."""
        taken = []
        while self._heap and self._heap[0][0] <= now_ms:
            at_ms, _, key = heapq.heappop(self._heap)
            if self._queued_ms.get(key) != at_ms:
                continue  # an entry that an earlier one replaced
            del self._queued_ms[key]
            due_ms = self._due_ms.get(key)
            if due_ms is not None and due_ms > now_ms:
                self._push(key, due_ms)
            elif due_ms is not None:
                del self._due_ms[key]
                taken.append(key)
        return taken

    def _push(self, key: K, due_ms: int) -> None:
        self._pushed += 1  # keys need no order of their own
        self._queued_ms[key] = due_ms
        heapq.heappush(self._heap, (due_ms, self._pushed, key))
