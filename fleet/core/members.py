"""The life of a node in the fleet, by the operator's hand: added, its board replaced, moved, stolen, decommissioned.

Each step is one transaction, with a new version of the gateways' configuration where keys or sites change: a key that
is taken out is in no snapshot from that version on. What was changed here, an inventory file changes no more.
"""

from typing import TYPE_CHECKING, Any

from firmware.wire.ids import valid_id
from fleet.core.errors import Conflict, Unknown
from fleet.core.transaction import Transaction
from fleet.wire.uplink import Message

if TYPE_CHECKING:
    from fleet.core.manager import FleetCore

CONFIG_TTL_MS = 7 * 24 * 3600 * 1000  # a node that is off for the weekend is told on Monday


class Members:
    """Changes of the registry's rows, each all or nothing."""

    def __init__(self, core: "FleetCore", retired: list[Message]) -> None:
        self._core = core
        self.retired = {row["id"]: dict(row) for row in retired}

    def is_settled(self, member: str) -> bool:
        """Whether the operator has decided over this node or gateway here, so that an inventory file is late."""
        registry = self._core.registry
        row = registry.nodes.get(member) or registry.gateways.get(member)
        return member in self.retired or bool(row and row["doc"].get("managed"))

    def add_node(self, node: Message, now_ms: int) -> Message:
        """A node with id, type, site, gateway, key, hardware, capabilities, metadata. Raises Conflict, ValueError."""
        core = self._core
        self._check_new(node["id"])
        site = self._site_of(node["gateway"], node["site"])
        doc = {name: node[name] for name in ("type", "key", "hardware", "capabilities", "metadata")}
        doc |= {"state": "new", "attach": 0, "boot": None, "gateway": node["gateway"], "home": node["gateway"]}
        doc |= {"site": site, "managed": True, "registered_utc_ms": core.utc_ms(now_ms)}
        return self._change("nodes", {"id": node["id"], "doc": doc}, "node.registered", now_ms)

    def add_gateway(self, gateway: Message, now_ms: int) -> Message:
        """A gateway with id, site, role, key. Raises Conflict, ValueError."""
        self._check_new(gateway["id"])
        doc = {name: gateway[name] for name in ("site", "role", "key")}
        doc |= {"state": "new", "managed": True, "registered_utc_ms": self._core.utc_ms(now_ms)}
        return self._change("gateways", {"id": gateway["id"], "doc": doc}, "gateway.registered", now_ms)

    def replace(self, node: str, key: str | None, hardware: Message | None, now_ms: int) -> Message:
        """Another board takes the node's place: its new key (None for an agent), its hardware. Raises Unknown.

        The new board counts its joins from the start. An agent's tokens are worth nothing any more.
        """
        doc = dict(self._row(node)["doc"]) | {"hardware": hardware, "attach": 0, "boot": None, "managed": True}
        doc |= {"state": "new", "stolen": False, "reported": None}
        if "generation" in doc:
            doc["generation"] += 1
        else:
            doc["key"] = key
        return self._change("nodes", {"id": node, "doc": doc}, "node.replaced", now_ms)

    def move(self, node: str, gateway: str | None, site: str | None, now_ms: int) -> Message:
        """To another home gateway, another site or both. Raises Unknown, Conflict, ValueError.

        Inside its site the node stays where it is until it joins its new home by itself. From another site's gateway it
        cannot be reached any more, since its key leaves that site.
        """
        doc = dict(self._row(node)["doc"])
        if doc.get("link") is not None and gateway is not None:
            raise Conflict(f"{node} reports by itself and has no gateway")
        site = self._site_of(gateway, site)
        if site != doc.get("site"):
            doc["gateway"] = gateway
        doc |= {"site": site, "home": gateway, "managed": True, "answering": None}
        return self._change("nodes", {"id": node, "doc": doc}, "node.moved", now_ms)

    def mark_stolen(self, node: str, now_ms: int) -> Message:
        """The board is in other hands: its key and its tokens are worth nothing any more. Raises Unknown."""
        row = self._row(node)
        doc = dict(row["doc"]) | {"stolen": True, "key": None, "managed": True}
        if "generation" in doc:
            doc["generation"] += 1
        tx = Transaction()
        self._core.commands.cancel(tx, node, "the node is marked stolen", now_ms)
        return self._change("nodes", {"id": node, "doc": doc}, "node.stolen", now_ms, tx)

    def decommission(self, node: str, now_ms: int) -> None:
        """The node leaves the fleet; its readings stay. Raises Unknown."""
        core, row, tx = self._core, self._row(node), Transaction()
        gone = {"id": node, "doc": {"type": row["doc"].get("type"), "retired_utc_ms": core.utc_ms(now_ms)}}
        self.retired[node] = gone
        tx.upsert("retired", gone)
        tx.undo.append(lambda: _drop(self.retired, node))
        core.registry.drop_node(tx, node)
        core.commands.cancel(tx, node, "the node is decommissioned", now_ms)
        core.alerts.end_of(tx, node, core.utc_ms(now_ms))
        core.places.forget_node(tx, node)
        core.agent_events.forget(tx, node)
        tx.after.append(lambda _: core.event("node.decommissioned", {"node": node}))
        core.configuration.change(tx, now_ms)

    def desire(self, node: str, values: Message, by: str, now_ms: int) -> Message:
        """What the node's own configuration shall be: kept, and sent as a `config` command. Raises as a command does.

        The node reports it by acknowledging that command.
        """
        core, row, tx = self._core, self._row(node), Transaction()
        if row["doc"].get("stolen"):
            raise Conflict(f"{node} is marked stolen")
        version = (row["doc"].get("desired") or {}).get("version", 0) + 1
        command = core.commands.add(tx, "config", node, values, by, CONFIG_TTL_MS, now_ms)
        wanted = {"version": version, "values": values, "command": command["id"], "utc_ms": core.utc_ms(now_ms)}
        changed = {"id": node, "doc": dict(row["doc"]) | {"desired": wanted}}
        core.registry.put(tx, "nodes", changed)
        tx.after.append(lambda _: core.event("node.desired", {"node": node, "version": version}))
        core.stores.commit(tx)
        return changed

    def on_configured(self, command: Message) -> None:
        """A node has taken over what a `config` command said."""
        row = self._core.registry.nodes.get(command["target"])
        if row is None:
            return
        reported = (row["doc"].get("reported") or {}) | command["doc"]["params"]
        row["doc"]["reported"] = reported
        self._core.stores.save("nodes", row)

    def _change(self, table: str, row: Message, kind: str, now_ms: int, tx: Transaction | None = None) -> Message:
        core, tx = self._core, tx or Transaction()
        core.registry.put(tx, table, row)
        gone = self.retired.pop(row["id"], None)
        if gone is not None:
            tx.writes.append(("delete", "retired", row["id"]))
            tx.undo.append(lambda: self.retired.update({row["id"]: gone}))
        tx.after.append(lambda _: core.event(kind, {table.removesuffix("s"): row["id"]}))
        core.configuration.change(tx, now_ms)
        return row

    def _row(self, node: str) -> Message:
        row = self._core.registry.nodes.get(node)
        if row is None:
            raise Unknown(f"there is no node {node!r}")
        return row

    def _check_new(self, member: str) -> None:
        if not valid_id(member):
            raise ValueError(f"{member!r} is not an id: 1 to 32 of a-z, 0-9 and '-', not '-' first")
        if self._core.registry.knows(member):
            raise Conflict(f"there is a node or gateway {member} already")

    def _site_of(self, gateway: str | None, site: str | None) -> str:
        """The site that both mean."""
        if gateway is None:
            if site is None or not valid_id(site):
                raise ValueError("a gateway or a site is needed, the site being an id of a-z, 0-9 and '-'")
            return site
        row = self._core.registry.gateways.get(gateway)
        if row is None:
            raise Conflict(f"there is no gateway {gateway!r}")
        if site not in (None, row["doc"]["site"]):
            raise Conflict(f"{gateway} is of the site {row['doc']['site']}, not {site}")
        return str(row["doc"]["site"])


def _drop(rows: dict[str, Any], key: str) -> None:
    rows.pop(key, None)
