"""Telling people, at least once: a message is durable before it goes out, and goes again until it was accepted.

A notice waits a moment for others of its kind and severity; what has gathered goes out as one message. A message that
nobody accepts is tried again, ever later, and is a dead letter in the end.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from firmware.wire.outputs import Notify
from fleet.core.transaction import Transaction
from fleet.wire.uplink import Message

if TYPE_CHECKING:
    from fleet.core.manager import FleetCore

MOST_LISTED = 50  # in the text of one message
MOST_RULES = 3  # in its subject; with more of them it has none
MOST_DEAD = 1_000  # dead letters in memory; the database keeps them all


class Notice(NamedTuple):
    """What people are to be told; `kind` is an event's name."""

    kind: str
    severity: str
    subject: str
    body: str
    node: str | None
    rule: str | None = None


class _Gathering:
    """The notices of one kind and severity that wait for each other."""

    def __init__(self, now_ms: int) -> None:
        self.rows: list[Message] = []
        self.first_ms = self.last_ms = now_ms


class Notices:
    """What gathers, what is on its way, and what nobody accepted."""

    def __init__(self, core: "FleetCore", restored: Iterable[Message], rng: Any, now_ms: int) -> None:
        self._core, self._rng = core, rng
        self._gathering: dict[tuple[str, str], _Gathering] = {}
        self._pending: dict[str, Message] = {}
        self._due_ms: dict[str, int] = {}
        self.dead: dict[str, Message] = {}
        for row in map(dict, restored):
            if row["state"] == "gathering":
                self._gather(row, now_ms)
            elif row["state"] == "pending":
                self._pending[row["id"]] = row
                self._due_ms[row["id"]] = now_ms
            elif row["state"] == "failed":
                self._bury(row)

    @property
    def due_ms(self) -> int | None:
        """When a gathering is over, or a message is to be tried (again)."""
        due_ms = [self._ends_ms(group) for group in self._gathering.values()]
        return min([*due_ms, *self._due_ms.values()], default=None)

    def add(self, tx: Transaction, notice: Notice) -> None:
        """Tell people once `tx` is committed."""
        row: Message = {"id": self._core.new_name("m"), "state": "gathering", "attempts": 0}
        row |= {"subject": notice.subject, "body": notice.body}
        row["doc"] = {"kind": notice.kind, "severity": notice.severity, "node": notice.node}
        if notice.rule is not None:
            row["doc"]["rule"] = notice.rule
        tx.upsert("notifications", row)
        tx.after.append(lambda at_ms: self._gather(row, at_ms))

    def notified(self, message_id: str, ok: bool, now_ms: int) -> None:
        """Whether the message was accepted."""
        row = self._pending.get(message_id)
        if row is None or message_id in self._due_ms:
            return
        row["attempts"] += 1
        if ok:
            self._end(row, "sent")
        elif row["attempts"] >= self._core.config.notify_attempts:
            self._end(row, "failed")
            self._bury(row)
        else:
            self._due_ms[message_id] = now_ms + self._pause_ms(row["attempts"])
            self._core.stores.save("notifications", row)

    def retry(self, message_id: str, now_ms: int) -> Message:
        """Begin anew with a dead letter. Raises KeyError."""
        row = self.dead.pop(message_id)
        row |= {"state": "pending", "attempts": 0}
        self._pending[message_id] = row
        self._due_ms[message_id] = now_ms
        self._core.stores.save("notifications", row)
        return row

    def discard(self, message_id: str, now_ms: int) -> None:
        """Keep a dead letter no longer. Raises KeyError."""
        row = self.dead.pop(message_id)
        self._core.stores.persist([("delete", "notifications", message_id)], None)
        self._core.event("notification.discarded", {"id": message_id, "subject": row["subject"]})

    def on_timer(self, now_ms: int) -> None:
        """Close what has gathered, and try again what is due."""
        for key in [key for key, group in self._gathering.items() if now_ms >= self._ends_ms(group)]:
            self._close(self._gathering.pop(key))
        for message_id in [key for key, due_ms in self._due_ms.items() if now_ms >= due_ms]:
            del self._due_ms[message_id]
            self._send(self._pending[message_id])

    def _gather(self, row: Message, now_ms: int) -> None:
        key = (row["doc"].get("kind"), row["doc"].get("severity"))
        group = self._gathering.setdefault(key, _Gathering(now_ms))
        group.rows.append(row)
        group.last_ms = now_ms

    def _ends_ms(self, group: _Gathering) -> int:
        config = self._core.config
        return min(group.last_ms + config.notify_quiet_ms, group.first_ms + config.notify_gather_ms)

    def _close(self, group: _Gathering) -> None:
        """What has gathered becomes one message with an id of its own, durable before it goes out."""
        rows, tx = group.rows, Transaction()
        row = self._joined(rows) if len(rows) > 1 else rows[0]
        for one in rows if len(rows) > 1 else ():
            tx.upsert("notifications", one | {"state": "grouped", "doc": one["doc"] | {"group": row["id"]}})
        tx.upsert("notifications", row | {"state": "pending"})
        self._core.stores.persist(
            tx.writes, lambda _now_ms, _conflicts: self._begin(row), lambda at_ms: self._gather_again(rows, at_ms)
        )

    def _begin(self, row: Message) -> None:
        row["state"] = "pending"
        self._pending[row["id"]] = row
        self._send(row)

    def _gather_again(self, rows: list[Message], now_ms: int) -> None:
        """The database did not take the message: its notices gather anew, with those that came meanwhile."""
        for row in rows:
            self._gather(row, now_ms)

    def _joined(self, rows: list[Message]) -> Message:
        doc = rows[0]["doc"]
        listed = [f"{row['subject']}. {row['body']}" for row in rows[:MOST_LISTED]]
        if len(rows) > MOST_LISTED:
            listed.append(f"and {len(rows) - MOST_LISTED} more")
        found: Message = {"id": self._core.new_name("m"), "state": "pending", "attempts": 0}
        subject = f"{len(rows)} {_PLURALS.get(doc['kind'], 'notices')} ({doc['severity']})"
        rules = sorted({row["doc"]["rule"] for row in rows if row["doc"].get("rule")})
        if 0 < len(rules) <= MOST_RULES:
            subject = f"{', '.join(rules)}: {subject}"
        found |= {"subject": subject, "body": "\n".join(listed)}
        nodes = sorted({row["doc"]["node"] for row in rows if row["doc"]["node"]})[:MOST_LISTED]
        found["doc"] = {"kind": doc["kind"], "severity": doc["severity"], "count": len(rows), "nodes": nodes}
        return found

    def _send(self, row: Message) -> None:
        # The id lets people, and programs behind a webhook, see that a message came twice.
        self._core.emit(Notify(row["id"], row["subject"], f"{row['body']}\nMessage {row['id']}"))

    def _pause_ms(self, attempts: int) -> int:
        """Twice as long after each attempt, drawn from the upper half, so that many do not come back in step."""
        config = self._core.config
        half_ms = min(config.notify_again_ms << (attempts - 1), config.notify_most_ms) // 2
        return half_ms + int(self._rng.randrange(half_ms + 1))

    def _end(self, row: Message, state: str) -> None:
        del self._pending[row["id"]]
        row["state"] = state
        self._core.stores.save("notifications", row)
        fields = {"id": row["id"], "subject": row["subject"]}
        told = {name: row["doc"][name] for name in ("node", "count", "nodes") if row["doc"].get(name) is not None}
        self._core.event(f"notification.{state}", fields | told)

    def _bury(self, row: Message) -> None:
        self.dead[row["id"]] = row
        if len(self.dead) > MOST_DEAD:
            del self.dead[next(iter(self.dead))]


_PLURALS = {
    "node.down": "nodes are down",
    "node.up": "nodes are back",
    "gateway.down": "gateways are down",
    "gateway.up": "gateways are back",
    "outbox.broken": "gateways could not read their outboxes",
    "alert.raised": "alerts are raised",
    "alert.cleared": "alerts are cleared",
}
