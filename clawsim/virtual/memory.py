"""What survives a power loss in the virtual world: a node's flash, a gateway's outbox, the fleet's database.

Each applies one Store's writes as one transaction and restores the core from what it holds, like the real ones.
"""

from collections.abc import Iterator
from typing import Any

from fleet.core.rows import ReadingRow, same_content
from fleet.wire.ranges import SeqRanges

Identity = tuple[str, int, int]
_KEYS = {"rules": "name", "slots": "name", "users": "name"}
_LOGS = ("node_events",)


class NodeFlash:
    """Slots and the readings that no gateway has acknowledged."""

    def __init__(self) -> None:
        self.slots: dict[str, Any] = {}
        self.readings: dict[tuple[int, int], list[Any]] = {}

    def perform(self, writes: list[Any]) -> None:
        """Apply one transaction."""
        for write in writes:
            if write[0] == "keep":
                self.readings[write[1], write[2]] = write[3]
            elif write[0] == "drop":
                _, boot, first, upto = write
                for seq in range(first, upto + 1):
                    self.readings.pop((boot, seq), None)
            else:
                self.slots[write[1]] = write[2]

    def restore(self) -> dict[str, Any]:
        """What a core is given at power-on."""
        return {"slots": dict(self.slots), "readings": [(boot, seq, r) for (boot, seq), r in self.readings.items()]}


class GatewayDisk:
    """Slots and the outbox."""

    def __init__(self) -> None:
        self.slots: dict[str, Any] = {}
        self.items: dict[int, tuple[str, bytes]] = {}

    def perform(self, writes: list[Any]) -> None:
        """Apply one transaction."""
        for write in writes:
            if write[0] == "add":
                self.items[write[1]] = (write[2], write[3])
            elif write[0] == "remove":
                for item_id in write[1]:
                    self.items.pop(item_id, None)
            elif write[2] is None:
                self.slots.pop(write[1], None)
            else:
                self.slots[write[1]] = write[2]

    def restore(self) -> dict[str, Any]:
        """What a core is given at the start."""
        outbox = [(item_id, kind, body) for item_id, (kind, body) in sorted(self.items.items())]
        return {"slots": dict(self.slots), "outbox": outbox}


class FleetDatabase:
    """Tables by primary key, and readings that are unique by identity."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, dict[str, Any]]] = {}
        self.readings: dict[tuple[str, int], dict[int, ReadingRow]] = {}

    def perform(self, writes: list[Any]) -> list[ReadingRow]:
        """Apply one transaction; the copies that differ from what was stored."""
        conflicts: list[ReadingRow] = []
        for write in writes:
            if write[0] == "readings":
                self._insert(write[1])
            elif write[0] == "compare":
                conflicts += [row for row in write[1] if self._differs(row)]
            elif write[0] == "delete":
                self.tables.get(write[1], {}).pop(write[2], None)
            else:
                row = write[2]
                self.tables.setdefault(write[1], {})[row[_KEYS.get(write[1], "id")]] = row
        return conflicts

    def restore(self) -> dict[str, list[dict[str, Any]]]:
        """What a core is given at the start."""
        restored = {table: [dict(row) for row in rows.values()] for table, rows in self.tables.items()}
        restored["seen"] = [
            {"node": node, "boot": boot, "ranges": [list(r) for r in _ranges(rows)]}
            for (node, boot), rows in self.readings.items()
        ]
        restored["latest"] = [row._asdict() for row in self._latest().values()]
        return restored

    def as_writes(self) -> list[Any]:
        """All of it as the writes of one transaction, to copy it elsewhere."""
        rows = [
            ("append" if table in _LOGS else "upsert", table, row)
            for table, of in self.tables.items()
            for row in of.values()
        ]
        return [*rows, ("readings", list(self.rows()))]

    def _latest(self) -> dict[tuple[str, str], ReadingRow]:
        latest: dict[tuple[str, str], ReadingRow] = {}
        for row in self.rows():
            known = latest.get((row.node, row.metric))
            if row.time_quality == "exact" and (known is None or known.utc_ms < row.utc_ms):
                latest[row.node, row.metric] = row
        return latest

    def identities(self) -> Iterator[Identity]:
        """The identity of every stored reading, as often as it is stored."""
        for (node, boot), rows in self.readings.items():
            for seq in rows:
                yield node, boot, seq

    def rows(self) -> Iterator[ReadingRow]:
        """Every stored reading."""
        for rows in self.readings.values():
            yield from rows.values()

    def _insert(self, rows: list[ReadingRow]) -> None:
        for row in rows:
            of_boot = self.readings.get((row.node, row.boot))
            if of_boot is None:
                of_boot = self.readings[row.node, row.boot] = {}
            if row.seq in of_boot:
                raise ValueError(f"reading {row[:3]} is stored already")
            of_boot[row.seq] = row

    def _differs(self, row: ReadingRow) -> bool:
        stored = self.readings[row.node, row.boot][row.seq]
        return stored.metric != row.metric or not same_content(stored.value, row.value)


def _ranges(rows: dict[int, ReadingRow]) -> SeqRanges:
    ranges = SeqRanges()
    for seq in sorted(rows):
        ranges.add(seq)
    return ranges
