"""The configuration of all gateways: one version, pushed whole to whoever lacks it."""

from typing import TYPE_CHECKING, Any

from fleet.core.errors import Unknown
from fleet.core.transaction import Transaction
from fleet.wire import snapshot, uplink
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
        self.rules_settled = bool(kept.get("rules", {}).get("managed"))

    def set_rules(self, rules: list[Message], now_ms: int) -> None:
        """Replace all rules. Raises ValueError."""
        core = self._core
        names = [rule.get("name") for rule in rules]
        if len(set(names)) != len(names):
            raise ValueError("two rules have one name")
        for rule in rules:
            snapshot.check_rule(rule)
        if list(core.alerts.rules.values()) == rules:
            return
        gone = [name for name in core.alerts.rules if name not in names]
        ended = core.alerts.set_rules(rules, core.utc_ms(now_ms))
        writes: list[Any] = [("delete", "rules", name) for name in gone]
        writes += [("upsert", "alerts", row) for row in ended]
        for row in ended:
            core.event("alert.cleared", {"id": row["id"], "node": row["node"], "rule": row["rule"], "by": "cloud"})
        writes += [("upsert", "rules", {"name": rule["name"], "doc": rule}) for rule in rules]
        self.changed(writes, now_ms)

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

    def changed(self, writes: list[Any], now_ms: int) -> None:
        """A new version with `writes`, which nothing waits for."""
        self._core.stores.persist([*writes, ("upsert", "slots", self._next(now_ms))], None)
        self._push_all()

    def change(self, tx: Transaction, now_ms: int) -> None:
        """A new version with what `tx` changes, pushed once that is committed."""
        tx.upsert("slots", self._next(now_ms))
        tx.after.append(lambda _: self._push_all())
        self._core.stores.commit(tx)

    def _next(self, now_ms: int) -> Message:
        """A new version, never one that a lost database has used before: at least the UTC in seconds."""
        self.version = max(self.version + 1, self._core.utc_ms(now_ms) // 1000)
        return {"name": "config", "doc": {"version": self.version}}

    def _push_all(self) -> None:
        for gateway in self._core.registry.gateways:
            if self._core.health.reachable(gateway):
                self.push(gateway)

    def push(self, gateway: str) -> None:
        """Send the gateway its whole configuration: the rules, and its site's nodes with their keys."""
        core = self._core
        doc = core.registry.gateways[gateway]["doc"]
        keys = core.registry.keys_of_site(doc["site"])
        nonce = self._rng.getrandbits(8 * snapshot.NONCE_BYTES).to_bytes(snapshot.NONCE_BYTES, "big")
        rules = list(core.alerts.rules.values())
        found = snapshot.build(self.version, rules, keys, gateway, bytes.fromhex(doc["key"]), nonce)
        core.send(gateway, "config", uplink.encode(found))

    def on_ack(self, gateway: str, message: Message) -> None:
        """The gateway has a configuration on disk. Raises Rejected."""
        self._core.registry.gateways[gateway]["doc"]["config_hash"] = uplink.text_of(message, "hash")
