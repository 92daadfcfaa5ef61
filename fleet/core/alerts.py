"""Rules over readings in time order, and the episodes that they raise and clear.

Whatever a batch changes here is undone if its transaction fails, so that the batch can come again as if for the first
time.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

from firmware.wire.rules import Episodes
from fleet.core.errors import Unknown
from fleet.core.rows import ReadingRow
from fleet.core.transaction import Transaction, Undo
from fleet.wire.uplink import Message


class Alerts:
    """Episodes by id, open and recently closed."""

    def __init__(self, late_ms: int, most: int, restored: Iterable[Message]) -> None:
        self._late_ms = late_ms
        self._most = most
        self._episodes = Episodes()
        self._evaluated: dict[tuple[str, str], int] = {}
        self.rows: dict[str, Message] = {row["id"]: dict(row) for row in restored}
        self.latest: dict[tuple[str, str], ReadingRow] = {}
        for row in self.rows.values():
            if row["state"] == "raised":
                self._episodes.open[row["rule"], row["node"]] = row["id"]

    @property
    def rules(self) -> dict[str, Message]:
        """The rules in force, by name."""
        return self._episodes.rules

    def set_rules(self, rules: list[Message], utc_ms: int) -> list[Message]:
        """Evaluate these rules from now on; the alert rows that end because their rule is gone."""
        self._episodes.set_rules(rules)
        ended = []
        for row in list(self.rows.values()):
            if row["state"] == "raised" and row["rule"] not in self._episodes.rules:
                row = row | {"state": "cleared", "cleared_utc_ms": utc_ms}
                row["doc"] = row["doc"] | {"cleared_value": None, "cleared_by": "rule removed"}
                self.rows[row["id"]] = row
                ended.append(row)
        return ended

    def on_reading(self, row: ReadingRow, utc_ms: int, undo: list[Undo]) -> list[Message]:
        """The alert rows that a new reading changes; late ones, and those overtaken by a later one, change nothing."""
        key = (row.node, row.metric)
        if utc_ms - row.utc_ms > self._late_ms or row.utc_ms < self._evaluated.get(key, 0):
            return []
        before = (self._evaluated.get(key), self.latest.get(key))
        self._evaluated[key] = min(row.utc_ms, utc_ms)  # a stamp from the future must not silence the present
        self.latest[key] = row
        changes = self._episodes.evaluate(row.node, row.metric, row.value, row.boot, row.seq)
        undo.append(partial(self._restore, key, before))
        if not changes:
            return []
        return [self._change(rule, episode, raised, row, undo) for rule, episode, raised in changes]

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
        for rule, of in [key for key in self._episodes.open if key[1] == node]:
            episode = self._episodes.open.pop((rule, of))
            tx.undo.append(partial(_put_back, self._episodes.open, (rule, of), episode))
            old = self.rows.get(episode)
            if old is not None:
                ended = {"cleared_value": None, "cleared_by": "node decommissioned"}
                row = old | {"state": "cleared", "cleared_utc_ms": utc_ms, "doc": old["doc"] | ended}
                self.rows[episode] = row
                tx.upsert("alerts", row)
                tx.undo.append(partial(_put_back, self.rows, episode, old))

    def knows(self, episode: object) -> bool:
        """Whether there is an alert of that id."""
        return isinstance(episode, str) and episode in self.rows

    def import_decision(self, message: Message, raised: bool, undo: list[Undo]) -> Message | None:
        """The alert row that a gateway's own decision changes, or None when that is known already."""
        episode, node, rule = message["alert"], message["sensor"], message["rule"]
        known = self.rows.get(episode)
        if known is not None and (raised or known["state"] == "cleared"):
            return None
        utc_ms = message.get("reading_utc_ms") or message.get("utc_ms")
        row = known or _new_row(episode, node, rule, utc_ms, message.get("value"), "gateway", self.rules.get(rule))
        opened = self._episodes.open.get((rule, node))
        undo.append(lambda: _put_back(self._episodes.open, (rule, node), opened))
        undo.append(lambda: _put_back(self.rows, episode, known))
        self._skip_to(node, rule, message.get("reading_utc_ms"), undo)
        if raised:
            self._episodes.open[rule, node] = episode
        else:
            if self._episodes.open.get((rule, node)) == episode:
                del self._episodes.open[rule, node]
            row = row | {"state": "cleared", "cleared_utc_ms": utc_ms}
        self._keep(row)
        return row

    def _skip_to(self, node: str, rule: str, utc_ms: int | None, undo: list[Undo]) -> None:
        """Readings of before the decision, which are still on their way, say nothing about its episode."""
        definition = self.rules.get(rule)
        if definition is None or utc_ms is None:
            return
        key = (node, definition["when"]["metric"])
        before = self._evaluated.get(key)
        self._evaluated[key] = max(utc_ms, before or 0)
        undo.append(lambda: _put_back(self._evaluated, key, before))

    def _change(self, rule: Message, episode: str, raised: bool, reading: ReadingRow, undo: list[Undo]) -> Message:
        old = self.rows.get(episode)
        key = (rule["name"], reading.node)
        if raised:
            row = _new_row(episode, reading.node, rule["name"], reading.utc_ms, reading.value, "cloud", rule)
            undo.append(lambda: self._unraise(key, episode))
        else:
            blank = _new_row(episode, reading.node, rule["name"], None, None, "cloud", rule)
            row = (old or blank) | {"state": "cleared", "cleared_utc_ms": reading.utc_ms}
            row["doc"] = row["doc"] | {"cleared_value": reading.value}
            undo.append(lambda: self._unclear(key, episode, old))
        self._keep(row)
        return row

    def _keep(self, row: Message) -> None:
        self.rows[row["id"]] = row
        if len(self.rows) > self._most:
            closed = next((key for key, kept in self.rows.items() if kept["state"] == "cleared"), None)
            if closed is not None:
                del self.rows[closed]

    def _restore(self, key: tuple[str, str], before: tuple[int | None, ReadingRow | None]) -> None:
        _put_back(self._evaluated, key, before[0])
        _put_back(self.latest, key, before[1])

    def _unraise(self, key: tuple[str, str], episode: str) -> None:
        self._episodes.open.pop(key, None)
        self.rows.pop(episode, None)

    def _unclear(self, key: tuple[str, str], episode: str, old: Message | None) -> None:
        self._episodes.open[key] = episode
        if old is not None:
            self.rows[episode] = old


def _put_back(table: dict[Any, Any], key: object, value: object) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value


def _new_row(
    episode: str, node: str, rule: str, utc_ms: Any, value: Any, by: str, definition: Message | None
) -> Message:
    severity = (definition or {}).get("severity", "warning")
    return {
        "id": episode,
        "node": node,
        "rule": rule,
        "state": "raised",
        "raised_utc_ms": utc_ms,
        "cleared_utc_ms": None,
        "doc": {"value": value, "by": by, "severity": severity, "acknowledged_by": None},
    }
