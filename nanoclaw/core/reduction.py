"""What a metered uplink is spared: by metric, readings go up as they are, as summaries, or only when they change.

| mode      | what goes up                                                               | the others end as |
|-----------|----------------------------------------------------------------------------|-------------------|
| raw       | every reading                                                              |                   |
| summary   | count, min, mean and max of each window, by the time at which it was read  | summarised        |
| on_change | a reading whose value differs from the one that went up before it, and one | suppressed        |
|           | a quarter of an hour all the same, as a sign of life                       |                   |

Rules at the edge see every reading, whatever its mode. The cloud cannot judge what it never sees, so this gateway
decides about a summarised metric at all times. Only numbers are summarised, and event readings go up as they are.
"""

from collections import Counter
from typing import TYPE_CHECKING, Any

from fleet.wire.ranges import SeqRanges
from fleet.wire.uplink import Message
from nanoclaw.core.outbox import Item, reading_identity, statistics, window_of
from nanoclaw.core.roster import KEPT_BOOTS, Node

if TYPE_CHECKING:
    from nanoclaw.core.gateway import GatewayCore

RAW, SUMMARY, ON_CHANGE = "raw", "summary", "on_change"
MODES = (RAW, SUMMARY, ON_CHANGE)
MOST_A_REPORT = 200  # summaries: each has at most some 200 bytes, and a report at most 64 KiB


class Reduction:
    """Decides which readings go up, and makes the summaries of those that do not."""

    def __init__(self, core: "GatewayCore") -> None:
        self._core = core
        self._modes = {metric: mode for metric, mode in core.config.modes.items() if mode != RAW}
        self.active = bool(self._modes)
        self._forwarded: dict[tuple[str, str], tuple[Any, int]] = {}
        """By node and metric: what went up last and when it was read."""
        self._summarised: dict[tuple[str, int], SeqRanges] = {}
        """By node and boot: so that a copy of what is in a summary is not counted again."""

    def restore(self, kept: list[list[Any]] | None) -> None:
        """What was in summaries, or was to be, before the gateway restarted."""
        self._summarised = {(node, boot): SeqRanges(map(tuple, ranges)) for node, boot, ranges in kept or ()}
        for item in self._core.outbox.summing.values():
            node, boot, seq = reading_identity(item.body)
            self._summarised.setdefault((node, boot), SeqRanges()).add(seq)

    def decides(self, metrics: list[str]) -> bool:
        """Whether the cloud sees too little of these metrics to judge a rule about them."""
        return any(self._modes.get(metric) == SUMMARY for metric in metrics)

    def is_summarised(self, metric: str, reading: Message) -> bool:
        """Whether this reading goes up as a part of a summary only."""
        value = reading["value"]
        number = type(value) is float or type(value) is int
        return number and self._modes.get(metric) == SUMMARY and reading.get("event") is not True

    def has(self, node: str, boot: int, seq: int) -> bool:
        """Whether the reading is in a summary already."""
        seen = self._summarised.get((node, boot))
        return seen is not None and seq in seen

    def is_suppressed(self, node: Node, metric: str, reading: Message, at_ms: int | None) -> bool:
        """Whether a reading taken at `at_ms` says nothing that did not go up before it."""
        if self._modes.get(metric) != ON_CHANGE or reading.get("event") is True or at_ms is None:
            return False
        value, last = reading["value"], self._forwarded.get((node.id, metric)) or self._before(node, metric)
        if last is not None:
            same = type(value) is type(last[0]) and value == last[0]
            if at_ms < last[1]:
                return False  # late: what came after it says nothing about it
            if same and at_ms - last[1] < self._core.config.unchanged_ms:
                return True
        self._forwarded[node.id, metric] = value, at_ms
        return False

    def _before(self, node: Node, metric: str) -> tuple[Any, int] | None:
        """After a restart: what was read last is, in value, what went up last."""
        latest = node.latest.get(metric)
        return None if latest is None else (latest[1], latest[0])

    def window_closed(self, below: int, now_ms: int) -> None:
        """All that is to be summarised, dated and on disk goes into summaries, which go up like reports."""
        window_ms = self._core.config.window_ms
        groups: dict[tuple[str, str, int | None], list[Item]] = {}
        for item in self._core.outbox.take_summing(below):
            sensor, metric, _, utc_ms = item.read_sample()
            groups.setdefault((sensor, metric, window_of(utc_ms, window_ms)), []).append(item)
        every = list(groups.values())
        for first in range(0, len(every), MOST_A_REPORT):
            self._report([item for group in every[first : first + MOST_A_REPORT] for item in group], now_ms)

    def _report(self, items: list[Item], now_ms: int) -> None:
        """Summaries in, readings out, in one transaction; said before, so that a crash cannot hide it."""
        for item in items:
            node, boot, seq = reading_identity(item.body)
            self._summarised.setdefault((node, boot), SeqRanges()).add(seq)
            self._core.event("reading.summarised", {"node": node, "boot": boot, "seq": seq})
        self._forget_old_boots()
        kept = [[node, boot, [list(one) for one in ranges]] for (node, boot), ranges in self._summarised.items()]
        told = {"status": "summary", "stats": statistics(items, self._core.config.window_ms)}
        writes = (("remove", [item.id for item in items]), ("put", "summarised", kept))
        self._core.forwarder.report("status", told, now_ms, writes)

    def _forget_old_boots(self) -> None:
        """Of each node as many boots as its arrivals are known of; nothing of nodes that are gone."""
        left: Counter[str] = Counter()
        for node, boot in reversed(list(self._summarised)):
            left[node] += 1
            if node not in self._core.nodes or left[node] > KEPT_BOOTS:
                del self._summarised[node, boot]
