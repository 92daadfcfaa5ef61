"""Rules over readings in time order, and the episodes that they raise and clear.

A rule that only compares is evaluated here as gateways evaluate it; `fleet.wire.watch` has the others. Whatever a
transaction changes here is undone if it fails, so that a batch can come again as if for the first time.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from firmware.wire.rules import Episodes
from fleet.core.alert_rows import ended_row, new_row
from fleet.core.errors import Unknown
from fleet.core.imported import Imported, put_back
from fleet.core.rows import ReadingRow, plain_of
from fleet.core.transaction import Transaction
from fleet.wire.condition import is_per_node
from fleet.wire.rule import is_plain
from fleet.wire.terms import Key, Sample, Undo
from fleet.wire.terms import in_scope as is_in_scope
from fleet.wire.uplink import Message
from fleet.wire.watch import NO_NODE, Watch, row_id
from fleet.wire.watched import Change

if TYPE_CHECKING:
    from fleet.core.manager import FleetCore


class Alerts:
    """Episodes by id, open and recently closed."""

    def __init__(self, core: "FleetCore", restored: dict[str, list[Message]]) -> None:
        """`restored`: rows of `alerts` and `pending`, and `latest`: of each metric of each node the latest reading."""
        self._core = core
        self._late_ms, self._most = core.config.late_ms, core.config.kept_commands
        self._episodes = Episodes()
        self._watch = Watch(self.is_in_scope, core.config.for_lag_ms, self.knows)
        self._pending = restored.get("pending", [])
        self.imported = Imported(core, self)
        self._skipped = self.imported.skipped
        self._metrics: frozenset[str] = frozenset()  # that a rule is about
        self.rules: dict[str, Message] = {}
        """The rules in force, by name."""
        self.rows: dict[str, Message] = {row["id"]: dict(row) for row in restored.get("alerts", [])}
        self.latest: dict[Key, ReadingRow] = {}
        for found in restored.get("latest", []):
            row = ReadingRow(**found)
            self.latest[row.node, row.metric] = row

    def set_rules(self, rules: list[Message], now_ms: int) -> tuple[list[Message], list[Any]]:
        """Evaluate these rules from now on; the alert rows that end because of it, and what else is to be written."""
        core = self._core
        self.rules = {rule["name"]: rule for rule in rules}
        ended = self._end_orphans(core.utc_ms(now_ms))
        plain = [rule for rule in rules if is_plain(rule)]
        self._episodes.set_rules(plain)
        stale = self._watch.set_rules(rule for rule in rules if not is_plain(rule))
        self._metrics = self._watch.metrics.union(rule["when"]["metric"] for rule in plain)
        self._episodes.open.clear()
        self._watch.open.clear()
        for row in self.rows.values():
            if row["state"] == "raised":
                self.open_of(row["rule"])[row["rule"], row["node"] or NO_NODE] = row["id"]
        if core.knows_utc:
            self._learn(now_ms)
        return ended, [("delete", "pending", row_id(subject)) for subject in stale]

    def learn_utc(self, now_ms: int) -> None:
        """The first that is known of UTC: what was restored has a place in core time now."""
        self._watch.utc_offset_ms = self._core.utc_ms(now_ms) - now_ms
        self._watch.restore(self._pending)
        self._learn(now_ms)

    def on_reading(
        self, row: ReadingRow, now_ms: int, tx: Transaction, before: dict[Key, ReadingRow | None]
    ) -> Sequence[Message]:
        """The alert rows that a new reading changes; late ones, and those overtaken by a later one, change nothing.

        `before` notes the latest reading that this one replaces, for `forget`.
        """
        node, _, _, metric, _, _, read_ms, _, _, utc_ms = row
        key = (node, metric)
        last = self.latest.get(key)
        # A stamp from the future must not silence the present: of the last reading, the earlier of its times counts.
        if utc_ms - read_ms > self._late_ms or (last is not None and read_ms < last[6] and read_ms < last[9]):
            return ()
        if self._skipped and read_ms < self._skipped.get(key, 0):
            return ()
        before.setdefault(key, last)
        self.latest[key] = row
        if metric not in self._metrics:
            return ()
        return self._judge(key, row, now_ms, tx)

    def forget(self, before: dict[Key, ReadingRow | None]) -> None:
        """The readings of a transaction that failed: what was the latest before is it again."""
        for key, row in before.items():
            put_back(self.latest, key, row)

    def _judge(self, key: Key, row: ReadingRow, now_ms: int, tx: Transaction) -> list[Message]:
        """What the rules about its metric say of a reading."""
        value: Any = plain_of(row.value)
        changes = () if value is None else self._episodes.evaluate(row.node, row.metric, value, row.boot, row.seq)
        if not changes and row.metric not in self._watch.metrics:
            return []
        found = [self._plain(rule, episode, raised, row, tx.undo) for rule, episode, raised in changes]
        if row.metric in self._watch.metrics:
            at_ms = now_ms - max(0, row.stored_utc_ms - row.utc_ms)
            sample = Sample(at_ms, value, row.boot, row.seq)
            found += [self._watched(change, tx.undo) for change in self._watch.on_sample(key, sample, now_ms, tx)]
        return found

    @property
    def due_ms(self) -> int | None:
        """When time alone may change something; not while a commit may yet be undone."""
        return None if self._core.ingest.committing else self._watch.wakes.due_ms

    def on_timer(self, now_ms: int) -> None:
        """What begins or ends by time alone, as one transaction."""
        core, due_ms = self._core, self.due_ms
        if due_ms is None or now_ms < due_ms:
            return
        tx = Transaction()
        for change in self._watch.on_timer(now_ms, tx):
            core.alarms.on_change(tx, self._watched(change, tx.undo), now_ms)
        if tx.writes:
            core.ingest.commit_alone(tx)

    def open_episodes(self) -> list[tuple[str, str]]:
        """Rule and node of every open episode."""
        return list(self._episodes.open)

    def acknowledge(self, tx: Transaction, alert: str, by: str, utc_ms: int) -> Message:
        """Somebody has seen the alert; the first who says so is kept. Raises Unknown."""
        row = self.rows.get(alert)
        if row is None:
            raise Unknown(f"there is no alert {alert!r}")
        if row["doc"].get("acknowledged_by"):
            return row
        old = row["doc"]
        row["doc"] = old | {"acknowledged_by": by, "acknowledged_utc_ms": utc_ms}
        tx.upsert("alerts", row)
        tx.undo.append(lambda: row.update(doc=old))
        return row

    def end_of(self, tx: Transaction, node: str, utc_ms: int) -> None:
        """The node is no more, and so are its open episodes."""
        self._watch.end_waits(node, tx)
        for table in (self._episodes.open, self._watch.open):
            for key in [key for key in table if key[1] == node]:
                episode = table.pop(key)
                tx.undo.append(partial(put_back, table, key, episode))
                old = self.rows.get(episode)
                if old is not None:
                    self.rows[episode] = ended_row(old, utc_ms, "node decommissioned")
                    tx.upsert("alerts", self.rows[episode])
                    tx.undo.append(partial(put_back, self.rows, episode, old))
                    fields = {"id": episode, "node": node, "rule": key[0], "by": "cloud"}
                    tx.after.append(partial(_say_cleared, self._core, fields))

    def knows(self, episode: object) -> bool:
        """Whether there is an alert of that id."""
        return isinstance(episode, str) and episode in self.rows

    def settle(self, key: tuple[str, str], now_ms: int, undo: list[Undo]) -> None:
        """A gateway began the episode: until its readings are here, they do not end it."""
        if key in self._watch.open:
            self._watch.settle(key, now_ms, undo)

    def _plain(self, rule: Message, episode: str, raised: bool, row: ReadingRow, undo: list[Undo]) -> Message:
        return self._change(Change(rule, episode, raised, row.node, plain_of(row.value), 0), row.utc_ms, undo)

    def _watched(self, change: Change, undo: list[Undo]) -> Message:
        return self._change(change, change.at_ms + self._watch.utc_offset_ms, undo)

    def _change(self, change: Change, utc_ms: int, undo: list[Undo]) -> Message:
        """The row of an episode that begins or ends."""
        rule, episode, raised, node, value, _ = change
        hidden = self._core.sensitive.hides(rule, node or None)
        if hidden:
            value = None
        old = self.rows.get(episode)
        key = (rule["name"], node)
        opened = new_row(episode, node or None, rule["name"], utc_ms if raised else None, value, "cloud", rule)
        if hidden:
            opened["doc"]["sealed"] = True
        if raised:
            row = opened
            undo.append(lambda: self._unraise(key, episode))
        else:
            row = (old or opened) | {"state": "cleared", "cleared_utc_ms": utc_ms}
            row["doc"] = row["doc"] | {"cleared_value": value}
            undo.append(lambda: self._unclear(key, episode, old))
        self.keep(row)
        return row

    def open_of(self, rule: str) -> dict[tuple[str, str], str]:
        """The open episodes of the evaluator that has the rule."""
        definition = self.rules.get(rule)
        return self._episodes.open if definition is None or is_plain(definition) else self._watch.open

    def _end_orphans(self, utc_ms: int) -> list[Message]:
        ended = []
        for row in list(self.rows.values()):
            if row["state"] == "raised" and not self._has_rule(row):
                row = ended_row(row, utc_ms, "rule removed")
                self.rows[row["id"]] = row
                ended.append(row)
        return ended

    def _has_rule(self, row: Message) -> bool:
        """Whether there is a rule that can end the episode: one of its name, about a node if it is about one."""
        rule = self.rules.get(row["rule"])
        return rule is not None and is_per_node(rule["when"]) == (row["node"] is not None)

    def _learn(self, now_ms: int) -> None:
        """Tell the watch what is known; what is too old to raise an alert counts only as when it was last heard."""
        samples = []
        offset_ms = self._core.utc_ms(now_ms) - now_ms
        for key, row in self.latest.items():
            at_ms = min(row.utc_ms, row.stored_utc_ms) - offset_ms
            value = plain_of(row.value) if now_ms - at_ms <= self._late_ms else None
            samples.append((key, Sample(at_ms, value, row.boot, row.seq)))
        self._watch.learn(samples, now_ms)

    def is_in_scope(self, scope: str, node: str) -> bool:
        """Whether a scope, as rules have them, holds the node."""
        row, (kind, _, name) = self._core.registry.nodes.get(node), scope.partition(":")
        if row is None:
            return False
        if kind == "group" and self._core.places.holds(name, node):
            return True
        return is_in_scope(scope, row["doc"].get("site"), row["doc"].get("groups"), node)

    def regroup(self, nodes: Iterable[str], now_ms: int) -> None:
        """These nodes are in other scopes than before, or in none."""
        self._watch.regroup(nodes, now_ms)

    def keep(self, row: Message) -> None:
        """Remember the row; of too many the oldest that is over goes."""
        self.rows[row["id"]] = row
        if len(self.rows) > self._most:
            closed = next((key for key, kept in self.rows.items() if kept["state"] == "cleared"), None)
            if closed is not None:
                del self.rows[closed]

    def _unraise(self, key: Key, episode: str) -> None:
        self.open_of(key[0]).pop(key, None)
        self.rows.pop(episode, None)

    def _unclear(self, key: Key, episode: str, old: Message | None) -> None:
        self.open_of(key[0])[key] = episode
        if old is not None:
            self.rows[episode] = old


def _say_cleared(core: "FleetCore", fields: Message, _now_ms: int) -> None:
    core.event("alert.cleared", fields)
