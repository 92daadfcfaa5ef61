"""When a reading was taken, on a gateway that does not know UTC: a monotonic stamp now, the date once UTC is learned.

A stamp is `life`, the boot number of this gateway, and `up_ms`, its uptime when the reading was taken. The date that is
made of it is marked `corrected`. The stamp of an earlier life says no more than that the reading was taken before this
one began: its date is that instant, marked `estimated`. Either is corrected on the disk too.
"""

from typing import TYPE_CHECKING, Any

import orjson

from nanoclaw.core.outbox import Item, compact

if TYPE_CHECKING:
    from nanoclaw.core.gateway import GatewayCore

MOST_A_STORE = 5_000


class Dating:
    """The readings in the outbox whose date is not known yet."""

    def __init__(self, core: "GatewayCore") -> None:
        self._core = core
        self._unwritten: dict[int, Item] = {}  # corrected, but not on the disk

    @property
    def owing(self) -> bool:
        """Whether something is not dated, or not so on the disk."""
        return bool(self._unwritten or self._core.outbox.undated)

    def stamp(self, entry: dict[str, Any], at_ms: int) -> None:
        """UTC is not known: keep when, in core milliseconds, the reading was taken."""
        entry["life"], entry["up_ms"] = self._core.boot, at_ms - self._core.start_ms

    def correct(self, now_ms: int) -> None:
        """Date all that is not dated, if UTC is known; on a disk that refuses, the next call tries again."""
        core = self._core
        if core.utc_offset_ms is None:
            return
        dated = [self._dated(item) for item in core.outbox.undated.values()]
        core.outbox.undated.clear()
        for item in dated:
            core.outbox.replace(item)
            self._unwritten[item.id] = item
        waiting = [item for item in self._unwritten.values() if core.outbox.holds(item)]
        self._unwritten.clear()
        for first in range(0, len(waiting), MOST_A_STORE):
            self._write(waiting[first : first + MOST_A_STORE])

    def _write(self, items: list[Item]) -> None:
        writes: list[Any] = [("remove", [item.id for item in items])]
        writes += [("add", item.id, item.kind, item.body) for item in items]

        def failed(_now_ms: int) -> None:
            self._unwritten.update((item.id, item) for item in items)

        self._core.stores.persist(writes, lambda _: None, failed)

    def _dated(self, item: Item) -> Item:
        core, entry = self._core, orjson.loads(item.body)
        life, up_ms = entry.pop("life", None), entry.pop("up_ms", 0)
        ours = life == core.boot
        utc_ms = core.utc_ms(core.start_ms + (up_ms if ours else 0))
        entry["utc_ms"] = max(0, utc_ms or 0)
        if not ours:
            entry["time_quality"] = "estimated"
        entry.setdefault("time_quality", "corrected")
        sample = entry["sensor"], entry["metric"], entry.get("value"), entry["utc_ms"]
        return Item(item.id, item.kind, compact(orjson.dumps(entry)), sample)
