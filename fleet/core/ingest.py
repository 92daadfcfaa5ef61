"""Batches become rows, each reading once: the acknowledgement follows the commit.

One transaction is under way at a time; batches that arrive meanwhile share the next one. What a transaction changed in
memory is undone when it fails, and its batches stay unacknowledged, so the gateways send them again.
"""

from typing import TYPE_CHECKING, Any

from firmware.wire.outputs import Event
from fleet.core.rows import ReadingRow, Secret
from fleet.core.transaction import Transaction
from fleet.wire import uplink
from fleet.wire.ranges import SeqRanges
from fleet.wire.uplink import Message, Rejected

if TYPE_CHECKING:
    from fleet.core.manager import FleetCore

MOST_QUEUED = 1000  # batches; more are refused and come again
MOST_A_COMMIT = 64


class _Commit:
    """What one transaction of batches holds, and what follows it: acknowledgements, then alerts."""

    def __init__(self) -> None:
        self.rows: list[ReadingRow] = []
        self.copies: list[ReadingRow] = []
        self.unreadable: list[ReadingRow] = []
        self.acks: list[tuple[str, str]] = []
        self.added: list[tuple[SeqRanges, int]] = []
        self.tx = Transaction()


class Ingest:
    """The way of a batch from the hub to the database."""

    def __init__(self, core: "FleetCore", seen: list[Message]) -> None:
        """`seen`: rows {"node", "boot", "ranges"} of what the database holds."""
        self._core = core
        self._seen = {(row["node"], row["boot"]): SeqRanges(map(tuple, row["ranges"])) for row in seen}
        self._queue: list[tuple[str, str | None, list[Message], Transaction | None]] = []
        self.committing = False
        self._bare_seq: dict[str, int] = {}

    def on_batch(self, gateway: str, payload: bytes, now_ms: int) -> None:
        """A batch from a gateway. Raises Rejected."""
        batch, readings, refused = uplink.decode_batch(payload)
        if len(self._queue) >= MOST_QUEUED:
            raise Rejected("too many batches wait for the database")
        if batch is not None and any(g == gateway and b == batch for g, b, *_ in self._queue):
            return  # a copy of one that waits
        for reading, reason in refused:
            self._refuse(gateway, reading, reason)
        self._queue.append((gateway, batch, self._of_site(gateway, readings), None))
        self._commit_next(now_ms)

    def add(self, origin: str, readings: list[Message], tx: Transaction, now_ms: int) -> None:
        """Checked readings that came by another way than the hub, in one transaction with what `tx` holds."""
        self._queue.append((origin, None, readings, tx))
        self._commit_next(now_ms)

    def _of_site(self, gateway: str, readings: list[Message]) -> list[Message]:
        """The readings that the gateway may speak for; the others are refused."""
        registry = self._core.registry
        site = registry.gateways[gateway]["doc"]["site"]
        own = [reading for reading in readings if registry.is_of(reading["sensor"], site)]
        if len(own) < len(readings):
            for reading in readings:
                if not registry.is_of(reading["sensor"], site):
                    self._refuse(gateway, reading, "a reading of a node of another site")
        return own

    def _refuse(self, gateway: str, reading: Any, reason: str) -> None:
        """Say which reading cannot be stored; when it has an identity, it is lost."""
        core = self._core
        core.reject(gateway, "batch", reason)
        if isinstance(reading, dict) and isinstance(reading.get("sensor"), str):
            boot, seq = reading.get("boot"), reading.get("seq")
            if type(boot) is int and type(seq) is int:
                lost = {"node": reading["sensor"][:32], "boot": boot, "seq": seq, "cause": "refused"}
                core.event("reading.lost", lost)

    def has(self, node: str, boot: int, seq: int) -> bool:
        """Whether that reading is stored (or about to be)."""
        seen = self._seen.get((node, boot))
        return seen is not None and seq in seen

    def commit_alone(self, tx: Transaction) -> None:
        """Commit what time alone has changed of the alerts; batches wait, for they build on it."""
        self.committing = True
        self._core.stores.persist(
            tx.writes, lambda at_ms, _: self._settled(tx, True, at_ms), lambda at_ms: self._settled(tx, False, at_ms)
        )

    def _settled(self, tx: Transaction, good: bool, now_ms: int) -> None:
        self.committing = False
        if good:
            tx.committed(now_ms)
        else:
            tx.failed()
        self._commit_next(now_ms)

    def _commit_next(self, now_ms: int) -> None:
        if self.committing or not self._queue:
            return
        taken, self._queue = self._queue[:MOST_A_COMMIT], self._queue[MOST_A_COMMIT:]
        commit = _Commit()
        for gateway, batch, readings, tx in taken:
            for reading in readings:
                self._take(commit, gateway, reading, now_ms)
            if batch is not None:
                commit.acks.append((gateway, batch))
            if tx is not None:
                commit.tx.join(tx)
        self.committing = True
        writes: list[Any] = [("readings", commit.rows)] if commit.rows else []
        if commit.copies:
            writes.append(("compare", commit.copies))
        self._core.stores.persist(
            writes + commit.tx.writes,
            lambda at_ms, conflicts: self._on_stored(commit, conflicts, at_ms),
            lambda at_ms: self._on_failed(commit, at_ms),
        )

    def _take(self, commit: _Commit, gateway: str, reading: Message, now_ms: int) -> None:
        core = self._core
        node, boot, seq = reading["sensor"], reading.get("boot"), reading.get("seq")
        utc_ms = core.utc_ms(now_ms)
        if boot is None or seq is None:
            boot, seq = self._number(node)
        taken_ms = reading.get("utc_ms")
        quality = "estimated" if taken_ms is None else reading.get("time_quality", "exact")
        at_ms = utc_ms if taken_ms is None else taken_ms
        metric = reading["metric"]
        value: Any = reading.get("value")
        perhaps_secret = value is None or metric in core.sensitive.metrics
        if perhaps_secret:
            value = core.sensitive.value_of(reading, node, boot, seq)
        row = ReadingRow(node, boot, seq, metric, value, reading.get("unit"), at_ms, quality, gateway, utc_ms)
        seen = self._seen.get((node, boot))
        if seen is None:
            seen = self._seen[node, boot] = SeqRanges()
        if not seen.add(seq):
            commit.copies.append(row)
            return
        commit.rows.append(row)
        commit.added.append((seen, seq))
        if perhaps_secret and type(value) is Secret and value.plain is None:
            commit.unreadable.append(row)
        if quality == "exact":
            for alert in core.alerts.on_reading(row, now_ms, commit.tx):
                core.alarms.on_change(commit.tx, alert, now_ms)
        core.health.on_reading(node, gateway, utc_ms - at_ms, now_ms)

    def _number(self, node: str) -> tuple[int, int]:
        """An identity for a reading of a bare list, under the manager's own boot number."""
        seq = self._bare_seq.get(node, 0)
        self._bare_seq[node] = seq + 1
        return self._core.boot, seq

    def _on_stored(self, commit: _Commit, conflicts: list[ReadingRow], now_ms: int) -> None:
        self.committing = False
        core = self._core
        for gateway, batch in commit.acks:
            core.acknowledge(gateway, batch)
        emit = core.emit
        for row in commit.rows:
            emit(Event("reading.stored", {"node": row.node, "boot": row.boot, "seq": row.seq, "metric": row.metric}))
        for row in commit.copies:
            kind = "reading.conflict" if row in conflicts else "reading.redelivered"
            emit(Event(kind, {"node": row.node, "boot": row.boot, "seq": row.seq}))
        for row in commit.unreadable:
            core.sensitive.say_unreadable(row)
        for row in conflicts:
            self._keep_aside(row)
        commit.tx.committed(now_ms)
        self._commit_next(now_ms)

    def _keep_aside(self, row: ReadingRow) -> None:
        """A reading whose identity is taken by other content."""
        doc = row._asdict()
        if type(row.value) is Secret:
            doc["value"] = self._core.sensitive.vault.at_rest(row)
        conflict = {"id": self._core.new_name("x"), "doc": doc}
        self._core.stores.persist([("upsert", "conflicts", conflict)], None)

    def _on_failed(self, commit: _Commit, now_ms: int) -> None:
        self.committing = False
        commit.tx.failed()
        for seen, seq in commit.added:
            seen.discard(seq)
        self._commit_next(now_ms)
