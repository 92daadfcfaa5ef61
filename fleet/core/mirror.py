"""A core that only shows: rows that another core has changed take the place of its own, one by one.

It answers what the views of a core answer. It is given no messages and no time, and nothing that it asks for is done.
"""

from collections.abc import Iterable
from typing import Any

from fleet.core.commands import ENDED
from fleet.core.config import FleetConfig
from fleet.core.manager import FleetCore
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
)
"""The tables that its views are made of."""


class Mirror(FleetCore):
    """See above."""

    def __init__(self, config: FleetConfig, rows: dict[str, list[Message]], rng: Any, now_ms: int) -> None:
        super().__init__(config, rows, rng, now_ms)
        self._tables: dict[str, dict[str, Message]] = {
            "gateways": self.registry.gateways,
            "nodes": self.registry.nodes,
            "alerts": self.alerts.rows,
            "commands": self.commands.rows,
            "maintenance": self.maintenance.rows,
            "retired": self.members.retired,
            "sites": self.places.sites,
            "groups": self.places.groups,
        }
        self.take_outputs()

    def show(self, changed: Iterable[tuple[str, str, Message | None]]) -> None:
        """Each (table, key, row) as it is by now; None for a row that is no more."""
        for table, key, row in changed:
            if table == "rules":
                _put(self.alerts.rules, key, row and row["doc"])
            elif table == "notifications":
                _put(self.notices.dead, key, row if row and row["state"] == "failed" else None)
            elif table == "slots" and key == "config" and row:
                self.configuration.version = row["doc"]["version"]
            elif table in self._tables:
                _put(self._tables[table], key, row)
        for rows, over in ((self.commands.rows, ENDED), (self.alerts.rows, ("cleared",))):
            _make_room(rows, self.config.kept_commands, over)
        self.registry.renumber()
        self.take_outputs()


def _make_room(rows: dict[str, Message], most: int, over: tuple[str, ...]) -> None:
    """As the core itself forgets: what came first of what is over."""
    for key in [key for key, row in rows.items() if row["state"] in over][: max(0, len(rows) - most)]:
        del rows[key]


def _put(rows: dict[str, Message], key: str, row: Message | None) -> None:
    if row is None:
        rows.pop(key, None)
    else:
        rows[key] = row
