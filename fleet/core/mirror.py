"""A core that only shows: rows that another core has changed take the place of its own, one by one.

It answers what the views of a core answer. It is given no messages and no time, and nothing that it asks for is done.
"""

from collections.abc import Iterable
from typing import Any

from fleet.core.commands import ENDED
from fleet.core.config import FleetConfig
from fleet.core.manager import FleetCore
from fleet.core.vault import Vault
from fleet.wire.uplink import Message

SHOWN = (
    "gateways",
    "nodes",
    "rules",
    "alerts",
    "commands",
    "slots",
    "notifications",
    "maintenance",
    "retired",
    "sites",
    "groups",
    "liveness",
    "sensitive",
    "sealing",
)
"""The tables that its views are made of."""


class Mirror(FleetCore):
    """See above."""

    def __init__(
        self, config: FleetConfig, rows: dict[str, list[Message]], rng: Any, now_ms: int, vault: Vault | None = None
    ) -> None:
        super().__init__(config, with_liveness(rows), rng, now_ms, vault)
        self._alive = {row["id"]: row["doc"] for row in rows.get("liveness", [])}
        self._tables: dict[str, dict[str, Message]] = {
            "gateways": self.registry.gateways,
            "nodes": self.registry.nodes,
            "alerts": self.alerts.rows,
            "maintenance": self.maintenance.rows,
            "retired": self.members.retired,
            "sites": self.places.sites,
            "groups": self.places.groups,
        }
        self.take_outputs()

    def show(self, changed: Iterable[tuple[str, str, Message | None]]) -> None:
        """Each (table, key, row) as it is by now; None for a row that is no more.

        Raises VaultError for a row that no data key of ours opens.
        """
        for table, key, row in changed:
            self._show(table, key, row)
        for rows, over in ((self.commands.rows, ENDED), (self.alerts.rows, ("cleared",))):
            _make_room(rows, self.config.kept_commands, over)
        self.registry.renumber()
        self.take_outputs()

    def _show(self, table: str, key: str, row: Message | None) -> None:
        if table == "rules":
            _put(self.alerts.rules, key, row and row["doc"])
        elif table == "commands":
            self.commands.show(key, row)
        elif table in ("sensitive", "sealing"):
            self.sensitive.show(table, key, row)
        elif table == "notifications":
            _put(self.notices.dead, key, row if row and row["state"] == "failed" else None)
        elif table == "slots" and key == "config" and row:
            self.configuration.version = row["doc"]["version"]
        elif table == "liveness":
            self._hear(key, row)
        elif table in self._tables:
            _put(self._tables[table], key, row)
            _enliven(row, self._alive.get(key))

    def _hear(self, key: str, row: Message | None) -> None:
        _put(self._alive, key, row and row["doc"])
        for members in (self.registry.nodes, self.registry.gateways):
            _enliven(members.get(key), self._alive.get(key))


def with_liveness(rows: dict[str, list[Message]]) -> dict[str, list[Message]]:
    """The rows of a database, those of nodes and gateways with what was heard of each since they were written."""
    alive = {row["id"]: row["doc"] for row in rows.get("liveness", [])}
    for table in ("nodes", "gateways"):
        for row in rows.get(table, []):
            _enliven(row, alive.get(row["id"]))
    return rows


def _enliven(row: Message | None, heard: Message | None) -> None:
    if row is None or not heard or "state" not in row["doc"]:
        return
    if (heard.get("heard_utc_ms") or 0) >= (row["doc"].get("heard_utc_ms") or 0):
        row["doc"].update({name: value for name, value in heard.items() if value is not None})


def _make_room(rows: dict[str, Message], most: int, over: tuple[str, ...]) -> None:
    """As the core itself forgets: what came first of what is over."""
    if len(rows) > most:
        for key in [key for key, row in rows.items() if row["state"] in over][: len(rows) - most]:
            del rows[key]


def _put(rows: dict[str, Any], key: str, row: Any) -> None:
    if row is None:
        rows.pop(key, None)
    else:
        rows[key] = row
