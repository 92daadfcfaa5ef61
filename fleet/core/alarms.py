"""What follows when an episode begins or ends: it is said, people are told, nodes are commanded.

An episode that begins in a maintenance window is silenced for good: nothing follows but its record. One that begins in
its rule's cooldown is silenced for a while: if it is still there when the cooldown ends, everything follows then.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from fleet.core.commands import InvalidCommand, UnknownTarget
from fleet.core.notices import Notice
from fleet.core.transaction import Transaction
from fleet.wire.condition import main_metric
from fleet.wire.rule import commands_of, fill, scope_of
from fleet.wire.uplink import Message
from fleet.wire.wakes import Wakes

if TYPE_CHECKING:
    from fleet.core.manager import FleetCore

AGAIN_MS = 5_000
COOLDOWN = "cooldown"
SEALED = "sealed"  # what people read in the place of a sensitive value
TELLING = ("alert", "notify", "both")


class Alarms:
    """All or nothing, with the transaction that changes the episode."""

    def __init__(self, core: "FleetCore", now_ms: int) -> None:
        self._core = core
        self._told_utc_ms: dict[tuple[str, str | None], int] = {}  # when the last began that people were told of
        self._held: Wakes[str] = Wakes()  # episodes that wait for the end of a cooldown
        for row in core.alerts.rows.values():
            if row["doc"].get("silenced") is None and row["raised_utc_ms"] is not None:
                key = (row["rule"], row["node"])
                self._told_utc_ms[key] = max(row["raised_utc_ms"], self._told_utc_ms.get(key, 0))
            elif row["doc"].get("silenced") == COOLDOWN and row["state"] == "raised":
                self._held.set(row["id"], now_ms)

    @property
    def due_ms(self) -> int | None:
        """When a cooldown ends; not while a commit may yet be undone."""
        return None if self._core.ingest.committing else self._held.due_ms

    def on_change(self, tx: Transaction, row: Message, now_ms: int) -> None:
        """An episode of ours begins or ends."""
        core = self._core
        raised, rule = row["state"] == "raised", core.alerts.rules.get(row["rule"], {})
        if raised:
            self._silence(tx, row, rule, now_ms)
        value = row["doc"]["value" if raised else "cleared_value"]
        fields = {"id": row["id"], "node": row["node"], "rule": row["rule"], "value": value, "by": "cloud"}
        if row["node"] is None:
            del fields["node"]
            fields["scope"] = scope_of(rule)
        if row["doc"].get("sealed"):
            fields["sealed"] = True
        if row["doc"].get("silenced") is not None:
            fields["silenced"] = row["doc"]["silenced"]
        tx.upsert("alerts", row)
        tx.after.append(lambda _: core.event("alert.raised" if raised else "alert.cleared", fields))
        self._follow(tx, row, rule, now_ms)

    def on_import(self, tx: Transaction, row: Message, now_ms: int) -> None:
        """An episode that a gateway decided, and acted upon: people are still to be told."""
        rule = self._core.alerts.rules.get(row["rule"], {})
        if row["state"] == "raised":
            self._silence(tx, row, rule, now_ms)
        tx.upsert("alerts", row)
        if row["doc"].get("silenced") is None:
            self._tell(tx, row, rule)

    def on_timer(self, now_ms: int) -> None:
        """Cooldowns end: what is still there is told and acted upon now."""
        due_ms = self.due_ms
        if due_ms is None or now_ms < due_ms:
            return
        tx = Transaction()
        for episode in self._held.take(now_ms):
            row = self._core.alerts.rows.get(episode)
            if row is not None and row["state"] == "raised" and row["doc"].get("silenced") == COOLDOWN:
                self._release(tx, row, now_ms)
        if tx.writes:
            self._core.ingest.commit_alone(tx)

    def _release(self, tx: Transaction, row: Message, now_ms: int) -> None:
        core = self._core
        rule, key = core.alerts.rules.get(row["rule"], {}), (row["rule"], row["node"])
        utc_ms = core.utc_ms(now_ms)
        left_ms = self._told_utc_ms.get(key, 0) + (rule.get("cooldown_ms") or 0) - utc_ms
        if left_ms > 0:
            self._held.set(row["id"], now_ms + left_ms)
            return
        doc = row["doc"]
        tx.undo.append(lambda: row.update(doc=doc))
        tx.undo.append(lambda: self._held.set(row["id"], now_ms + AGAIN_MS))
        row["doc"] = doc | {"silenced": None}
        self._note_told(tx, key, utc_ms)
        tx.upsert("alerts", row)
        self._follow(tx, row, rule, now_ms)

    def _silence(self, tx: Transaction, row: Message, rule: Message, now_ms: int) -> None:
        """Mark the beginning episode as silenced, if it is."""
        core, key = self._core, (row["rule"], row["node"])
        utc_ms = row["raised_utc_ms"] if row["raised_utc_ms"] is not None else core.utc_ms(now_ms)
        last_utc_ms, cooldown_ms = self._told_utc_ms.get(key), (rule.get("cooldown_ms") or 0)
        window = core.maintenance.covers(row["node"], utc_ms)
        if window is not None:
            row["doc"] = row["doc"] | {"silenced": window}
        elif last_utc_ms is not None and utc_ms - last_utc_ms < cooldown_ms:
            row["doc"] = row["doc"] | {"silenced": COOLDOWN}
            self._held.set(row["id"], now_ms + last_utc_ms + cooldown_ms - utc_ms)
        else:
            self._note_told(tx, key, utc_ms)

    def _note_told(self, tx: Transaction, key: tuple[str, str | None], utc_ms: int) -> None:
        before = self._told_utc_ms.get(key, 0)
        self._told_utc_ms[key] = utc_ms
        tx.undo.append(partial(self._told_utc_ms.__setitem__, key, before))

    def _follow(self, tx: Transaction, row: Message, rule: Message, now_ms: int) -> None:
        """Tell and command, as the rule says. An alarm that a gateway sounded falls silent whatever people heard."""
        told = row["doc"].get("silenced") is None
        if told and rule.get("action") in TELLING:
            self._tell(tx, row, rule)
        if row["state"] == "cleared" if row["doc"]["by"] == "gateway" else told:
            self._command(tx, row, rule, now_ms)

    def _command(self, tx: Transaction, row: Message, rule: Message, now_ms: int) -> None:
        core = self._core
        for action, target, params in commands_of(rule, row["node"], row["state"] == "raised"):
            if not core.registry.knows(target):
                continue
            try:
                core.commands.add(tx, action, target, params, "rule", core.config.alarm_ttl_ms, now_ms)
            except (InvalidCommand, UnknownTarget) as error:
                core.event("command.refused", {"rule": row["rule"], "target": target, "reason": str(error)})

    def _tell(self, tx: Transaction, row: Message, rule: Message) -> None:
        """Tell people of an episode, whoever decided it."""
        doc, state, node = row["doc"], row["state"], row["node"]
        value = doc["value"] if state == "raised" else doc.get("cleared_value", doc["value"])
        says = SEALED if doc.get("sealed") else None
        where = node or scope_of(rule)
        subject = f"{row['rule']} on {where}: {state}"
        body = f"Decided by {doc['by']}{_part(doc)}; value {says or doc['value']}."
        if rule.get("message"):
            fields = {"node": where, "rule": row["rule"], "value": says or shown(value), "severity": doc["severity"]}
            site = self._core.registry.nodes.get(node, {}).get("doc", {}).get("site") if node else None
            text = fill(rule["message"], fields | {"site": site or where, "metric": main_metric(rule["when"])})
            subject, body = (text if state == "raised" else f"{text} (cleared)"), f"{subject}. {body}"
        self._core.notify(tx, Notice(f"alert.{state}", doc["severity"], subject, body, node, row["rule"]))


def _part(doc: Message) -> str:
    """Of how many nodes a gateway could judge a rule about a scope."""
    members = doc.get("members", 0)
    return f" over {doc['judged']} of {members} nodes" if members > doc.get("judged", members) else ""


def shown(value: Any) -> str:
    """A value for people: a mean of many numbers has no more digits than anybody reads."""
    return "unknown" if value is None else format(value, ".6g") if isinstance(value, float) else str(value)
