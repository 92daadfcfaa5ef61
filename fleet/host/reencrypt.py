"""Closes all that is sensitive with the newest data key: what older keys closed, and what was stored openly before.

Step by step, each one transaction beside a server that runs, in the order of storage. How far it came is written with
each step, so that it goes on from there; a row that changed meanwhile is left to whoever changed it.
"""

import hashlib
import json
import random
from collections.abc import Callable
from typing import Any

import orjson
from sqlalchemy import Connection, Text, bindparam, select, type_coerce, update

from fleet.core.config import FleetConfig
from fleet.core.manager import FleetCore
from fleet.core.sensitive import Sensitive, about_key
from fleet.core.vault import AT_REST, SEALED, about_reading
from fleet.host import datakeys
from fleet.host.storage import Storage
from fleet.host.tables import CORE_TABLES, READINGS

STEP_ROWS = 5_000
SLOT = "reencryption"
_VALUE = type_coerce(READINGS.c.value, Text)
_IDENTITY = (READINGS.c.node, READINGS.c.boot, READINGS.c.seq, READINGS.c.metric)
# With the time, PostgreSQL looks into one partition only.
_CHANGE = (
    update(READINGS)
    .where(READINGS.c.id == bindparam("row_id"), READINGS.c.utc_ms == bindparam("at_ms"), bindparam("old") == _VALUE)
    .values(value=type_coerce(bindparam("new"), Text))
)


class Reencryption:
    """One pass over a database. Raises VaultError at the first value that cannot be opened: nothing is lost by it."""

    def __init__(self, storage: Storage) -> None:
        """Raises VaultError, StorageError."""
        self._storage, self._vault = storage, storage.vault
        datakeys.check(storage)
        datakeys.check_closing(storage)
        restored = storage.load()
        core = FleetCore(FleetConfig(), restored, random.Random(0), 0, storage.vault)
        self._sensitive: Sensitive = core.sensitive
        self._pass = self._digest(restored)
        kept: dict[str, Any] = next((row["doc"] for row in restored["slots"] if row["name"] == SLOT), {})
        self._after = int(kept["after"]) if kept.get("pass") == self._pass else 0
        self.resumed = self._after > 0

    def run(self, said: Callable[[int, int], None]) -> tuple[int, list[str]]:
        """How many values were closed anew, and which keys are needed no more; `said(seen, closed)` after each step."""
        seen = closed = 0
        while True:
            rows, changed = self._step()
            seen, closed = seen + rows, closed + changed
            if rows:
                said(seen, closed)
            if rows < STEP_ROWS:
                break
        with self._storage.writing() as connection:
            closed += self._conflicts(connection) + self._sealing_keys(connection)
        self._keep({})
        return closed, datakeys.retire(self._storage)

    def _step(self) -> tuple[int, int]:
        query = select(READINGS.c.id, READINGS.c.utc_ms, *_IDENTITY, _VALUE).where(self._after < READINGS.c.id)
        with self._storage.writing() as connection:
            rows = connection.execute(query.order_by(READINGS.c.id).limit(STEP_ROWS)).all()
            changes = []
            for row_id, at_ms, node, boot, seq, metric, old in rows:
                new = self._anew(node, boot, seq, metric, old)
                if new is not None:
                    changes.append({"row_id": row_id, "at_ms": at_ms, "old": old, "new": new})
            changed = connection.execute(_CHANGE, changes).rowcount if changes else 0
        if rows:
            self._after = rows[-1][0]
            self._keep({"pass": self._pass, "after": self._after})
        return len(rows), changed

    def _anew(self, node: str, boot: int, seq: int, metric: str, old: str) -> str | None:
        """The text that shall stand there, or None when `old` may stay. Raises VaultError."""
        about = about_reading(node, boot, seq, metric)
        if self._vault.is_old(old):
            return self._vault.close(self._vault.open(old, about), about)
        if old.startswith((AT_REST, SEALED)) or not self._sensitive.holds(node, metric):
            return None
        return self._vault.close(old.encode(), about)

    def _conflicts(self, connection: Connection) -> int:
        """Copies that were kept aside."""
        table, changed = CORE_TABLES["conflicts"], 0
        for name, doc in connection.execute(select(table.c.id, table.c.doc)).all():
            value = doc.get("value")
            text = value if _is_closed(value) else orjson.dumps(value).decode()
            new = self._anew(doc["node"], doc["boot"], doc["seq"], doc["metric"], text)
            if new is not None:
                connection.execute(update(table).where(table.c.id == name).values(doc=doc | {"value": new}))
                changed += 1
        return changed

    def _sealing_keys(self, connection: Connection) -> int:
        table, changed, vault = CORE_TABLES["sealing"], 0, self._vault
        for node, doc in connection.execute(select(table.c.id, table.c.doc)).all():
            if any(vault.is_old(text) for text in doc["keys"]):
                about = about_key(node)
                keys = [vault.close(vault.open(text, about), about) for text in doc["keys"]]
                connection.execute(update(table).where(table.c.id == node).values(doc=doc | {"keys": keys}))
                changed += len(keys)
        return changed

    def _keep(self, doc: dict[str, Any]) -> None:
        self._storage.perform([("upsert", "slots", {"name": SLOT, "doc": doc})])

    def _digest(self, restored: dict[str, Any]) -> str:
        """What this pass is for: another key, or another choice of metrics, begins at the first row."""
        places = [[row["id"], row["doc"].get("site"), row["doc"].get("groups")] for row in restored["nodes"]]
        chosen = [self._vault.newest, restored["sensitive"], restored["groups"], places]
        chosen.append([[row["id"], row["doc"]["metrics"]] for row in restored["sealing"]])
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:16]


def _is_closed(value: Any) -> bool:
    return isinstance(value, str) and value.startswith((AT_REST, SEALED))
