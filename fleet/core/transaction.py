"""What one transition changes: rows that are committed together, what follows the commit, what a failure takes back."""

from collections.abc import Callable
from typing import Any

from fleet.wire.terms import Undo

After = Callable[[int], None]
"""Called with the time of the commit, in core milliseconds."""


class Transaction:
    """Collected by the concerns that a message touches, committed by the core as one Store."""

    __slots__ = ("after", "undo", "writes")

    def __init__(self) -> None:
        self.writes: list[Any] = []
        self.after: list[After] = []
        self.undo: list[Undo] = []

    def upsert(self, table: str, row: dict[str, Any]) -> None:
        """Write a row as it is now."""
        kept = dict(row)
        if "doc" in kept:
            kept["doc"] = dict(kept["doc"])
        self.writes.append(("upsert", table, kept))

    def join(self, other: "Transaction") -> None:
        """What `other` holds is committed together with this, or not at all."""
        self.writes += other.writes
        self.after += other.after
        self.undo += other.undo

    def committed(self, now_ms: int) -> None:
        """The rows are durable."""
        for follow in self.after:
            follow(now_ms)

    def failed(self) -> None:
        """Nothing was written: memory goes back to what it was."""
        for undo in reversed(self.undo):
            undo()
