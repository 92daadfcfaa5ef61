"""A storm of messages of one kind becomes one line with a count, so that no peer can fill a disk with them."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

WINDOW_S = 10.0
MOST_TEXTS = 10  # different messages of one kind that are written within a window
MOST_KINDS = 1_000

T = TypeVar("T")


@dataclass
class _Window(Generic[T]):
    begun_s: float
    texts: set[str] = field(default_factory=set)
    held: int = 0
    last: T | None = None


class Storms(Generic[T]):
    """Decides which messages are written; the time is pushed in.

    Within a window of `WINDOW_S` a text is written once, and at most `MOST_TEXTS` of one kind are. What was held back
    is told at the window's end, by the last message and a count, and as long as it goes on, once a window.
    """

    def __init__(self) -> None:
        self._windows: OrderedDict[Hashable, _Window[T]] = OrderedDict()

    def admit(self, kind: Hashable, text: str, message: T, now_s: float) -> bool:
        """Whether to write `message` now; ask `over` before."""
        window = self._windows.get(kind)
        if window is None:
            window = self._windows[kind] = _Window(now_s)
            if len(self._windows) > MOST_KINDS:
                self._windows.popitem(last=False)
        if text in window.texts or len(window.texts) >= MOST_TEXTS:
            window.held, window.last = window.held + 1, message
            return False
        window.texts.add(text)
        return True

    def over(self, now_s: float, all_of_them: bool = False) -> list[tuple[T, int]]:
        """Of windows that have ended: the last message that was held back, and how many were."""
        told: list[tuple[T, int]] = []
        for kind, window in list(self._windows.items()):
            if not all_of_them and now_s < window.begun_s + WINDOW_S:
                continue
            if window.last is None:
                del self._windows[kind]
                continue
            told.append((window.last, window.held))
            window.begun_s, window.held, window.last = now_s, 0, None
        return told

    def next_s(self) -> float | None:
        """When `over` will have something to tell."""
        return min((each.begun_s + WINDOW_S for each in self._windows.values() if each.held), default=None)
