"""Batches become rows, each reading once: the acknowledgement follows the commit.

One transaction is under way at a time; what arrives meanwhile is taken into the next one, which is ready when the
database is. What a transaction changed in memory is undone when it fails, after what the next one has built upon it;
its batches stay unacknowledged, so the gateways send them again.
"""

from collections import deque
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from firmware.wire.outputs import Event
from fleet.core.rows import ReadingRow, Secret, Stored, plain_of
from fleet.core.transaction import Transaction
from fleet.wire import uplink
from fleet.wire.ranges import SeqRanges
from fleet.wire.uplink import Message, Rejected

if TYPE_CHECKING:
    from fleet.core.manager import FleetCore
    from fleet.wire.terms import Key

MOST_QUEUED = 1000  # batches; more are refused and come again
# Of one transaction, so that nobody waits for one for long; the more it takes, the less each page of an index costs.
MOST_A_COMMIT = 256  # batches
MOST_READINGS = 15_000
_row = partial(tuple.__new__, ReadingRow)  # as `ReadingRow(…)` does it, without a function of Python's


class _Arrival(NamedTuple):
    """What waits for the database: a batch of a gateway, or readings that came by another way with their `tx`."""

    origin: str
    batch: str | None
    readings: list[Message]
    tx: Transaction | None


class _Commit:
    """What one transaction of batches holds, and what follows it: acknowledgements, then alerts."""

    def __init__(self) -> None:
        self.arrivals: list[_Arrival] = []
        self.rows: list[ReadingRow] = []
        self.copies: list[ReadingRow] = []
        self.before: dict[Key, ReadingRow | None] = {}
        """Of each metric of each node that it has a reading of, the latest reading before."""
        self.tx = Transaction()


class Ingest:
    """The way of a batch from the hub to the database."""

    def __init__(self, core: "FleetCore", seen: list[Message]) -> None:
        """`seen`: rows {"node", "boot", "ranges"} of what the database holds."""
        self._core = core
        self._seen = {(row["node"], row["boot"]): SeqRanges(row["ranges"]) for row in seen}
        self._queue: deque[_Arrival] = deque()
        self._waiting: set[tuple[str, str]] = set()  # gateway and id of the batches that no transaction has yet
        self._next = _Commit()
        self.committing = False
        self._bare_seq: dict[str, int] = {}

    def on_batch(self, gateway: str, payload: bytes, now_ms: int) -> None:
        """A batch from a gateway. Raises Rejected."""
        batch, readings, refused = uplink.decode_batch(payload)
        if len(self._queue) + len(self._next.arrivals) >= MOST_QUEUED:
            raise Rejected("too many batches wait for the database")
        if batch is not None:
            if (gateway, batch) in self._waiting:
                return  # a copy of one that waits
            self._waiting.add((gateway, batch))
        for reading, reason in refused:
            self._refuse(gateway, reading, reason)
        self._queue.append(_Arrival(gateway, batch, self._of_site(gateway, readings), None))
        self._go_on(now_ms)

    def add(self, origin: str, readings: list[Message], tx: Transaction, now_ms: int) -> None:
        """Checked readings that came by another way than the hub, in one transaction with what `tx` holds."""
        self._queue.append(_Arrival(origin, None, readings, tx))
        self._go_on(now_ms)

    def _of_site(self, gateway: str, readings: list[Message]) -> list[Message]:
        """The readings that the gateway may speak for; the others are refused."""
        registry = self._core.registry
        nodes, site = registry.nodes, registry.gateways[gateway]["doc"]["site"]
        own = [each for each in readings if (row := nodes.get(each["sensor"])) is None or row["doc"]["site"] == site]
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
            self._give_back()
            tx.failed()
        self._go_on(now_ms)

    def _go_on(self, now_ms: int) -> None:
        """Take what waits into the next transaction, and begin that unless one is under way."""
        if not self.committing and self._shows_secrets():
            self._give_back()
        queue, taken, rows = self._queue, self._next.arrivals, self._next.rows
        while queue and len(taken) < MOST_A_COMMIT and len(rows) < MOST_READINGS:
            arrival = queue.popleft()
            taken.append(arrival)
            self._take(self._next, arrival.origin, arrival.readings, now_ms)
        if taken and not self.committing:
            self._begin()

    def _shows_secrets(self) -> bool:
        """Whether the next transaction has a value that was taken openly, and is sensitive by now."""
        sensitive, rows = self._core.sensitive, chain(self._next.rows, self._next.copies)
        metrics = sensitive.metrics
        return bool(metrics) and any(
            metric in metrics and type(value) is not Secret and sensitive.holds(node, metric)
            for node, _, _, metric, value, *_ in rows
        )

    def _begin(self) -> None:
        commit, self._next = self._next, _Commit()
        self.committing = True
        for origin, batch, _, tx in commit.arrivals:
            if batch is not None:
                self._waiting.discard((origin, batch))
            if tx is not None:
                commit.tx.join(tx)
        writes: list[Any] = [("readings", commit.rows)] if commit.rows else []
        if commit.copies:
            writes.append(("compare", commit.copies))
        self._core.stores.persist(
            writes + commit.tx.writes,
            lambda at_ms, conflicts: self._on_stored(commit, conflicts, at_ms),
            lambda at_ms: self._on_failed(commit, at_ms),
        )

    def _take(self, commit: _Commit, origin: str, readings: list[Message], now_ms: int) -> None:
        """Checked readings become rows of `commit`; those of numbers that were seen before, copies."""
        core, all_seen, tx, before = self._core, self._seen, commit.tx, commit.before
        on_alerts, on_health, secrets = core.alerts.on_reading, core.health.on_reading, core.sensitive.metrics
        utc_ms = core.utc_ms(now_ms)
        for reading in readings:
            get, node = reading.get, reading["sensor"]
            boot, seq, read_ms = get("boot"), get("seq"), get("utc_ms")
            if boot is None or seq is None:
                boot, seq = self._number(node)
            quality = "exact"
            if read_ms is None:
                read_ms, quality = utc_ms, "estimated"
            elif "time_quality" in reading:
                quality = reading["time_quality"]
            metric, value = reading["metric"], get("value")
            if value is None or metric in secrets:
                value = core.sensitive.value_of(reading, node, boot, seq)
            row = _row((node, boot, seq, metric, value, get("unit"), read_ms, quality, origin, utc_ms))
            seen = all_seen.get((node, boot))
            if seen is None:
                seen = all_seen[node, boot] = SeqRanges()
            if not seen.add(seq):
                commit.copies.append(row)
                continue
            commit.rows.append(row)
            if quality == "exact":
                for alert in on_alerts(row, now_ms, tx, before):
                    core.alarms.on_change(tx, alert, now_ms)
            on_health(node, origin, utc_ms - read_ms, now_ms)

    def _number(self, node: str) -> tuple[int, int]:
        """An identity for a reading of a bare list, under the manager's own boot number."""
        seq = self._bare_seq.get(node, 0)
        self._bare_seq[node] = seq + 1
        return self._core.boot, seq

    def _on_stored(self, commit: _Commit, conflicts: list[ReadingRow], now_ms: int) -> None:
        self.committing = False
        for gateway, batch, _, _ in commit.arrivals:
            if batch is not None:
                self._core.acknowledge(gateway, batch)
        self._say_stored(commit, conflicts)
        for row in conflicts:
            self._keep_aside(row)
        commit.tx.committed(now_ms)
        self._go_on(now_ms)

    def _say_stored(self, commit: _Commit, conflicts: list[ReadingRow]) -> None:
        emit = self._core.emit
        if not self._core.config.tells_each_reading:
            emit(Stored(commit.rows))
        else:
            for node, boot, seq, metric, *_ in commit.rows:
                emit(Event("reading.stored", {"node": node, "boot": boot, "seq": seq, "metric": metric}))
        for row in commit.copies:
            kind = "reading.conflict" if row in conflicts else "reading.redelivered"
            emit(Event(kind, {"node": row.node, "boot": row.boot, "seq": row.seq}))
        for row in commit.rows:
            value = row[4]
            if type(value) is Secret and value.plain is None:
                self._core.sensitive.say_unreadable(row)

    def _keep_aside(self, row: ReadingRow) -> None:
        """A reading whose identity is taken by other content; its metric may be sensitive since it was sent off."""
        sensitive = self._core.sensitive
        if not isinstance(row.value, Secret) and sensitive.holds(row.node, row.metric):
            row = row._replace(value=Secret(plain_of(row.value)))
        doc = row._asdict()
        if type(row.value) is Secret:
            doc["value"] = sensitive.vault.at_rest(row)
        conflict = {"id": self._core.new_name("x"), "doc": doc}
        self._core.stores.persist([("upsert", "conflicts", conflict)], None)

    def _on_failed(self, commit: _Commit, now_ms: int) -> None:
        self.committing = False
        self._give_back()
        self._undo(commit)
        self._go_on(now_ms)

    def _give_back(self) -> None:
        """What the next transaction was built upon is not so: what it holds waits again, to be taken anew."""
        self._undo(self._next)
        self._queue.extendleft(reversed(self._next.arrivals))
        self._next = _Commit()

    def _undo(self, commit: _Commit) -> None:
        commit.tx.failed()
        self._core.alerts.forget(commit.before)
        for node, boot, seq, *_ in commit.rows:
            self._seen[node, boot].discard(seq)
