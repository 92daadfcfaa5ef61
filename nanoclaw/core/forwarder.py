"""What goes up to the cloud, in which order: reports first, then the window that just closed, then the backlog."""

from typing import TYPE_CHECKING, Any

import orjson

from fleet.wire import uplink
from fleet.wire.uplink import Message
from nanoclaw.core.mode import BEHIND, CAUGHT_UP
from nanoclaw.core.outbox import REPORT, Batch, Item, compact, statistics
from nanoclaw.core.stores import Then

if TYPE_CHECKING:
    from nanoclaw.core.gateway import GatewayCore

MOST_REPORTS = 10_000
LOOK_AGAIN_MS = 60_000


class Forwarder:
    """Sends batches and reports, and again until acknowledged; removes them from the disk then."""

    def __init__(self, core: "GatewayCore") -> None:
        self._core = core
        self.due_ms: int | None = None
        self.catching_up = False
        """Whether kept readings are on their way."""
        self._catchup_due_ms = 0
        self._caught: list[int] = [0, 0]
        self._unstored: list[tuple[int, bytes, list[Any]]] = []
        self._store_due_ms: int | None = None

    def start(self, now_ms: int) -> None:
        """The cloud is there (again)."""
        core = self._core
        for item in core.outbox.reports.values():
            self._send_report(item, now_ms)
        if core.outbox.backlog(core.intake.window_first_id):
            self._begin_catchup(now_ms)
        self._catchup_due_ms = now_ms
        self._arm(now_ms)

    def _begin_catchup(self, now_ms: int) -> None:
        self.catching_up = True
        self._caught = [0, 0]
        self._core.cloud.happens(BEHIND, {"readings": len(self._core.outbox.waiting)}, now_ms)

    def stop(self) -> None:
        """The cloud is gone; everything in flight waits again."""
        self.catching_up = False
        self.due_ms = self._store_due_ms

    @property
    def next_name(self) -> str:
        """The name of the report that is made next."""
        return f"{self._core.id}-{self._core.boot:x}-r{self._core.outbox.next_id}"

    def report(
        self, verb: str, message: Message, now_ms: int, writes: tuple[Any, ...] = (), then: Then | None = None
    ) -> None:
        """Tell the cloud `message` under `verb`, for certain: kept until acknowledged.

        `writes` go to the disk with it; `then(now_ms)` follows, also when the disk refuses (and is tried again).
        """
        core = self._core
        name, item_id = self.next_name, core.outbox.next_id
        core.outbox.next_id += 1
        message = {"v": uplink.VERSION, "item": name, "utc_ms": core.utc_ms(now_ms)} | message
        body = compact(uplink.encode({"verb": verb, "message": message}))
        self._store_report(item_id, body, list(writes), then)

    def _store_report(self, item_id: int, body: bytes, writes: list[Any], then: Then | None) -> None:
        """Make a report durable, then send it if the cloud is there; a disk that refuses is asked again."""

        def stored(at_ms: int) -> None:
            item = Item(item_id, REPORT, body)
            self._core.outbox.add(item)
            if then:
                then(at_ms)
            if self._online:
                self._send_report(item, at_ms)
                self._arm(at_ms)

        def failed(at_ms: int) -> None:
            if then:
                then(at_ms)
            self._unstored.append((item_id, body, writes))
            self._store_due_ms = at_ms + self._core.config.commit_ms
            self._arm(at_ms)

        self._core.stores.persist([("add", item_id, REPORT, body), *self._room_for_report(), *writes], stored, failed)

    def _room_for_report(self) -> list[tuple[str, list[int]]]:
        """The writes that make room when too many reports wait: the oldest goes, and is said to."""
        outbox = self._core.outbox
        if len(outbox.reports) < MOST_REPORTS:
            return []
        item_id = next(iter(outbox.reports))
        outbox.drop_report(item_id)
        self._core.event("report.dropped", {"item": item_id})
        return [("remove", [item_id])]

    def forward_now(self, item_id: int, now_ms: int) -> None:
        """An event reading is durable: it does not wait for its window."""
        if self._online and self._send_new(item_id + 1, item_id, 1, True, now_ms):
            self._arm(now_ms)

    def window_closed(self, first_id: int, below: int, now_ms: int) -> None:
        """A window is complete and durable: its readings go at once."""
        if not self._online:
            return
        while self._send_new(below, first_id, uplink.MAX_BATCH_READINGS, True, now_ms):
            pass
        if not self.catching_up and self._core.outbox.backlog(first_id):
            self._begin_catchup(now_ms)
            self._catchup_due_ms = now_ms
        self._arm(now_ms)

    def on_ack(self, name: str, now_ms: int) -> None:
        """The cloud has it on disk: a batch, or a report by its item name."""
        core = self._core
        report_id = core.outbox.report_id(name)
        if report_id is not None:
            core.outbox.drop_report(report_id)
            core.stores.persist([("remove", [report_id])], None)
            return
        batch = core.outbox.acknowledged(name)
        if batch is None:
            return  # a second acknowledgement, or one for a batch of before a restart
        core.stores.persist([("remove", [item.id for item in batch.items])], None)
        core.event("batch.acknowledged", {"batch": name, "readings": len(batch.items)})
        if not batch.live:
            self._caught = [self._caught[0] + 1, self._caught[1] + len(batch.items)]
        self._finish_catchup(now_ms)
        self._arm(now_ms)

    def on_timer(self, now_ms: int) -> None:
        """Send the backlog on, and again what was not acknowledged in time."""
        if self._store_due_ms is not None and now_ms >= self._store_due_ms:
            self._store_due_ms = None
            again, self._unstored = self._unstored, []
            for item_id, *_ in again[:-MOST_REPORTS]:
                self._core.event("report.dropped", {"item": item_id})
            for item_id, body, writes in again:
                self._store_report(item_id, body, writes, None)
            self._arm(now_ms)
        if self.due_ms is None or now_ms < self.due_ms or not self._online:
            return
        core = self._core
        for batch in list(core.outbox.flying.values()):
            if now_ms - batch.sent_ms >= core.config.resend_ms:
                self._send(batch, now_ms)
        for item_id, sent_ms in list(core.outbox.report_sent_ms.items()):
            if now_ms - sent_ms >= core.config.resend_ms:
                self._send_report(core.outbox.reports[item_id], now_ms)
        self._catch_up(now_ms)
        self._arm(now_ms)

    @property
    def _online(self) -> bool:
        return self._core.uplink.talking

    def _catch_up(self, now_ms: int) -> None:
        if not self.catching_up or now_ms < self._catchup_due_ms or self._backlog_flying():
            return
        core = self._core
        wait_ms = min(core.cloud.backlog_wait_ms(now_ms), LOOK_AGAIN_MS)  # another line may be in use by then
        self._catchup_due_ms = now_ms + max(wait_ms, core.config.catchup_every_ms)
        if not wait_ms and not self._send_new(
            core.intake.window_first_id, 0, core.config.catchup_readings, False, now_ms
        ):
            self._finish_catchup(now_ms)

    def _finish_catchup(self, now_ms: int) -> None:
        core = self._core
        if not self.catching_up or self._backlog_flying() or core.outbox.backlog(core.intake.window_first_id):
            return
        self.catching_up = False
        core.cloud.happens(CAUGHT_UP, {"batches": self._caught[0], "readings": self._caught[1]}, now_ms)

    def _backlog_flying(self) -> bool:
        return any(not batch.live for batch in self._core.outbox.flying.values())

    def _send_new(self, below: int, at_least: int, most: int, live: bool, now_ms: int) -> bool:
        core = self._core
        batch = core.outbox.batch(core.new_name(), below, at_least, most, live)
        if batch is not None:
            self._send(batch, now_ms)
        return batch is not None

    def _send(self, batch: Batch, now_ms: int) -> None:
        batch.sent_ms = now_ms
        stats = statistics(batch.items, self._core.config.window_ms)
        payload = uplink.encode_batch(batch.id, [item.body for item in batch.items], stats)
        if batch.live:
            self._core.send_hub("batch", payload)
        else:  # nobody waits for the backlog, and much of it is alike
            self._core.send_hub("batch/gz", uplink.compress(payload))
        fields = {"batch": batch.id, "readings": len(batch.items), "bytes": len(payload), "late": not batch.live}
        self._core.event("batch.sent", fields)

    def _send_report(self, item: Item, now_ms: int) -> None:
        self._core.outbox.report_sent_ms[item.id] = now_ms
        found = orjson.loads(item.body)
        self._core.send_hub(found["verb"], uplink.encode(found["message"]))

    def _arm(self, now_ms: int) -> None:
        core = self._core
        sent_ms = [batch.sent_ms for batch in core.outbox.flying.values()]
        sent_ms += core.outbox.report_sent_ms.values()
        due_ms = [min(sent_ms) + core.config.resend_ms] if sent_ms else []
        if self._store_due_ms is not None:
            due_ms.append(self._store_due_ms)
        if self.catching_up and not self._backlog_flying():
            due_ms.append(max(now_ms, self._catchup_due_ms))
        self.due_ms = min(due_ms) if due_ms else None
