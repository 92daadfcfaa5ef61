"""What this gateway decided and did by itself, for people: kept on disk, the oldest goes.

Each entry is written in the transaction of what it tells of, so that neither is there without the other. What the
cloud has to know travels as a report of its own; an entry names it, which shows whether it has arrived.
"""

from collections import deque
from typing import TYPE_CHECKING, Any

from fleet.wire.uplink import Message

if TYPE_CHECKING:
    from nanoclaw.core.gateway import GatewayCore

SLOT = "journal:"
MOST_ENTRIES = 1_000
Write = tuple[str, str, Any]


class Journal:
    """The latest entries."""

    def __init__(self, core: "GatewayCore") -> None:
        self._core = core
        self._numbers: deque[int] = deque()
        self._episodes: deque[str] = deque(maxlen=MOST_ENTRIES)

    def restore(self) -> None:
        """What was written before the gateway restarted."""
        for number, entry in entries_of(self._core.slots):
            self._numbers.append(number)
            if "alert" in entry:
                self._episodes.append(entry["alert"])

    def knows(self, episode: str) -> bool:
        """Whether an episode of that id was decided of late."""
        return episode in self._episodes

    def note(self, what: str, fields: Message, now_ms: int) -> list[Write]:
        """The writes that keep an entry; they go with what it tells of."""
        number = self._numbers[-1] + 1 if self._numbers else 0
        self._numbers.append(number)
        if "alert" in fields:
            self._episodes.append(fields["alert"])
        writes: list[Write] = [("put", f"{SLOT}{number}", {"utc_ms": self._core.utc_ms(now_ms), "what": what} | fields)]
        while len(self._numbers) > MOST_ENTRIES:
            writes.append(("put", f"{SLOT}{self._numbers.popleft()}", None))
        return writes

    def write(self, what: str, fields: Message, now_ms: int) -> None:
        """Keep an entry that nothing else is written with."""
        self._core.stores.persist(self.note(what, fields, now_ms), None)


def entries_of(slots: dict[str, Any]) -> list[tuple[int, Message]]:
    """The entries among a gateway's slots, numbered, the oldest first."""
    found = [(int(name.removeprefix(SLOT)), entry) for name, entry in slots.items() if name.startswith(SLOT)]
    return sorted(found, key=lambda one: one[0])
