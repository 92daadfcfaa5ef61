"""The configuration of all gateways: one version, pushed whole to whoever lacks it."""

from functools import partial
from typing import TYPE_CHECKING, Any

from fleet.core.errors import Unknown
from fleet.core.transaction import Transaction
from fleet.wire import snapshot, uplink
from fleet.wire.condition import subtrees
from fleet.wire.rule import BASE, capable, check_keys, check_rule
from fleet.wire.uplink import Message

if TYPE_CHECKING:
    from fleet.core.manager import FleetCore


class Configuration:
    """The version in force; what it consists of is the registry's and the rules'."""

    def __init__(self, core: "FleetCore", slots: list[Message], rng: Any) -> None:
        self._core = core
        self._rng = rng
        kept = {row["name"]: row["doc"] for row in slots}
        self.version: int = kept.get("config", {}).get("version", 0)
        self._committed = self.version
        self._counted: tuple[int, dict[str, int]] = (-1, {})  # nodes by scope, as of that version
        self._gone: set[str] = set()  # rules that were deleted since the start
        self.rules_settled = bool(kept.get("rules", {}).get("managed"))

    def set_rules(self, rules: list[Message], now_ms: int) -> None:
        """Replace all rules. Raises ValueError."""
        core = self._core
        names = [rule.get("name") for rule in rules]
        if len(set(names)) != len(names):
            raise ValueError("two rules have one name")
        for rule in rules:
            check_keys(rule)
            check_rule(rule)
        core.sensitive.check_rules(rules)
        if list(core.alerts.rules.values()) == rules:
            return
        gone = [name for name in core.alerts.rules if name not in names]
        self._gone.update(gone)
        tx = Transaction()
        tx.writes += [("delete", "rules", name) for name in gone]
        ended, writes = core.alerts.set_rules(rules, now_ms)
        tx.writes += writes
        for row in ended:
            tx.upsert("alerts", row)
            fields = {"id": row["id"], "node": row["node"], "rule": row["rule"], "by": "cloud"}
            tx.after.append(partial(_say_cleared, core, fields))
        for rule in rules:
            tx.upsert("rules", {"name": rule["name"], "doc": rule})
        self.changed(tx, now_ms)

    def put_rule(self, rule: Message, now_ms: int) -> bool:
        """Add a rule, or put it in the place of the one of its name; whether it is new. Raises ValueError."""
        rules = dict(self._core.alerts.rules)
        new = rule["name"] not in rules
        self._edit(list((rules | {rule["name"]: rule}).values()), rule["name"], now_ms)
        return new

    def drop_rule(self, name: str, now_ms: int) -> None:
        """Forget a rule; its open alerts end. Raises Unknown."""
        rules = dict(self._core.alerts.rules)
        if rules.pop(name, None) is None:
            raise Unknown(f"there is no rule {name!r}")
        self._edit(list(rules.values()), name, now_ms)

    def _edit(self, rules: list[Message], name: str, now_ms: int) -> None:
        """The operator has decided over the rules here, so from now on an inventory file is late."""
        self.set_rules(rules, now_ms)
        self.rules_settled = True
        self._core.stores.persist([("upsert", "slots", {"name": "rules", "doc": {"managed": True}})], None)
        self._core.event("rule.changed", {"rule": name})

    def changed(self, tx: Transaction, now_ms: int) -> None:
        """What `tx` writes makes a new version, which the database has to take sooner or later."""
        self._next(tx, now_ms)
        self._core.stores.insist(tx, self._everything)

    def change(self, tx: Transaction, now_ms: int) -> None:
        """What `tx` changes makes a new version, unless the database refuses it: then nothing has changed."""
        version = self._next(tx, now_ms)
        tx.undo.append(lambda: self._settle(version))
        self._core.stores.commit(tx)

    def _next(self, tx: Transaction, now_ms: int) -> int:
        """A new version, never one that a lost database has used before: at least the UTC in seconds. Gateways are
        given it once it is committed."""
        self.version = version = max(self.version + 1, self._core.utc_ms(now_ms) // 1000)
        tx.upsert("slots", {"name": "config", "doc": {"version": version}})
        tx.after.append(lambda _: self._on_committed(version))
        return version

    def _everything(self, tx: Transaction) -> None:
        """All of the configuration as it is now."""
        core = self._core
        names = core.alerts.rules.keys()
        tx.writes += [("delete", "rules", name) for name in sorted(self._gone - names)]
        for name, rule in core.alerts.rules.items():
            tx.upsert("rules", {"name": name, "doc": rule})
        for table, rows in (("gateways", core.registry.gateways), ("nodes", core.registry.nodes)):
            for row in rows.values():
                tx.upsert(table, row)
        for row in core.alerts.rows.values():
            tx.upsert("alerts", row)
        tx.upsert("slots", {"name": "config", "doc": {"version": self.version}})

    def _settle(self, version: int) -> None:
        """Nothing of that version is on its way to the database any more."""
        self._committed = max(version, self._committed)

    def _on_committed(self, version: int) -> None:
        core = self._core
        self._settle(version)
        for gateway in core.registry.gateways:
            if core.health.reachable(gateway):
                self.push(gateway)

    def push(self, gateway: str) -> None:
        """Send the gateway its whole configuration: the rules that it can evaluate, its site's nodes, their keys, and
        which of them it answers by radio.

        Not while the latest change is on its way to the database: it is sent when that is done.
        """
        core = self._core
        if self._committed < self.version:
            return
        doc = core.registry.gateways[gateway]["doc"]
        keys = core.registry.keys_of_site(doc["site"])
        nonce = self._rng.getrandbits(8 * snapshot.NONCE_BYTES).to_bytes(snapshot.NONCE_BYTES, "big")
        able = frozenset(doc.get("capabilities", BASE))
        rules = [rule for rule in core.alerts.rules.values() if capable(rule, able)]
        found = snapshot.build(
            self.version,
            rules,
            keys,
            gateway,
            bytes.fromhex(doc["key"]),
            nonce,
            core.air.answered_by(gateway),
            self._places(list(keys)),
        )
        core.send(gateway, "config", uplink.encode(found))

    def _places(self, nodes: list[str]) -> Message:
        """Where nodes belong, and how many nodes there are in the scopes that the rules are about."""
        docs = {node: self._core.registry.nodes[node]["doc"] for node in nodes}
        places: Message = {
            "homes": {node: doc["home"] for node, doc in docs.items() if doc.get("home")},
            "groups": {node: doc["groups"] for node, doc in docs.items() if doc.get("groups")},
            "members": self._members(),
        }
        return {name: table for name, table in places.items() if table}

    def _members(self) -> dict[str, int]:
        """Counted once a version: it is the same for all gateways."""
        version, counted = self._counted
        if version != self.version:
            alerts, nodes = self._core.alerts, self._core.registry.nodes
            trees = [tree for rule in alerts.rules.values() for tree in (rule["when"], rule.get("clear")) if tree]
            scopes = sorted({str(part["in"]) for tree in trees for part, _ in subtrees(tree) if "in" in part})
            counted = {scope: sum(alerts.is_in_scope(scope, node) for node in nodes) for scope in scopes}
            self._counted = self.version, counted
        return counted

    def on_ack(self, gateway: str, message: Message) -> None:
        """The gateway has a configuration on disk. Raises Rejected."""
        self._core.registry.gateways[gateway]["doc"]["config_hash"] = uplink.text_of(message, "hash")


def _say_cleared(core: "FleetCore", fields: Message, _now_ms: int) -> None:
    core.event("alert.cleared", fields)
