"""Nodes that are heard by radio: every gateway of their site forwards what it hears, and the one named here answers.

It is the node's home gateway; without one, the site's first. While that one is down, it is the gateway by which the
node's readings come meanwhile. Two that answered would send under one nonce, and command a node twice.
"""

from functools import partial
from typing import TYPE_CHECKING

from fleet.core.transaction import Transaction
from fleet.wire.uplink import Message

if TYPE_CHECKING:
    from fleet.core.manager import FleetCore


class Air:
    """Which gateway answers which node; it travels in the gateways' configuration."""

    def __init__(self, core: "FleetCore") -> None:
        self._core = core

    def answered_by(self, gateway: str) -> list[str]:
        """The nodes of its site that `gateway` answers, in order."""
        registry = self._core.registry
        site = registry.gateways[gateway]["doc"]["site"]
        ours = sorted(each for each, row in registry.gateways.items() if row["doc"]["site"] == site)
        first = min(ours, key=lambda each: (registry.gateways[each]["doc"].get("role") != "primary", each))
        rows = [(node, registry.nodes[node]["doc"]) for node in sorted(registry.keys_of_site(site))]
        return [node for node, doc in rows if _named(doc, ours, first) == gateway]

    def on_status(self, tx: Transaction, row: Message, gateway: str) -> bool:
        """Whether to believe what `gateway` says of a node that it hears by radio: if it is the one that was named."""
        doc = row["doc"]
        if row["id"] not in self.answered_by(gateway):
            return False
        before = dict(doc)
        tx.undo.append(lambda: doc.update(before))
        doc |= {"air": True, "gateway": gateway}
        return True

    def on_reading(self, row: Message, gateway: str, now_ms: int) -> None:
        """A fresh reading of a node that is not up: if its gateway is down, `gateway` answers from now on."""
        doc, gateways = row["doc"], self._core.registry.gateways
        if doc.get("air") and gateway in gateways and gateway != doc["gateway"]:
            answering = gateways.get(doc["gateway"])
            if answering is None or answering["doc"].get("state") == "down":
                self._name([row], gateway, now_ms)

    def on_gateway_up(self, gateway: str, now_ms: int) -> None:
        """A gateway is back, and answers those whose home it is again."""
        rows = [row for row in self._core.registry.nodes.values() if row["doc"].get("answering") not in (None, gateway)]
        self._name([row for row in rows if row["doc"].get("home") == gateway], gateway, now_ms)

    def _name(self, rows: list[Message], gateway: str, now_ms: int) -> None:
        if not rows:
            return
        tx = Transaction()
        for row in rows:
            doc = row["doc"]
            doc["answering"] = None if doc.get("home") == gateway else gateway
            doc["gateway"] = gateway
            tx.upsert("nodes", row)
            fields = {"node": row["id"], "gateway": gateway}
            tx.after.append(partial(self._say, fields))
        self._core.configuration.changed(tx, now_ms)

    def _say(self, fields: Message, _now_ms: int) -> None:
        self._core.event("node.answered-by", fields)


def _named(doc: Message, ours: list[str], first: str) -> str:
    return next((name for name in (doc.get("answering"), doc.get("home")) if name in ours), first)
