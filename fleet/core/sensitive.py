"""Which metrics are sensitive, and where: their values are secrets from the moment in which a reading is taken.

A row of `sensitive` is `{"id": metric, "doc": {"in": [scope, …], "rules": bool}}`: `in` are scopes as rules have them
(`fleet`, `site:ID`, `group:ID`, `node:ID`), `rules` says whether rules may look at the values. A row of `sealing` is
`{"id": node, "doc": {"metrics": […], "keys": […]}}`: what the node seals by itself, and the sealing keys that it has
had, closed with a data key, the newest first. Sealed metrics are sensitive without further words.
"""

from typing import TYPE_CHECKING

from firmware.wire.ids import valid_id, valid_metric
from fleet.core.errors import Conflict, Unknown
from fleet.core.rows import ReadingRow, Secret
from fleet.core.transaction import Transaction
from fleet.core.vault import KEY_BYTES, Vault, VaultError
from fleet.wire.condition import FLEET, SCOPES, metrics_of, subtrees
from fleet.wire.terms import Value
from fleet.wire.uplink import Message

if TYPE_CHECKING:
    from fleet.core.manager import FleetCore

MOST_METRICS = 1_000
MOST_SCOPES = 100
MOST_KEYS = 16  # of one node: its boards, one after the other
_LOOKING = ("metric", "rate", "avg")  # `absent` looks at the clock alone


class Sensitive:
    """The rows of `sensitive` and `sealing`, by metric and by node."""

    def __init__(self, core: "FleetCore", restored: dict[str, list[Message]], vault: Vault) -> None:
        """Raises VaultError when a key is missing for what the rows hold."""
        self._core, self.vault = core, vault
        self.rows = {row["id"]: dict(row) for row in restored.get("sensitive", [])}
        self.sealing = {row["id"]: dict(row) for row in restored.get("sealing", [])}
        self._keys: dict[str, list[bytes]] = {}
        kept = {row["name"]: row["doc"] for row in restored.get("slots", [])}
        self.settled = bool(kept.get("sensitive", {}).get("managed"))
        self.metrics: frozenset[str] = frozenset()
        if self.rows and vault.newest is None:
            raise VaultError(f"{next(iter(self.rows))} is sensitive, and there is no data key to keep it with")
        for row in self.sealing.values():
            self._open_keys(row)
        self._refresh()

    # --- what a reading is ----------------------------------------------------------------------------------------

    def holds(self, node: str, metric: str) -> bool:
        """Whether that metric of that node is sensitive."""
        if metric not in self.metrics:
            return False
        row = self.rows.get(metric)
        if row is not None and any(self._covers(scope, node) for scope in row["doc"]["in"]):
            return True
        return metric in self.sealed_of(node)

    def sealed_of(self, node: str) -> list[str]:
        """The metrics that the node seals."""
        row = self.sealing.get(node)
        return list(row["doc"]["metrics"]) if row else []

    def value_of(self, reading: Message, node: str, boot: int, seq: int) -> Value | Secret:
        """The value of a checked reading: a secret if it is sealed or sensitive."""
        metric = reading["metric"]
        value: Value | None = reading.get("value")
        if value is None:
            sealed = reading["sealed"]
            return Secret(self.vault.unseal(node, boot, seq, metric, sealed), sealed)
        return Secret(value) if self.holds(node, metric) else value

    def say_unreadable(self, row: ReadingRow) -> None:
        """A sealed reading is stored that nobody can open."""
        known = self.vault.knows_seal_of(row.node)
        reason = "the seal is broken, or of another key" if known else "no sealing key of the node is known"
        fields = {"node": row.node, "boot": row.boot, "seq": row.seq, "metric": row.metric, "reason": reason}
        self._core.event("reading.unreadable", fields)

    # --- rules ----------------------------------------------------------------------------------------------------

    def hides(self, rule: Message | None, node: str | None) -> bool:
        """Whether the value of an episode of `rule` is nobody's business: it comes of a sensitive metric."""
        if not self.metrics:
            return False
        if rule is None:
            return True  # it is gone, and with it what it was about
        return any(self.holds(node, metric) if node else metric in self.metrics for metric in metrics_of(rule["when"]))

    def check_rules(self, rules: list[Message]) -> None:
        """Raises ValueError for a rule that looks at what no rule may look at."""
        for rule in rules:
            for metric in _looked_at(rule):
                reason = self._closed(metric)
                if reason:
                    raise ValueError(f"rule {rule['name']}: {reason}; mark {metric} sensitive with rules allowed first")

    def _closed(self, metric: str) -> str | None:
        row = self.rows.get(metric)
        if row is not None:
            return None if row["doc"]["rules"] else f"{metric} is sensitive"
        nodes = self._core.registry.nodes
        sealed_by = next((node for node in self.sealing if node in nodes and metric in self.sealed_of(node)), None)
        return sealed_by and f"{metric} is sealed by {sealed_by}"

    # --- the operator's requests ----------------------------------------------------------------------------------

    def set_all(self, entries: list[Message], now_ms: int) -> None:
        """What an inventory file says: {"metric", "in", "rules"} each. Raises ValueError, Conflict."""
        wanted = {entry.get("metric"): entry for entry in entries}
        for metric in [metric for metric in self.rows if metric not in wanted]:
            self._drop(metric, False)
        for metric, entry in wanted.items():
            doc = {"in": list(entry.get("in") or [FLEET]), "rules": entry.get("rules", False)}
            if unknown := set(entry) - {"metric", "in", "rules"}:
                raise ValueError(f"a sensitive metric has no {', '.join(sorted(map(str, unknown)))}")
            if self.rows.get(str(metric), {}).get("doc") != doc:
                self._put(metric, doc, False)

    def put(self, metric: str, doc: Message, now_ms: int) -> bool:
        """Mark a metric as sensitive, or change where it is; whether it is new. Raises ValueError, Conflict."""
        return self._put(metric, {"in": list(doc.get("in") or [FLEET]), "rules": doc.get("rules", False)}, True)

    def drop(self, metric: str, now_ms: int) -> None:
        """From now on the metric is like any other; what is stored stays closed. Raises Unknown, Conflict."""
        if metric not in self.rows:
            raise Unknown(f"{metric!r} is not marked sensitive")
        self._drop(metric, True)

    def seal_as_listed(self, node: str, metrics: list[str], key: str | None) -> None:
        """What an inventory file says of a node, unless it was decided over the API. Raises as `set_sealing`."""
        if not self.sealing.get(node, {}).get("doc", {}).get("managed"):
            self._seal(node, metrics, key, False)

    def set_sealing(self, node: str, metrics: list[str], key: str | None, now_ms: int) -> None:
        """The node seals these metrics, with another key from now on unless `key` (64 hex digits) is None.

        Raises Unknown, Conflict, ValueError.
        """
        self._seal(node, metrics, key, True)

    def show(self, table: str, key: str, row: Message | None) -> None:
        """Another core has changed the row of `table` to this; None when it is no more. Raises VaultError."""
        rows = self.rows if table == "sensitive" else self.sealing
        rows.pop(key, None)
        if row is not None:
            rows[key] = row
            if table == "sealing":
                self._open_keys(row)
        self._refresh()

    # --- plumbing -------------------------------------------------------------------------------------------------

    def _open_keys(self, row: Message) -> None:
        node = row["id"]
        texts = [self.vault.open(text, about_key(node)).decode() for text in row["doc"]["keys"]]
        self._learn(node, [bytes.fromhex(text) for text in texts])

    def _seal(self, node: str, metrics: list[str], key: str | None, by_hand: bool) -> None:
        if node not in self._core.registry.nodes:
            raise Unknown(f"there is no node {node!r}")
        if len(metrics) > MOST_SCOPES or not all(valid_metric(metric) for metric in metrics):
            raise ValueError(f"sealed: expected at most {MOST_SCOPES} metrics")
        keys = list(self._keys.get(node, []))
        if key is not None and bytes.fromhex(key) not in keys[:1]:
            keys = [bytes.fromhex(key), *keys][:MOST_KEYS]
        if metrics and not keys:
            raise ValueError(f"{node} seals {metrics[0]}, so it needs a sealing key")
        before = self.sealing.get(node)
        if not (before or metrics) or (
            before and before["doc"]["metrics"] == sorted(metrics) and keys == self._keys[node]
        ):
            return
        closed = [self._close(key.hex().encode(), about_key(node)) for key in keys]
        doc: Message = {"metrics": sorted(metrics), "keys": closed, "managed": by_hand}
        self._change("sealing", self.sealing, {"id": node, "doc": doc}, {"node": node}, False)
        self._learn(node, keys)

    def _put(self, metric: object, doc: Message, by_hand: bool) -> bool:
        if not isinstance(metric, str) or not valid_metric(metric):
            raise ValueError(f"{metric!r} is not the name of a metric")
        _check(doc)
        if metric not in self.rows and len(self.rows) >= MOST_METRICS:
            raise Conflict(f"there are {MOST_METRICS} sensitive metrics already")
        self._close(b"", b"")  # without a data key nothing becomes sensitive
        new = metric not in self.rows
        self._change("sensitive", self.rows, {"id": metric, "doc": doc}, {"metric": metric}, by_hand)
        return new

    def _drop(self, metric: str, by_hand: bool) -> None:
        self._change("sensitive", self.rows, metric, {"metric": metric}, by_hand)

    def _change(
        self, table: str, rows: dict[str, Message], change: Message | str, fields: Message, by_hand: bool
    ) -> None:
        """A row to keep, or the id of one that goes. Raises Conflict when a rule in force looks at what it closes."""
        key = change if isinstance(change, str) else change["id"]
        old = rows.get(key)
        tx = Transaction()

        def put(row: Message | None) -> None:
            rows.pop(key, None)
            if row is not None:
                rows[key] = row
            self._refresh()

        put(None if isinstance(change, str) else change)
        try:
            self.check_rules(list(self._core.alerts.rules.values()))
        except ValueError as error:
            put(old)
            raise Conflict(str(error)) from None
        if isinstance(change, str):
            tx.writes.append(("delete", table, key))
        else:
            tx.upsert(table, change)
        if by_hand:
            self.settled = True
            tx.upsert("slots", {"name": "sensitive", "doc": {"managed": True}})
        tx.undo.append(lambda: put(old))
        tx.after.append(lambda _: self._core.event(f"{table}.changed", fields))
        self._core.stores.commit(tx)

    def _learn(self, node: str, keys: list[bytes]) -> None:
        if any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"a sealing key has {KEY_BYTES} bytes")
        self._keys[node] = keys
        self.vault.set_sealing(node, keys)

    def _close(self, plain: bytes, about: bytes) -> str:
        try:
            return self.vault.close(plain, about)
        except VaultError as error:
            raise Conflict(str(error)) from None

    def _refresh(self) -> None:
        sealed = {metric for row in self.sealing.values() for metric in row["doc"]["metrics"]}
        self.metrics = frozenset(self.rows) | sealed

    def _covers(self, scope: str, node: str) -> bool:
        kind, _, name = scope.partition(":")
        if kind == "group" and self._core.places.holds(name, node):
            return True
        return scope == FLEET or self._core.alerts.is_in_scope(scope, node)


def _check(doc: Message) -> None:
    """Raises ValueError."""
    if type(doc["rules"]) is not bool:
        raise ValueError("rules is neither true nor false")
    if len(doc["in"]) > MOST_SCOPES:
        raise ValueError(f"in has more than {MOST_SCOPES} places")
    for scope in doc["in"]:
        kind, _, name = str(scope).partition(":")
        if scope != FLEET and not (isinstance(scope, str) and kind in SCOPES and valid_id(name)):
            raise ValueError(f"in: {scope!r} is none of {FLEET}, {', '.join(f'{kind}:ID' for kind in SCOPES)}")


def _looked_at(rule: Message) -> list[str]:
    trees = [rule["when"], *([rule["clear"]] if rule.get("clear") else [])]
    return [str(part[word]) for tree in trees for part, _ in subtrees(tree) for word in _LOOKING if word in part]


def about_key(node: str) -> bytes:
    """What a sealing key at rest is bound to."""
    return f"clawland sealing key 1\n{node}".encode()
