"""Maintenance windows: what begins in one is recorded, and neither are people told nor is anything commanded.

A window is a row `{"id", "doc": {"on", "from_utc_ms", "until_utc_ms", "reason", "by"}}`; `on` is `node:ID` (or a
gateway), `site:ID` or `all`. It begins with its first millisecond and is over with `until_utc_ms`.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from firmware.wire.ids import valid_id
from firmware.wire.messages import MAX_TEXT_CHARS
from fleet.core.errors import Conflict
from fleet.core.transaction import Transaction
from fleet.wire.uplink import MAX_UTC_MS, Message

if TYPE_CHECKING:
    from fleet.core.manager import FleetCore

MOST_WINDOWS = 1_000
KEPT_MS = 7 * 24 * 3_600_000  # after their end, so that people see what was silenced lately
MAX_REASON_CHARS = 200
ALL = "all"


class Maintenance:
    """The windows to come, those that are open, and those that ended lately, by id."""

    def __init__(self, core: "FleetCore", restored: Iterable[Message]) -> None:
        self._core = core
        self.rows = {row["id"]: dict(row) for row in restored}

    def add(self, window: Message, now_ms: int) -> Message:
        """A new window: {"on", "until_utc_ms"} and, as one likes, "from_utc_ms" (default: now), "reason", "by".

        Raises ValueError, Conflict.
        """
        core, utc_ms = self._core, self._core.utc_ms(now_ms)
        doc = {"reason": "", "by": "operator", "from_utc_ms": utc_ms} | window
        self._check(doc, utc_ms)
        tx = Transaction()
        self._forget_old(tx, utc_ms)
        if len(self.rows) >= MOST_WINDOWS:
            raise Conflict(f"there are {MOST_WINDOWS} windows already; those that are over go after a week")
        row: Message = {"id": core.new_name("w"), "doc": doc}
        self.rows[row["id"]] = row
        tx.undo.append(lambda: self._drop(row["id"]))
        self._commit(tx, row, "maintenance.added")
        return row

    def change(self, window_id: str, changes: Message, now_ms: int) -> Message:
        """Another end, reason or both for a window that is not over; its row. Raises KeyError, Conflict, ValueError."""
        row, utc_ms = self.rows[window_id], self._core.utc_ms(now_ms)
        old = row["doc"]
        if old["until_utc_ms"] <= utc_ms:
            raise Conflict(f"{window_id} is over: add another window")
        doc = old | changes
        self._check(doc, utc_ms)
        tx = Transaction()
        row["doc"] = doc
        tx.undo.append(lambda: row.update(doc=old))
        self._commit(tx, row, "maintenance.changed")
        return row

    def end(self, window_id: str, now_ms: int) -> Message:
        """End a window now; one that has not begun never does. Raises KeyError."""
        row, utc_ms = self.rows[window_id], self._core.utc_ms(now_ms)
        doc = row["doc"]
        if doc["until_utc_ms"] <= utc_ms:
            return row
        tx = Transaction()
        row["doc"] = doc | {"until_utc_ms": utc_ms, "from_utc_ms": min(doc["from_utc_ms"], utc_ms)}
        tx.undo.append(lambda: row.update(doc=doc))
        self._commit(tx, row, "maintenance.ended")
        return row

    def covers(self, target: str | None, utc_ms: int) -> str | None:
        """The id of a window that silences what begins on that node or gateway at that time.

        What is about no single node (None) is silenced by a window on everything alone.
        """
        for row in self.rows.values():
            doc = row["doc"]
            if doc["from_utc_ms"] <= utc_ms < doc["until_utc_ms"] and self._is_on(doc["on"], target):
                return str(row["id"])
        return None

    def _is_on(self, on: str, target: str | None) -> bool:
        if on == ALL or target is None:
            return on == ALL
        if on == f"node:{target}":
            return True
        registry = self._core.registry
        row = registry.nodes.get(target) or registry.gateways.get(target)
        return row is not None and on == f"site:{row['doc'].get('site')}"

    def _check(self, doc: Message, utc_ms: int) -> None:
        if unknown := set(doc) - {"on", "from_utc_ms", "until_utc_ms", "reason", "by"}:
            raise ValueError(f"a window has no {', '.join(sorted(unknown))}")
        for name in ("from_utc_ms", "until_utc_ms"):
            if type(doc.get(name)) is not int or not 0 <= doc[name] <= MAX_UTC_MS:
                raise ValueError(f"{name} is not a time")
        if doc["until_utc_ms"] <= max(doc["from_utc_ms"], utc_ms):
            raise ValueError("a window ends after it begins, and not in the past")
        for name, most in (("reason", MAX_REASON_CHARS), ("by", MAX_TEXT_CHARS)):
            if not isinstance(doc[name], str) or len(doc[name]) > most:
                raise ValueError(f"{name} is not a text of at most {most} characters")
        self._check_on(doc.get("on"))

    def _check_on(self, on: object) -> None:
        kind, _, name = str(on).partition(":")
        if on == ALL:
            return
        if not isinstance(on, str) or kind not in ("node", "site") or not valid_id(name):
            raise ValueError(f"{on!r} is none of node:ID, site:ID, {ALL}")
        registry = self._core.registry
        rows = [*registry.nodes.values(), *registry.gateways.values()]
        known = registry.knows(name) if kind == "node" else any(row["doc"].get("site") == name for row in rows)
        if not known:
            raise ValueError(f"there is no {kind} {name!r}")

    def _forget_old(self, tx: Transaction, utc_ms: int) -> None:
        for window_id in [key for key, row in self.rows.items() if row["doc"]["until_utc_ms"] + KEPT_MS < utc_ms]:
            del self.rows[window_id]
            tx.writes.append(("delete", "maintenance", window_id))

    def _drop(self, window_id: str) -> None:
        self.rows.pop(window_id, None)

    def _commit(self, tx: Transaction, row: Message, kind: str) -> None:
        core = self._core
        tx.upsert("maintenance", row)
        tx.after.append(lambda _: core.event(kind, {"id": row["id"], "on": row["doc"]["on"]}))
        core.stores.commit(tx)
