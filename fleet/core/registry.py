"""Who belongs to the fleet: its gateways and nodes, and which gateway reaches which node.

What the operator registers has a key and goes into the gateways' configuration; a node that a gateway reports on though
nobody registered it is only listed.
"""

from typing import TYPE_CHECKING

from firmware.wire.auth import KEY_BYTES
from firmware.wire.ids import valid_id
from fleet.core.transaction import Transaction
from fleet.wire.uplink import Message

if TYPE_CHECKING:
    from fleet.core.manager import FleetCore


class Registry:
    """The rows of all gateways and nodes, by id: one namespace."""

    def __init__(self, core: "FleetCore", gateways: list[Message], nodes: list[Message]) -> None:
        self._core = core
        self.gateways = {row["id"]: dict(row) for row in gateways}
        self.nodes = {row["id"]: dict(row) for row in nodes}
        self._ids: list[str] | None = None

    def add_gateway(self, gateway: Message, now_ms: int) -> None:
        """Register a gateway. Raises ValueError."""
        row = self.gateways.get(gateway["id"], {"id": gateway["id"], "doc": {"state": "new"}})
        kept = {"site": gateway.get("site", "site-01"), "role": gateway.get("role", "primary"), "key": gateway["key"]}
        self._register("gateways", self.gateways, row, kept, now_ms)

    def add_node(self, node: Message, now_ms: int) -> None:
        """Register a node; `groups`: the ids of the groups that it is in, for rules about them. Raises ValueError."""
        fresh = {"state": "new", "attach": 0, "boot": None, "gateway": node.get("gateway")}
        row = self.nodes.get(node["id"], {"id": node["id"], "doc": fresh})
        kept = {"type": node.get("type", "microclaw"), "site": node.get("site", "site-01"), "key": node["key"]}
        if "groups" in node:
            kept["groups"] = list(node["groups"])
        self._register("nodes", self.nodes, row, kept | {"home": node.get("gateway")}, now_ms)

    def discover(self, node: str, gateway: str) -> None:
        """List a node that a gateway reports on though nobody registered it; what was let go stays so."""
        if gateway not in self.gateways or node in self._core.members.retired:
            return
        doc = {"state": "up", "attach": 0, "boot": None, "gateway": gateway, "home": gateway, "type": "unknown"}
        doc["site"] = self.gateways[gateway]["doc"]["site"]
        self.nodes[node] = {"id": node, "doc": doc}
        self._ids = None
        self._core.stores.save("nodes", self.nodes[node])

    def node_ids(self) -> list[str]:
        """The ids of all nodes, in order."""
        if self._ids is None:
            self._ids = sorted(self.nodes)
        return self._ids

    def renumber(self) -> None:
        """The rows were changed from outside."""
        self._ids = None

    def put(self, tx: Transaction, table: str, row: Message) -> None:
        """A row of `gateways` or `nodes` takes the place of what was there, if `tx` is committed."""
        rows = self.nodes if table == "nodes" else self.gateways
        old, rows[row["id"]] = rows.get(row["id"]), row
        self._ids = None
        tx.upsert(table, row)
        tx.undo.append(lambda: self._put_back(rows, row, old))
        if table == "nodes" and old is not None and old["doc"].get("site") != row["doc"].get("site"):
            self._tell_rules(tx, row["id"])

    def drop_node(self, tx: Transaction, node: str) -> None:
        """The node is no more, if `tx` is committed."""
        row = self.nodes.pop(node)
        self._ids = None
        tx.writes.append(("delete", "nodes", node))
        tx.undo.append(lambda: self._put_back(self.nodes, None, row))
        self._tell_rules(tx, node)

    def _tell_rules(self, tx: Transaction, node: str) -> None:
        """A node that is at another site, or nowhere, counts for other rules, once it is committed."""
        tx.after.append(lambda now_ms: self._core.alerts.regroup([node], now_ms))

    def _put_back(self, rows: dict[str, Message], row: Message | None, old: Message | None) -> None:
        self._ids = None
        if old is not None:
            rows[old["id"]] = old
        elif row is not None and rows.get(row["id"]) is row:
            del rows[row["id"]]

    def knows(self, target: str) -> bool:
        """Whether `target` is a registered node or gateway."""
        return target in self.nodes or target in self.gateways

    def gateway_of(self, target: str) -> str | None:
        """The gateway that reaches `target`."""
        if target in self.gateways:
            return target
        gateway = self.nodes[target]["doc"]["gateway"] if target in self.nodes else None
        return gateway if gateway in self.gateways else None

    def serves(self, gateway: str, target: str) -> bool:
        """Whether `gateway` is `target` or may have `target` among its nodes: they are of one site."""
        row = self.nodes.get(target)
        return gateway == target or (row is not None and row["doc"]["site"] == self.gateways[gateway]["doc"]["site"])

    def is_of(self, node: str, site: str) -> bool:
        """Whether a gateway of `site` may speak for `node`: it is registered there, or nowhere."""
        row = self.nodes.get(node)
        return row is None or row["doc"]["site"] == site

    def keys_of_site(self, site: str) -> dict[str, bytes]:
        """The keys of a site's registered nodes."""
        return {
            node: bytes.fromhex(row["doc"]["key"])
            for node, row in self.nodes.items()
            if row["doc"]["site"] == site and row["doc"].get("key")
        }

    def _register(self, table: str, rows: dict[str, Message], row: Message, kept: Message, now_ms: int) -> None:
        entity_id = row["id"]
        other = self.nodes if rows is self.gateways else self.gateways
        if not valid_id(entity_id) or entity_id in other:
            raise ValueError(
                f"{entity_id!r} is not a free id ([a-z0-9][a-z0-9-]{{0,31}}, shared by nodes and gateways)"
            )
        try:
            good = len(bytes.fromhex(kept["key"])) == KEY_BYTES
        except (TypeError, ValueError):
            good = False
        if not good:
            raise ValueError(f"the key of {entity_id} is not {KEY_BYTES} bytes in hex")
        changed = any(row["doc"].get(name) != value for name, value in kept.items())
        row["doc"].setdefault("registered_utc_ms", self._core.utc_ms(now_ms))
        row["doc"].update(kept)
        rows[entity_id] = row
        self._ids = None
        if changed:
            tx = Transaction()
            tx.upsert(table, row)
            self._core.configuration.changed(tx, now_ms)
