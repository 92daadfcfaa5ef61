"""Readings on their way from a node to the disk, and the windows that become batches.

A reading is acknowledged to its node only when it is durable. Commits are grouped: at most one every few seconds, and
one when a window closes. On a disk that refuses, readings wait here, bounded, and `received` is withheld.
"""

from typing import TYPE_CHECKING, Any

import orjson

from fleet.wire.uplink import Message, valid_metric_cached
from nanoclaw.core.outbox import READING, SUMMING, Item, compact, is_older, reading_identity
from nanoclaw.core.roster import RECEIVED_EVERY_MS, Node

if TYPE_CHECKING:
    from nanoclaw.core.gateway import GatewayCore

MOST_UNSTORED = 10_000  # beyond, a reading is refused and stays with its node
MOST_BODY_BYTES = 1_024  # of one reading: its message has at most half of it


class Intake:
    """The open window and the readings that are not durable yet."""

    def __init__(self, core: "GatewayCore", now_ms: int) -> None:
        self._core = core
        self._unstored: list[tuple[Item, Node, int, int]] = []
        self._storing = False
        self._bare_seq: dict[str, int] = {}
        self._owing: dict[str, Node] = {}
        self._close_token = 0
        self.due_ms: int | None = None
        self.window_first_id = core.outbox.next_id
        self.window_ends_ms = now_ms + core.config.window_ms
        self._full = False
        self._said_lost: set[int] = set()
        self._urgent: list[int] = []
        self._look_for_old = True
        self.dropped = 0
        """Readings that had to go since this outbox began."""

    def on_reading(self, node: Node, metric: str, reading: Message, now_ms: int) -> None:
        """A checked reading of a node."""
        if not valid_metric_cached(metric):
            self._core.reject(metric, "not a metric", node.id)
            return
        boot, seq = reading.get("boot"), reading.get("seq")
        if boot is None or seq is None:
            if len(self._unstored) >= MOST_UNSTORED:
                self._core.reject(metric, "no room until the disk takes more", node.id)
                return
            boot, seq = self._number(node)
        else:
            arrivals = node.arrivals_of(boot)
            if self._core.reduction.active and self._core.reduction.has(node.id, boot, seq):
                arrivals.on_disk(seq)  # before a restart, after which nobody else knows
            if not arrivals.is_new(seq):
                self._core.event("reading.redelivered", {"node": node.id, "boot": boot, "seq": seq})
                self._owe(node, now_ms)
                return
            if len(self._unstored) >= MOST_UNSTORED:
                return
            arrivals.unstored.add(seq)
        self._accept(node, metric, reading, boot, seq, now_ms)

    def _accept(self, node: Node, metric: str, reading: Message, boot: int, seq: int, now_ms: int) -> None:
        core = self._core
        value = reading.get("value")
        content = {"sealed": reading["sealed"]} if value is None else {"value": value}
        entry: dict[str, Any] = {"sensor": node.id, "metric": metric, **content}
        if reading.get("unit"):
            entry["unit"] = reading["unit"]
        entry["boot"], entry["seq"] = boot, seq
        age_ms = self._stamp(entry, node, reading, boot, now_ms)
        kind = READING
        if core.reduction.active and "value" in reading:  # nobody here can say what a sealed one comes to
            at_ms = None if age_ms is None else now_ms - age_ms
            if core.reduction.is_suppressed(node, metric, reading, at_ms):
                self._suppress(node, metric, entry, now_ms - (age_ms or 0), now_ms)
                return
            if core.reduction.is_summarised(metric, reading):
                kind = SUMMING
        sample = (node.id, metric, value, entry.get("utc_ms"))
        item = Item(core.outbox.next_id, kind, compact(orjson.dumps(entry)), sample)
        core.outbox.next_id += 1
        self._unstored.append((item, node, boot, seq))
        if reading.get("event") is True or type(value) is bool:
            self._urgent.append(item.id)  # a bare board cannot say that it is one, but doors and leaks are booleans
            self.due_ms = now_ms
        elif self._is_enough():
            self.due_ms = now_ms
        elif self.due_ms is None:
            self.due_ms = now_ms + core.config.commit_ms
        if age_ms is not None and age_ms <= core.config.late_ms:
            core.decisions.on_reading(node, metric, entry, now_ms - age_ms, item.id, now_ms)

    def _is_enough(self) -> bool:
        """Whether what waits is worth a commit of its own; a disk that refuses is asked no sooner for it."""
        return len(self._unstored) >= self._core.config.commit_readings and not self._storing and not self._full

    def _suppress(self, node: Node, metric: str, entry: Message, at_ms: int, now_ms: int) -> None:
        """A reading that goes nowhere: its node is told that it is kept, and the rules see it."""
        core = self._core
        boot, seq = entry["boot"], entry["seq"]
        core.event("reading.suppressed", {"node": node.id, "boot": boot, "seq": seq})
        node.arrivals_of(boot).on_disk(seq)
        self._owe(node, now_ms)
        if now_ms - at_ms <= core.config.late_ms:
            core.decisions.on_reading(node, metric, entry, at_ms, 0, now_ms)

    def _stamp(self, entry: dict[str, Any], node: Node, reading: Message, boot: int, now_ms: int) -> int | None:
        """Put the reading's time into `entry`; its age when that is known."""
        utc_ms = self._core.utc_ms(now_ms)
        if "up_ms" not in reading:
            age_ms = int(reading.get("age_ms", 0))
            if utc_ms is not None:
                entry["utc_ms"] = max(0, utc_ms - age_ms)
            else:
                self._core.dating.stamp(entry, now_ms - age_ms)
            return age_ms
        zero_ms = node.zero_utc_ms.get(boot)
        read_ms = None if zero_ms is None else zero_ms + reading["up_ms"]
        if read_ms is not None and (utc_ms is None or read_ms <= utc_ms):
            entry["utc_ms"] = read_ms
        else:  # an earlier boot that this gateway never saw: before the present one began
            entry["time_quality"] = "estimated"
            before_ms = node.zero_utc_ms.get(node.boot, utc_ms)
            if before_ms is not None:
                entry["utc_ms"] = before_ms
            else:
                self._core.dating.stamp(entry, now_ms)
        return None

    def _number(self, node: Node) -> tuple[int, int]:
        """An identity for a bare board's reading, under the gateway's own boot number."""
        seq = self._bare_seq.get(node.id, 0)
        self._bare_seq[node.id] = seq + 1
        return self._core.boot, seq

    def hurry(self, now_ms: int) -> None:
        """A node listens only for a moment: commit what there is."""
        if self._unstored:
            self.due_ms = now_ms

    def on_timer(self, now_ms: int) -> None:
        """Commit, close the window, acknowledge."""
        if now_ms >= self.window_ends_ms:
            self._close_window(now_ms)
        if self.due_ms is not None and now_ms >= self.due_ms:
            self._commit(now_ms)
            self._acknowledge(now_ms)

    def _close_window(self, now_ms: int) -> None:
        window_ms = self._core.cloud.batch_interval_ms(now_ms)
        self.window_ends_ms += window_ms * (1 + (now_ms - self.window_ends_ms) // window_ms)
        first_id, self.window_first_id = self.window_first_id, self._core.outbox.next_id
        self._look_for_old = True
        self._commit(now_ms)
        if self._storing:
            self._closing = (first_id, self.window_first_id)
        else:
            self._closed(first_id, self.window_first_id, now_ms)

    def _closed(self, first_id: int, below: int, now_ms: int) -> None:
        """A window is complete and durable."""
        if self._core.reduction.active:
            self._core.reduction.window_closed(below, now_ms)
        self._core.recent.window_closed(now_ms)
        self._core.decisions.state.window_closed(now_ms)
        self._core.forwarder.window_closed(first_id, below, now_ms)

    _closing: tuple[int, int] | None = None

    def _commit(self, now_ms: int) -> None:
        """Put what waits on the disk; once a window, look for what got too old there."""
        self.due_ms = None
        if self._storing or not self._unstored:
            return
        self._storing = True
        taken, self._unstored = self._unstored, []
        writes: list[Any] = [("add", item.id, item.kind, item.body) for item, *_ in taken]
        gone: list[Item] = []
        outbox, config = self._core.outbox, self._core.config
        crowded = len(outbox) + len(taken) > config.outbox_max_readings
        crowded = crowded or outbox.bytes + len(taken) * MOST_BODY_BYTES > config.outbox_max_bytes
        crowded, self._look_for_old = crowded or self._look_for_old, False
        if crowded and (gone := self._surplus(taken, now_ms)):
            self._say_lost(gone, now_ms)
            writes += [("remove", [item.id for item in gone]), ("put", "dropped", self.dropped)]

        def on_stored(at_ms: int) -> None:
            for item in gone:
                self._core.outbox.drop(item)
                self._said_lost.discard(item.id)
            self._on_stored(taken, at_ms)

        self._core.stores.persist(writes, on_stored, lambda at_ms: self._on_failed(taken, at_ms))

    def _surplus(self, taken: list[tuple[Item, Node, int, int]], now_ms: int) -> list[Item]:
        """The oldest readings, which have to go so that `taken` finds room and nothing gets too old."""
        core = self._core
        config, outbox = core.config, core.outbox
        size = outbox.bytes + sum([len(item.body) for item, *_ in taken]) - config.outbox_max_bytes
        return outbox.surplus(len(outbox) + len(taken) - config.outbox_max_readings, size, self._too_old_ms(now_ms))

    def _too_old_ms(self, now_ms: int) -> int | None:
        """UTC of which readings are too old to be kept; None while it is unknown."""
        utc_ms = self._core.utc_ms(now_ms)
        return None if utc_ms is None else utc_ms - self._core.config.outbox_max_age_ms

    def _say_lost(self, gone: list[Item], now_ms: int) -> None:
        """The oldest readings have to go. Said before they go, so that a crash cannot hide it."""
        for item in gone:
            if item.id not in self._said_lost:
                self._said_lost.add(item.id)
                self.dropped += 1
                node, boot, seq = reading_identity(item.body)
                lost = {"node": node, "boot": boot, "seq": seq, "cause": "outbox-full"}
                if is_older(item, self._too_old_ms(now_ms)):
                    lost |= {"cause": "outbox-old"}
                self._core.event("reading.lost", lost)

    def _on_stored(self, taken: list[tuple[Item, Node, int, int]], now_ms: int) -> None:
        self._storing = False
        core = self._core
        if self._full:
            self._full = False
            core.event("store.recovered", {})
        for item, node, boot, seq in taken:
            core.outbox.add(item)
            node.arrivals_of(boot).on_disk(seq)
            self._owing[node.id] = node
        if core.dating.owing:
            core.dating.correct(now_ms)
        self._acknowledge(now_ms)
        if core.lora is not None:
            core.lora.on_disk(now_ms)
        urgent, self._urgent = self._urgent, []
        for item_id in urgent:
            if item_id in core.outbox.waiting:
                core.forwarder.forward_now(item_id, now_ms)
            elif item_id >= taken[-1][0].id:
                self._urgent.append(item_id)  # came after this commit began
        closing, self._closing = self._closing, None
        if closing:
            self._closed(*closing, now_ms)
        if self._unstored and self.due_ms is None:
            soon = self._urgent or self._is_enough()
            self.due_ms = now_ms if soon else now_ms + core.config.commit_ms

    def _on_failed(self, taken: list[tuple[Item, Node, int, int]], now_ms: int) -> None:
        self._storing = False
        self._full = True
        self._unstored = taken + self._unstored
        self.due_ms = now_ms + self._core.config.commit_ms

    def _owe(self, node: Node, now_ms: int) -> None:
        self._owing[node.id] = node
        if self.due_ms is None:
            self.due_ms = max(now_ms, node.received_ms + RECEIVED_EVERY_MS)

    def _acknowledge(self, now_ms: int) -> None:
        """Tell every node that waits, each at most once in 5 s; one that is heard by radio, in its receive window."""
        for node in list(self._owing.values()):
            if node.air:
                del self._owing[node.id]
            elif now_ms - node.received_ms >= RECEIVED_EVERY_MS:
                del self._owing[node.id]
                self.send_received(node, False, now_ms)
            elif self.due_ms is None or self.due_ms > node.received_ms + RECEIVED_EVERY_MS:
                self.due_ms = node.received_ms + RECEIVED_EVERY_MS

    def send_received(self, node: Node, answer: bool, now_ms: int) -> None:
        """Send what is owed to `node`; with `answer` at least a sign of life."""
        if node.air:
            return
        bodies = node.received_messages(answer)
        for body in bodies:
            self._core.send_node(node, "received", body)
        if bodies:
            node.received_ms = now_ms
        for arrivals in node.arrivals.values():
            if arrivals.owing:
                self._owing[node.id] = node
