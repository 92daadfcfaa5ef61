"""What the gateway has on disk for the cloud: readings and reports, kept until acknowledged.

Readings travel in batches: those of the window that just closed at once (live), older ones (the backlog) in their own
order, one batch in flight. Reports (node states, offline decisions, answers to commands) travel alone and before
readings.
"""

from collections import OrderedDict
from collections.abc import Iterable
from itertools import chain
from typing import Any, NamedTuple

import orjson

from fleet.wire.uplink import MAX_BATCH_BYTES, MAX_BATCH_READINGS, Message

READING, REPORT = "reading", "report"
SUMMING = "summing"  # a reading that is to become a part of a summary
READINGS = (READING, SUMMING)
USUAL_BYTES = 150  # of a reading, while there is none to measure
_ROOM_BYTES = MAX_BATCH_BYTES - 64 * 1024  # for ids and statistics


Sample = tuple[str, str, Any, int | None]
"""(sensor, metric, value, UTC in ms) of a reading; the value is None when it is sealed."""


class Item(NamedTuple):
    """One row of the outbox; a reading made in this run also carries its sample, so that nobody parses it again."""

    id: int
    kind: str
    body: bytes
    sample: Sample | None = None

    def read_sample(self) -> Sample:
        """The sample, parsed anew of a reading of before a restart."""
        return self.sample or _sample(self.body)


class Batch:
    """Readings sent as one message and not yet acknowledged."""

    __slots__ = ("first", "id", "items", "live", "sent_ms")

    def __init__(self, batch_id: str, items: list[Item], live: bool) -> None:
        self.id = batch_id
        self.items = items
        self.live = live
        self.first = items[0].id
        self.sent_ms = 0


def compact(text: bytes) -> bytes:
    """A copy in as much memory as it needs: what orjson makes keeps 4 KB for 100 bytes, and an outbox keeps many."""
    return bytes(memoryview(text))


def reading_identity(body: bytes) -> tuple[str, int, int]:
    """(node, boot, seq) of a stored reading."""
    reading = orjson.loads(body)
    return reading["sensor"], reading["boot"], reading["seq"]


class Outbox:
    """The rows that are durable, by what is to be done with them next."""

    def __init__(self, restored: Iterable[tuple[int, str, bytes]]) -> None:
        self.waiting: OrderedDict[int, Item] = OrderedDict()  # readings in no batch
        self.flying: dict[str, Batch] = {}
        self.summing: dict[int, Item] = {}
        self.undated: dict[int, Item] = {}  # of those that wait, the ones without a date
        self.bytes = 0  # of all readings kept
        self.reports: OrderedDict[int, Item] = OrderedDict()
        self.report_sent_ms: dict[int, int] = {}
        self._report_ids: dict[str, int] = {}  # by the name under which the cloud acknowledges
        self.next_id = 1
        for row in restored:
            item = Item(*row)
            self.add(item)
            if item.kind != REPORT and b'"utc_ms"' not in item.body:
                self.undated[item.id] = item
            self.next_id = max(self.next_id, row[0] + 1)

    def __len__(self) -> int:
        """Readings kept."""
        return len(self.waiting) + len(self.summing) + sum(len(batch.items) for batch in self.flying.values())

    def add(self, item: Item) -> None:
        """`item` is durable now."""
        if item.kind == REPORT:
            self.reports[item.id] = item
            self._report_ids[_report_name(item)] = item.id
            return
        if item.kind == SUMMING:
            self.summing[item.id] = item
        else:
            self.waiting[item.id] = item
        self.bytes += len(item.body)
        if item.sample is not None and item.sample[3] is None:
            self.undated[item.id] = item

    def replace(self, item: Item) -> None:
        """`item` has another body by now, wherever it is; nothing if it is kept no longer."""
        if item.id in self.waiting:
            self._swap(self.waiting[item.id], item)
            self.waiting[item.id] = item
        elif item.id in self.summing:
            self._swap(self.summing[item.id], item)
            self.summing[item.id] = item
        else:
            for batch in self.flying.values():
                for place, old in enumerate(batch.items):
                    if old.id == item.id:
                        self._swap(old, item)
                        batch.items[place] = item

    def _swap(self, old: Item, new: Item) -> None:
        self.bytes += len(new.body) - len(old.body)

    def holds(self, item: Item) -> bool:
        """Whether this very item is kept."""
        if self.waiting.get(item.id) is item or self.summing.get(item.id) is item:
            return True
        return any(item in batch.items for batch in self.flying.values())

    def batch(self, batch_id: str, below: int | None, at_least: int, most: int, live: bool) -> Batch | None:
        """A new batch in flight of the oldest waiting readings with ids from `at_least` to below `below`."""
        chosen: list[Item] = []
        size = 0
        most = min(most, MAX_BATCH_READINGS)
        for item in self.waiting.values():
            if item.id < at_least:
                continue
            size += len(item.body) + 1
            if (below is not None and item.id >= below) or len(chosen) == most or size > _ROOM_BYTES:
                break
            chosen.append(item)
        if not chosen:
            return None
        for item in chosen:
            del self.waiting[item.id]
        batch = self.flying[batch_id] = Batch(batch_id, chosen, live)
        return batch

    def take_summing(self, below: int) -> list[Item]:
        """Those to be summarised with ids below `below`; their rows stay on disk until the summary is there.

        What has no date yet waits for it: a summary is never dated afterwards.
        """
        taken = [item for item in self.summing.values() if item.id < below and item.id not in self.undated]
        for item in taken:
            del self.summing[item.id]
            self._gone(item)
        return taken

    def _gone(self, item: Item) -> None:
        self.bytes -= len(item.body)
        self.undated.pop(item.id, None)

    def backlog(self, below: int) -> int:
        """How many waiting readings have ids below `below`."""
        if not self.waiting or next(iter(self.waiting)) >= below:
            return 0
        return sum(1 for item_id in self.waiting if item_id < below)

    def acknowledged(self, batch_id: str) -> Batch | None:
        """The batch, which is now the cloud's to keep; None for an unknown or repeated acknowledgement."""
        batch = self.flying.pop(batch_id, None)
        if batch is not None:
            self.bytes -= sum([len(item.body) for item in batch.items])
            if self.undated:
                for item in batch.items:
                    self.undated.pop(item.id, None)
        return batch

    def report_id(self, name: str) -> int | None:
        """The report that the cloud calls `name`, or None."""
        return self._report_ids.get(name)

    def drop_report(self, item_id: int) -> None:
        """Keep that report no longer."""
        self.report_sent_ms.pop(item_id, None)
        del self._report_ids[_report_name(self.reports.pop(item_id))]

    def ground(self) -> None:
        """The uplink is gone: whatever was in flight waits again, in its own order."""
        flown = [item for batch in self.flying.values() for item in batch.items]
        if flown:
            items = sorted([*flown, *self.waiting.values()])
            self.waiting = OrderedDict((item.id, item) for item in items)
        self.flying.clear()
        self.report_sent_ms.clear()

    def surplus(self, count: int, size: int, before_utc_ms: int | None) -> list[Item]:
        """The oldest readings that wait: at least `count` of them with `size` bytes, and what was read before then."""
        gone: list[Item] = []
        for item in chain(self.waiting.values(), self.summing.values()):
            if len(gone) >= count and size <= 0 and not is_older(item, before_utc_ms):
                break
            gone.append(item)
            size -= len(item.body)
        return gone

    def drop(self, item: Item) -> None:
        """Keep `item` no longer, wherever it is by now."""
        kept = self.waiting.pop(item.id, None) or self.summing.pop(item.id, None)
        for batch in self.flying.values():
            if item in batch.items:
                batch.items.remove(item)
                kept = item
        if kept is not None:
            self._gone(kept)


def is_older(item: Item, utc_ms: int | None) -> bool:
    """Whether the reading was taken before `utc_ms`, as far as anybody can tell."""
    read_ms = None if utc_ms is None else item.read_sample()[3]
    return utc_ms is not None and read_ms is not None and read_ms < utc_ms


def _report_name(item: Item) -> str:
    return str(orjson.loads(item.body)["message"]["item"])


def room_readings(kept: int, kept_bytes: int, most: int, most_bytes: int) -> int:
    """How many more readings of the usual size find room: bounded in number and in bytes, whichever ends first."""
    usual_bytes = kept_bytes / kept if kept else USUAL_BYTES
    return max(0, min(most - kept, int((most_bytes - kept_bytes) / usual_bytes)))


def window_of(utc_ms: int | None, window_ms: int) -> int | None:
    """The number of the window in which a reading was taken, counted from 1970; None when nobody can tell."""
    return None if utc_ms is None else utc_ms // window_ms


def statistics(items: Iterable[Item], window_ms: int) -> list[Message]:
    """By sensor, metric and window of reading time: count, min, mean, max, first and last; only numbers count."""
    groups: dict[tuple[str, str, int | None], Message] = {}
    for item in items:
        sensor, metric, value, utc_ms = item.sample or _sample(item.body)
        if type(value) is not float and type(value) is not int:
            continue
        window = None if utc_ms is None else utc_ms // window_ms
        group = groups.get((sensor, metric, window))
        if group is None:
            first = {"sensor": sensor, "metric": metric, "count": 1, "min": value, "mean": value, "max": value}
            groups[sensor, metric, window] = first | {"from_utc_ms": utc_ms, "to_utc_ms": utc_ms}
        else:
            _include(group, value, utc_ms)
    for group in groups.values():
        group["mean"] = round(group["mean"] / group["count"], 6)
    return list(groups.values())


def _sample(body: bytes) -> Sample:
    reading = orjson.loads(body)
    return reading["sensor"], reading["metric"], reading.get("value"), reading.get("utc_ms")


def _include(group: Message, value: float, utc_ms: int | None) -> None:
    """One reading more; `mean` is the sum until the end."""
    group["count"] += 1
    group["mean"] += value
    group["min"] = min(group["min"], value)
    group["max"] = max(group["max"], value)
    if utc_ms is not None:
        group["from_utc_ms"] = utc_ms if group["from_utc_ms"] is None else min(group["from_utc_ms"], utc_ms)
        group["to_utc_ms"] = utc_ms if group["to_utc_ms"] is None else max(group["to_utc_ms"], utc_ms)
