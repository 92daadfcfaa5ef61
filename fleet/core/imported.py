"""What gateways decided while the cloud was away, taken over: an episode of theirs is one of ours, and nothing is
repeated.

Both sides name an episode after the reading that raised it, so mostly it is known by its id. Where two of them saw
different readings (a node that was absent for the cloud too, a node that moved, a scope whose nodes have several
gateways) the same matter has two names: what came later is noted in the row of what is open, under `also`.
"""

from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

from fleet.core.alert_rows import new_row
from fleet.core.transaction import Transaction
from fleet.wire.condition import is_per_node, metrics_of
from fleet.wire.rule import is_plain
from fleet.wire.terms import Undo
from fleet.wire.uplink import MAX_UTC_MS, Message, Rejected, check_value, count_of, text_of
from fleet.wire.watch import NO_NODE

if TYPE_CHECKING:
    from fleet.core.alerts import Alerts
    from fleet.core.manager import FleetCore

MOST_COMMANDS = 100
MOST_ALSO = 20


class Imported:
    """Takes decisions over into the rows of alerts."""

    def __init__(self, core: "FleetCore", alerts: "Alerts") -> None:
        self._core, self._alerts = core, alerts
        self.skipped: dict[tuple[str, str], int] = {}
        """By node and metric, up to which time of reading a gateway has decided."""

    def check(self, message: Message) -> str | None:
        """The node that a decision is about, or None if it is about no single one. Raises Rejected."""
        for name in ("alert", "rule"):
            text_of(message, name, 128)
        for name in ("utc_ms", "reading_utc_ms", "judged", "members"):
            if message.get(name) is not None:
                count_of(message, name, MAX_UTC_MS)
        if message.get("value") is not None:
            check_value(message["value"])
        commands = message.get("commands", [])
        if not isinstance(commands, list) or len(commands) > MOST_COMMANDS:
            raise Rejected(f"commands is not a list of at most {MOST_COMMANDS}")
        for command in commands:
            for name in ("id", "action", "target"):
                text_of(command if isinstance(command, dict) else {}, name, 128)
        if "sensor" in message:
            return text_of(message, "sensor", 128)
        rule = self._alerts.rules.get(message["rule"])
        if rule is None or is_per_node(rule["when"]):
            raise Rejected("a decision about no node, by a rule that is about one or is not known")
        return None

    def take(
        self, message: Message, gateway: str, node: str | None, raised: bool, tx: Transaction, now_ms: int
    ) -> Message | None:
        """The alert row that a checked decision changes, or None when all of it is known already."""
        alerts, rule, episode = self._alerts, message["rule"], message["alert"]
        key, table, undo = (rule, node or NO_NODE), alerts.open_of(rule), tx.undo
        old, opened = alerts.rows.get(episode), table.get(key)
        if old is None and raised and opened is not None:
            self._note(alerts.rows.get(opened), episode, tx)
            return None
        if old is None and not raised:
            old = self._under_another_name(episode, node)
        if not self._is_news(old, raised, rule):
            return None
        self._skip_to(message, gateway, node, undo)
        row = self._new(message, node) if old is None else old
        undo.append(lambda: put_back(table, key, opened))
        undo.append(lambda: put_back(alerts.rows, row["id"], old))
        if raised:
            table[key] = episode
            alerts.settle(key, now_ms, undo)
        else:
            if table.get(key) == row["id"]:
                del table[key]
            row = row | {"state": "cleared", "cleared_utc_ms": _time_of(message)}
        alerts.keep(row)
        return row

    def _is_news(self, row: Message | None, raised: bool, rule: str) -> bool:
        if row is not None:
            return not raised and row["state"] == "raised"
        definition = self._alerts.rules.get(rule)
        # Of a comparison the end is kept even if the beginning never arrived; of the others nobody was told.
        return raised or definition is None or is_plain(definition)

    def _new(self, message: Message, node: str | None) -> Message:
        definition = self._alerts.rules.get(message["rule"])
        hidden = self._core.sensitive.hides(definition, node)
        value = None if hidden else message.get("value")
        row = new_row(message["alert"], node, message["rule"], _time_of(message), value, "gateway", definition)
        row["doc"] |= {name: message[name] for name in ("commands", "judged", "members") if name in message}
        if hidden:
            row["doc"]["sealed"] = True
        return row

    def _note(self, row: Message | None, episode: str, tx: Transaction) -> None:
        """The gateway's name for what is open here."""
        if row is not None:
            doc = row["doc"]
            tx.undo.append(lambda: row.update(doc=doc))
            row["doc"] = doc | {"also": [*doc.get("also", [])[1 - MOST_ALSO :], episode]}
            tx.upsert("alerts", row)

    def _under_another_name(self, episode: str, node: str | None) -> Message | None:
        """The row of a node's episode that the gateway calls `episode`. Of a scope a gateway sees a part: that it has
        ended there ends nothing here."""
        if node is None:
            return None
        rows = self._alerts.rows.values()
        return next((row for row in rows if episode in row["doc"].get("also", ())), None)

    def _skip_to(self, message: Message, gateway: str, node: str | None, undo: list[Undo]) -> None:
        """Readings of before the decision, which are still on their way, say nothing about its episode."""
        definition, utc_ms = self._alerts.rules.get(message["rule"]), message.get("reading_utc_ms")
        if definition is None or utc_ms is None:
            return
        nodes = self._core.registry.nodes
        about = [node] if node is not None else [one for one, row in nodes.items() if row["doc"]["gateway"] == gateway]
        for key in product(about, metrics_of(definition["when"])):
            before = self.skipped.get(key)
            self.skipped[key] = max(utc_ms, before or 0)
            undo.append(partial(put_back, self.skipped, key, before))


def _time_of(message: Message) -> int | None:
    return message.get("reading_utc_ms") or message.get("utc_ms")


def put_back(table: dict[Any, Any], key: object, value: object) -> None:
    """What was in the table before, or nothing."""
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
