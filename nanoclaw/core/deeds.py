"""What follows when this gateway decides: alarms and commands to its nodes, not too often.

An episode that begins within its rule's cooldown, counted from the last one that was acted upon, is held: if it is
still there when the cooldown ends, everything follows then. An order is durable with the decision that gives it, kept
until its node answers, and executed once by the node.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from fleet.wire.rule import commands_of
from fleet.wire.uplink import Message
from fleet.wire.wakes import Wakes
from fleet.wire.watch import Subject

if TYPE_CHECKING:
    from nanoclaw.core.gateway import GatewayCore

ORDER_TTL_MS = 300_000


class RuleOrder(NamedTuple):
    """A command that a decision gives."""

    core: "GatewayCore"
    kept: Message

    @property
    def named(self) -> Message:
        """What the cloud and the journal are told of it."""
        return {name: self.kept[name] for name in ("id", "action", "target")}

    @property
    def write(self) -> tuple[str, str, Any]:
        """What makes it durable."""
        return ("put", f"cmd:{self.kept['id']}", self.kept)

    def give(self, now_ms: int) -> None:
        """Send it, and again until the node answers."""
        node = self.core.nodes.get(self.kept["target"])
        if node is not None:
            kept = self.kept
            self.core.commands.order(
                kept["action"], node, kept["params"], "gateway", ORDER_TTL_MS, now_ms, kept["id"], kept=True
            )


class Deeds:
    """When each rule was last acted upon, and what waits for a cooldown to end."""

    def __init__(self, core: "GatewayCore") -> None:
        self._core = core
        self.acted_ms: dict[Subject, int] = {}
        self._held: Wakes[Subject] = Wakes()
        self.holding: dict[Subject, int] = {}
        """Whose episode waits, and until when."""

    @property
    def due_ms(self) -> int | None:
        """When a cooldown ends."""
        return self._held.due_ms

    def forget(self, rules: dict[str, Message]) -> None:
        """Rules that are no more have no cooldown either."""
        self.acted_ms = {subject: at_ms for subject, at_ms in self.acted_ms.items() if subject[0] in rules}

    def begins(self, rule: Message, node: str, now_ms: int) -> None:
        """An episode begins: it is acted upon, by us or by the cloud, or held."""
        subject, cooldown_ms = (rule["name"], node), rule.get("cooldown_ms") or 0
        acted_ms = self.acted_ms.get(subject)
        if acted_ms is not None and now_ms - acted_ms < cooldown_ms:
            self.hold(subject, acted_ms + cooldown_ms)
        elif cooldown_ms:
            self.acted_ms[subject] = now_ms
            self._core.decisions.state.touch(now_ms)

    def hold(self, subject: Subject, until_ms: int) -> None:
        """Its episode waits until then."""
        self.holding[subject] = until_ms
        self._held.set(subject, until_ms)

    def ends(self, subject: Subject) -> None:
        """The episode ended, held or not."""
        self.holding.pop(subject, None)
        self._held.set(subject, None)

    def is_held(self, subject: Subject) -> bool:
        """Whether nothing follows yet."""
        return subject in self.holding

    def is_cooling(self, now_ms: int) -> bool:
        """Whether any cooldown is under way."""
        rules = self._core.decisions.rules
        spans = {name: rule.get("cooldown_ms") or 0 for name, rule in rules.items()}
        return any(now_ms - at_ms < spans.get(rule, 0) for (rule, _), at_ms in self.acted_ms.items())

    def released(self, now_ms: int) -> list[Subject]:
        """Those whose cooldown is over."""
        found = self._held.take(now_ms)
        for subject in found:
            self.holding.pop(subject, None)
            self.acted_ms[subject] = now_ms
            self._core.decisions.state.touch(now_ms)
        return found

    def orders(self, rule: Message, node: str, raised: bool, now_ms: int) -> list[RuleOrder]:
        """What the rule commands now; of a held episode nothing, for its alarm never sounded."""
        return [] if self.is_held((rule["name"], node)) else list(self._orders(rule, node, raised, now_ms))

    def _orders(self, rule: Message, node: str, raised: bool, now_ms: int) -> Iterator[RuleOrder]:
        core, utc_ms = self._core, self._core.utc_ms(now_ms)
        for action, target, params in commands_of(rule, node, raised):
            if not core.decisions.serves(target):
                self._refuse(rule, target, now_ms)
                continue
            expires_ms = None if utc_ms is None else utc_ms + ORDER_TTL_MS
            kept = {"id": core.new_name(), "action": action, "target": target, "params": params, "by": "gateway"}
            yield RuleOrder(core, kept | {"expires_utc_ms": expires_ms})

    def give_again(self, rule: Message, node: str, now_ms: int) -> None:
        """The cloud gave the alarm, and can end it no more."""
        for order in self.orders(rule, node, True, now_ms):
            self._core.stores.persist([order.write], None)
            order.give(now_ms)

    def do_held(self, rule: Message, node: str, now_ms: int) -> None:
        """A cooldown is over and the episode still there."""
        orders = self.orders(rule, node, True, now_ms)
        entry = {"rule": rule["name"], "node": node, "commands": [order.named for order in orders]}
        writes = self._core.journal.note("cooldown-over", entry, now_ms)
        self._core.stores.persist([*writes, *(order.write for order in orders)], None)
        for order in orders:
            order.give(now_ms)

    def _refuse(self, rule: Message, target: str, now_ms: int) -> None:
        """The node is another gateway's, or nobody's: from here nobody can command it."""
        reason = "this gateway does not serve it"
        refused = {"rule": rule["name"], "target": target, "reason": reason}
        self._core.event("command.refused", refused)
        self._core.journal.write("command-refused", refused, now_ms)
