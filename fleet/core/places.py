"""Sites and groups: where nodes are, and which belong together by the operator's wish.

A site is also whatever a gateway or node was registered at; a row of its own gives it a title. A node has one site, and
may be in any number of groups.
"""

from bisect import bisect_left
from collections.abc import Iterable
from typing import TYPE_CHECKING

from firmware.wire.ids import valid_id
from fleet.core.errors import Conflict, Unknown
from fleet.core.transaction import Transaction
from fleet.wire.uplink import Message

if TYPE_CHECKING:
    from fleet.core.manager import FleetCore

MOST_ROWS = 10_000


class Places:
    """The rows of sites and groups, by id."""

    def __init__(self, core: "FleetCore", sites: list[Message], groups: list[Message]) -> None:
        self._core = core
        self.sites = {row["id"]: dict(row) for row in sites}
        self.groups = {row["id"]: dict(row) for row in groups}

    def site_views(self) -> list[Message]:
        """Every site with how many gateways and nodes it has, by id."""
        found = {site: dict(row["doc"]) | {"gateways": 0, "nodes": 0} for site, row in self.sites.items()}
        registry = self._core.registry
        for kind, rows in (("gateways", registry.gateways), ("nodes", registry.nodes)):
            for row in rows.values():
                site = row["doc"].get("site")
                if site is not None:
                    found.setdefault(site, {"gateways": 0, "nodes": 0})[kind] += 1
        return [{"id": site} | found[site] for site in sorted(found)]

    def put_site(self, site: str, doc: Message, now_ms: int) -> bool:
        """Describe a site; whether it is new. Raises ValueError."""
        return self._put("sites", self.sites, site, doc)

    def drop_site(self, site: str, now_ms: int) -> None:
        """Forget an empty site. Raises Unknown, Conflict."""
        view = next((view for view in self.site_views() if view["id"] == site), None)
        if view is None:
            raise Unknown(f"there is no site {site!r}")
        if view["gateways"] or view["nodes"]:
            raise Conflict(f"{site} has {view['gateways']} gateways and {view['nodes']} nodes; move them first")
        self._drop("sites", self.sites, site)

    def holds(self, group: str, node: str) -> bool:
        """Whether the operator has put the node into the group."""
        row = self.groups.get(group)
        nodes = row["doc"]["nodes"] if row else []
        at = bisect_left(nodes, node)
        return at < len(nodes) and nodes[at] == node

    def put_group(self, group: str, doc: Message, now_ms: int) -> bool:
        """Define a group by its `nodes`; whether it is new. Raises Conflict, ValueError."""
        strangers = [node for node in doc["nodes"] if node not in self._core.registry.nodes]
        if strangers:
            raise Conflict(f"there is no node {strangers[0]!r}")
        return self._put("groups", self.groups, group, doc | {"nodes": sorted(set(doc["nodes"]))})

    def drop_group(self, group: str, now_ms: int) -> None:
        """Forget a group; its nodes stay. Raises Unknown."""
        if group not in self.groups:
            raise Unknown(f"there is no group {group!r}")
        self._drop("groups", self.groups, group)

    def forget_node(self, tx: Transaction, node: str) -> None:
        """The node leaves the fleet, and so every group."""
        for group, row in list(self.groups.items()):
            if node in row["doc"]["nodes"]:
                left = [each for each in row["doc"]["nodes"] if each != node]
                self._change(tx, "groups", self.groups, {"id": group, "doc": row["doc"] | {"nodes": left}})

    def _put(self, table: str, rows: dict[str, Message], key: str, doc: Message) -> bool:
        if not valid_id(key):
            raise ValueError(f"{key!r} is not an id: 1 to 32 of a-z, 0-9 and '-', not '-' first")
        if key not in rows and len(rows) >= MOST_ROWS:
            raise Conflict(f"there are {MOST_ROWS} {table} already")
        new, tx = key not in rows, Transaction()
        self._change(tx, table, rows, {"id": key, "doc": doc})
        self._commit(tx, table, key, "added" if new else "changed")
        return new

    def _change(self, tx: Transaction, table: str, rows: dict[str, Message], row: Message) -> None:
        old, rows[row["id"]] = rows.get(row["id"]), row
        tx.upsert(table, row)
        tx.undo.append(lambda: _put_back(rows, row["id"], old))
        self._tell_rules(tx, _nodes_of(old) ^ _nodes_of(row))

    def _drop(self, table: str, rows: dict[str, Message], key: str) -> None:
        tx, old = Transaction(), rows.pop(key, None)
        tx.writes.append(("delete", table, key))
        tx.undo.append(lambda: _put_back(rows, key, old))
        self._tell_rules(tx, _nodes_of(old))
        self._commit(tx, table, key, "removed")

    def _tell_rules(self, tx: Transaction, nodes: Iterable[str]) -> None:
        """Those that came into a group or left it count for other rules, once it is committed."""
        tx.after.append(lambda now_ms: self._core.alerts.regroup(nodes, now_ms))

    def _commit(self, tx: Transaction, table: str, key: str, what: str) -> None:
        kind = table.removesuffix("s")
        tx.after.append(lambda _: self._core.event(f"{kind}.{what}", {kind: key}))
        self._core.stores.commit(tx)


def _nodes_of(row: Message | None) -> set[str]:
    """The nodes of a group; a site has none of its own."""
    return set(row["doc"].get("nodes", ())) if row else set()


def _put_back(rows: dict[str, Message], key: str, old: Message | None) -> None:
    if old is None:
        rows.pop(key, None)
    else:
        rows[key] = old
