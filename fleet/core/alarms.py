"""What follows when an episode begins or ends: it is said, people are told, the node's alarm sounds or falls silent."""

from typing import TYPE_CHECKING

from fleet.core.transaction import Transaction
from fleet.wire.uplink import Message

if TYPE_CHECKING:
    from fleet.core.manager import FleetCore


class Alarms:
    """All or nothing, with the transaction that changes the episode."""

    def __init__(self, core: "FleetCore") -> None:
        self._core = core

    def on_change(self, tx: Transaction, row: Message, now_ms: int) -> None:
        """An episode of ours begins or ends."""
        core = self._core
        raised, rule = row["state"] == "raised", core.alerts.rules.get(row["rule"], {})
        value = row["doc"]["value" if raised else "cleared_value"]
        fields = {"id": row["id"], "node": row["node"], "rule": row["rule"], "value": value, "by": "cloud"}
        tx.upsert("alerts", row)
        tx.after.append(lambda _: core.event("alert.raised" if raised else "alert.cleared", fields))
        if rule.get("action") in ("alert", "notify"):
            self.tell(tx, row)
        if rule.get("action") == "alert" and row["node"] in core.registry.nodes:
            params = {"state": "on" if raised else "off", "rule": row["rule"]}
            core.commands.add(tx, "alert", row["node"], params, "rule", core.config.alarm_ttl_ms, now_ms)

    def tell(self, tx: Transaction, row: Message) -> None:
        """Tell people of an episode, whoever decided it."""
        subject = f"{row['rule']} on {row['node']}: {row['state']}"
        self._core.notify(tx, subject, f"Decided by {row['doc']['by']}; value {row['doc']['value']}.", row["node"])
