"""Telling people, at least once: a message is durable before it goes out, and goes again until it was accepted."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from firmware.wire.outputs import Notify
from fleet.core.transaction import Transaction
from fleet.wire.uplink import Message

if TYPE_CHECKING:
    from fleet.core.manager import FleetCore


class Notices:
    """Messages that are not accepted yet, by their stable id."""

    def __init__(self, core: "FleetCore", restored: Iterable[Message], now_ms: int) -> None:
        self._core = core
        self._pending = {row["id"]: dict(row) for row in restored if row["state"] == "pending"}
        self._due_ms = dict.fromkeys(self._pending, now_ms)

    @property
    def due_ms(self) -> int | None:
        """When one is to be tried (again)."""
        return min(self._due_ms.values(), default=None)

    def add(self, tx: Transaction, subject: str, body: str, about: Message) -> None:
        """Tell people `subject` once `tx` is committed."""
        row: Message = {"id": self._core.new_name("m"), "state": "pending", "subject": subject, "body": body}
        row |= {"attempts": 0, "doc": about}
        self._pending[row["id"]] = row
        tx.upsert("notifications", row)
        tx.after.append(lambda _: self._send(row))
        tx.undo.append(lambda: self._drop(row["id"]))

    def _drop(self, message_id: str) -> None:
        self._pending.pop(message_id, None)

    def notified(self, message_id: str, ok: bool, now_ms: int) -> None:
        """Whether the message was accepted."""
        row = self._pending.get(message_id)
        if row is None:
            return
        row["attempts"] += 1
        if ok:
            self._end(row, "sent")
        elif row["attempts"] >= self._core.config.notify_attempts:
            self._end(row, "failed")
        else:
            self._later(row, now_ms)

    def on_timer(self, now_ms: int) -> None:
        """Try again what is due."""
        for message_id in [key for key, due_ms in self._due_ms.items() if now_ms >= due_ms]:
            del self._due_ms[message_id]
            self._send(self._pending[message_id])

    def _send(self, row: Message) -> None:
        self._core.emit(Notify(row["id"], row["subject"], row["body"]))

    def _later(self, row: Message, now_ms: int) -> None:
        self._due_ms[row["id"]] = now_ms + self._core.config.notify_again_ms

    def _end(self, row: Message, state: str) -> None:
        del self._pending[row["id"]]
        row["state"] = state
        self._core.stores.persist([("upsert", "notifications", dict(row))], None)
        self._core.event(f"notification.{state}", {"id": row["id"], "subject": row["subject"], **row["doc"]})
