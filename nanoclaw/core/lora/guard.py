"""Which frames of a node have come already: a replayed one is refused, also after a restart of the gateway."""

from typing import Any

from fleet.wire.ranges import SeqRanges

MOST_RANGES = 64
MOST_BEFORE = 4_096
"""A boot number is one more at each power-up: so many below one that was heard are over, heard or not. What is beyond
may be a board whose flash was lost, which draws any number."""


class Guard:
    """Boot and count of the last frame, and the boots that are over: a boot number never comes back."""

    def __init__(self, kept: dict[str, Any] | None = None) -> None:
        """`kept`: what `as_slot` gave."""
        kept = kept or {}
        self.boot: int | None = kept.get("boot")
        self.count: int = kept.get("count", -1)
        self._over = SeqRanges([(first, last) for first, last in kept.get("over", [])])

    def is_new(self, boot: int, count: int) -> bool:
        """Whether this frame is later than all that have come."""
        return count > self.count if boot == self.boot else boot not in self._over

    def take(self, boot: int, count: int) -> None:
        """This frame has come, and is new."""
        if boot != self.boot:
            for over in range(boot - 1 if boot - 1 == self.boot else max(0, boot - MOST_BEFORE), boot):
                self._over.add(over)
            if self.boot is not None:
                self._over.add(self.boot)
            self._over.shrink(MOST_RANGES)
        self.boot, self.count = boot, count

    def as_slot(self) -> dict[str, Any]:
        """What has to survive a restart of the gateway."""
        return {"boot": self.boot, "count": self.count, "over": [list(each) for each in self._over]}
