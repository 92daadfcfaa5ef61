"""Rules at the edge: evaluated always, acted upon while the cloud is away.

An episode is named after the reading that raised it, so cloud and gateway derive the same id and neither repeats what
the other said. Going offline, the alarms that are still true are given again, by the gateway this time.

A rule about a group, a site or the fleet is judged over the nodes that this gateway serves: of the others it hears
nothing. What it decides then says over how many of how many nodes.
"""

from typing import TYPE_CHECKING, Any

from firmware.wire.rules import Episodes
from fleet.wire.condition import is_per_node, metrics_of, subtrees
from fleet.wire.rule import is_plain, scope_of
from fleet.wire.terms import Key, Sample, Undo, in_scope
from fleet.wire.uplink import Message
from fleet.wire.watch import NO_NODE, Subject, Watch
from fleet.wire.watched import Change
from nanoclaw.core.deeds import Deeds
from nanoclaw.core.roster import Node
from nanoclaw.core.rule_state import RuleState

if TYPE_CHECKING:
    from nanoclaw.core.gateway import GatewayCore

_UNKNOWN = (0, None, None, False)


class _Look:
    """Nothing is ever taken back here; `writes` shows that a `for` began or ended."""

    def __init__(self) -> None:
        self.undo: list[Undo] = []
        self.writes: list[Any] = []

    def upsert(self, table: str, row: Message) -> None:
        """A `for` began."""
        self.writes.append((table, row["id"]))


class Decisions:
    """The rule state of this gateway's nodes."""

    def __init__(self, core: "GatewayCore") -> None:
        self._core = core
        self.episodes = Episodes()
        """Of rules that only compare; the others are the watch's."""
        self.watch = Watch(self._in_scope, core.config.for_lag_ms, self._knows)
        self.rules: dict[str, Message] = {}
        self.deeds = Deeds(core)
        self.state = RuleState(core, self)
        self._given: tuple[list[Message], Message] = ([], {})
        self._blind: set[tuple[str, str]] = set()  # rule and node
        # By episode: outbox id, value and UTC of its reading, and whether the cloud is told of it for certain.
        self._raised_by: dict[str, tuple[int, Any, int | None, bool]] = {}

    # --- inputs ---------------------------------------------------------------------------------------------------

    def set_rules(self, rules: list[Message], now_ms: int) -> None:
        """The snapshot's rules; what is known of the nodes goes on to count."""
        given = (rules, self._core.configuration.places)
        if given == self._given:
            return  # with other keys or nodes only: what a rate remembers is not to be lost for that
        self._given = given
        self.rules = {rule["name"]: rule for rule in rules}
        known, plain = dict(self.watch.facts.latest), [rule for rule in rules if is_plain(rule)]
        self.episodes.set_rules(plain)
        self.watch.set_rules(rule for rule in rules if not is_plain(rule))
        watched = self.rules.keys() - self.episodes.rules.keys()
        for subject in [subject for subject in self.watch.open if subject[0] not in watched]:
            del self.watch.open[subject]
        self.deeds.forget(self.rules)
        self._blind.clear()
        for node in self._core.nodes.values():
            for metric, (at_ms, value) in node.latest.items():
                known.setdefault((node.id, metric), Sample(at_ms, value, max(0, node.boot), 0))
        self.watch.learn(known.items(), now_ms)

    def restore(self, slots: dict[str, Any], now_ms: int) -> None:
        """What was active before the gateway restarted."""
        for rule, node, episode, raised_by in slots.get("episodes") or []:
            if rule in self.rules:
                self._table(self.rules[rule])[rule, node] = episode
                self._raised_by[episode] = tuple(raised_by)
        self.state.restore(slots.get("rules"), now_ms)

    def on_reading(self, node: Node, metric: str, entry: Message, at_ms: int, item_id: int, now_ms: int) -> None:
        """A timely reading, taken at `at_ms`; one older than the last evaluated changes nothing."""
        latest = node.latest.get(metric)
        if latest is not None and at_ms < latest[0]:
            return
        value = entry.get("value")
        if value is None:
            self._refuse(node, metric)
        else:
            node.latest[metric] = at_ms, value
            self._core.recent.changed = True
            for rule, episode, raised in self.episodes.evaluate(node.id, metric, value, entry["boot"], entry["seq"]):
                self._raised_by[episode] = (item_id, value, entry.get("utc_ms"), False)  # or cleared by
                self._changed(rule, node.id, episode, raised, now_ms)
        if metric in self.watch.metrics:
            sample = Sample(at_ms, value, entry["boot"], entry["seq"])
            self._on_sample((node.id, metric), sample, item_id, entry.get("utc_ms"), now_ms)

    def on_left(self, node: str, now_ms: int) -> None:
        """Another gateway has the node: what is open about it is that gateway's, or the cloud's, to end."""
        self.watch.forget(node, now_ms)
        for subject in [subject for subject in self.episodes.open if subject[1] == node]:
            del self.episodes.open[subject]
        self._core.stores.persist([self._kept()], None)
        self.state.touch(now_ms)

    def take_over(self, now_ms: int) -> None:
        """The cloud is gone: give the alarms that are still true again, and say those that it cannot know of."""
        for (name, node_id), episode in [*self.episodes.open.items(), *self.watch.open.items()]:
            if node_id != NO_NODE and not self.serves(node_id):
                continue
            item_id, _, _, told = self._raised_by.get(episode, _UNKNOWN)
            new = item_id >= self._core.intake.window_first_id or item_id in self._core.outbox.waiting
            if new and not told:
                self._decide(self.rules[name], node_id, episode, True, now_ms)
            elif self.rules[name]["action"] == "alert" and not self.deeds.is_held((name, node_id)):
                self.deeds.give_again(self.rules[name], node_id, now_ms)

    @property
    def due_ms(self) -> int | None:
        """When time alone may change something: one timer for all rules and nodes."""
        due_ms = self.state.due_ms
        for other_ms in (self.watch.wakes.due_ms, self.deeds.due_ms):
            if other_ms is not None and (due_ms is None or other_ms < due_ms):
                due_ms = other_ms
        return due_ms

    def on_timer(self, now_ms: int) -> None:
        """What begins or ends by time alone, what waited for the end of a cooldown, what is to be kept."""
        due_ms = self.watch.wakes.due_ms
        if due_ms is not None and now_ms >= due_ms:
            look = _Look()
            for change in self.watch.on_timer(now_ms, look):
                self._watched(change, self._core.outbox.next_id, None, now_ms)
            self._note(look, now_ms)
        for rule, node in self.deeds.released(now_ms):
            if rule in self.rules and (rule, node) in self._table(self.rules[rule]) and self._acts(self.rules[rule]):
                self.deeds.do_held(self.rules[rule], node, now_ms)
        self.state.on_timer(now_ms)

    # --- what rules ask -------------------------------------------------------------------------------------------

    def serves(self, node: str) -> bool:
        """Whether the node is one of ours, and no other gateway's by now."""
        found = self._core.nodes.get(node)
        return found is not None and found.state != "released"

    def is_open_about(self, node: str) -> bool:
        """Whether there is an open episode about the node."""
        return any(subject[1] == node for subject in [*self.episodes.open, *self.watch.open])

    def _knows(self, episode: str) -> bool:
        return episode in self._raised_by or self._core.journal.knows(episode)

    def _in_scope(self, scope: str, node: str) -> bool:
        places = self._core.configuration.places
        return self.serves(node) and in_scope(scope, self._core.config.site, places["groups"].get(node), node)

    def _part(self, rule: Message) -> Message:
        """Over how many nodes a rule about a scope is judged here, and how many the scope has."""
        scope, nodes = scope_of(rule), self._core.nodes.values()
        judged = sum(self._in_scope(scope, node.id) for node in nodes if node.state is not None or node.latest)
        return {"judged": judged, "members": self._core.configuration.places["members"].get(scope, judged)}

    def _refuse(self, node: Node, metric: str) -> None:
        """Only the fleet manager can read a sealed value: of each rule that asks for one it is said once."""
        for rule in self.rules.values():
            if (rule["name"], node.id) not in self._blind and _reads(rule, metric):
                self._blind.add((rule["name"], node.id))
                self._core.event("rule.blind", {"rule": rule["name"], "node": node.id, "metric": metric})

    def _acts(self, rule: Message) -> bool:
        """Whether it is for this gateway to act on the rule: the cloud is away, or never sees what it is about."""
        core = self._core
        if core.uplink.alone or rule.get("always"):
            return True
        return core.reduction.active and core.reduction.decides(metrics_of(rule["when"]))

    # --- episodes -------------------------------------------------------------------------------------------------

    def _table(self, rule: Message) -> dict[Subject, str]:
        return self.episodes.open if is_plain(rule) else self.watch.open

    def _on_sample(self, key: Key, sample: Sample, item_id: int, utc_ms: int | None, now_ms: int) -> None:
        latest = self.watch.facts.latest.get(key)
        if latest is not None and sample.at_ms < latest.at_ms:
            return
        look = _Look()
        for change in self.watch.on_sample(key, sample, now_ms, look):
            self._watched(change, item_id, utc_ms, now_ms)
        self.state.facts_changed = True
        self._note(look, now_ms)

    def _note(self, look: _Look, now_ms: int) -> None:
        if look.writes:
            self.state.touch(now_ms)

    def _watched(self, change: Change, item_id: int, utc_ms: int | None, now_ms: int) -> None:
        """`item_id` and `utc_ms` of the reading that did it, or of the next one and nothing, if time did."""
        utc_ms = self._core.utc_ms(now_ms) if utc_ms is None else utc_ms
        self._raised_by[change.episode] = (item_id, change.value, utc_ms, False)  # or cleared by
        self._changed(change.rule, change.node, change.episode, change.raised, now_ms)

    def _changed(self, rule: Message, node: str, episode: str, raised: bool, now_ms: int) -> None:
        """An episode begins or ends; whether anybody acts on it is another matter."""
        if raised:
            self.deeds.begins(rule, node, now_ms)
        if self._acts(rule):
            self._decide(rule, node, episode, raised, now_ms)
        else:
            self._core.stores.persist([self._kept()], None)
        if not raised:
            self.deeds.ends((rule["name"], node))
            self._raised_by.pop(episode, None)

    def _decide(self, rule: Message, node: str, episode: str, raised: bool, now_ms: int) -> None:
        core, kind = self._core, "alert.raised" if raised else "alert.cleared"
        item_id, value, utc_ms, _ = self._raised_by.get(episode, _UNKNOWN)
        self._raised_by[episode] = (item_id, value, utc_ms, True)
        about: Message = {"node": node} if is_per_node(rule["when"]) else {"scope": scope_of(rule)}
        part = {} if "node" in about else self._part(rule)
        orders = self.deeds.orders(rule, node, raised, now_ms)
        held = self.deeds.is_held((rule["name"], node))
        fields = {"id": episode, **about, "rule": rule["name"], "value": value, "by": "gateway", **part}
        fields |= {"silenced": "cooldown"} if held else {}
        told = {"status": kind.replace(".", "-"), "alert": episode, "rule": rule["name"], "value": value, **part}
        told |= {"sensor": node} if "node" in about else {}
        told |= {"reading_utc_ms": utc_ms, "commands": [order.named for order in orders]}
        entry = {"alert": episode, **about, "rule": rule["name"], "value": value, **part, "commands": told["commands"]}
        # Rule state, report, orders and journal in one transaction, the word and the alarm after it: whatever anybody
        # was told, the cloud will be told too.
        writes = [self._kept(), *(order.write for order in orders)]
        writes += core.journal.note(told["status"], entry | {"item": core.forwarder.next_name}, now_ms)

        def act(at_ms: int) -> None:
            core.event(kind, fields)
            for order in orders:
                order.give(at_ms)

        core.forwarder.report("status", told, now_ms, tuple(writes), act)

    def _kept(self) -> tuple[str, str, list[Any]]:
        """The write that keeps the open episodes."""
        kept = [
            [rule, node, episode, list(self._raised_by.get(episode, _UNKNOWN))]
            for (rule, node), episode in [*self.episodes.open.items(), *self.watch.open.items()]
        ]
        return ("put", "episodes", kept)


def _reads(rule: Message, metric: str) -> bool:
    """Whether the rule asks for values of the metric, and not only whether there are any."""
    trees = [tree for tree in (rule["when"], rule.get("clear")) if tree]
    words = ("metric", "rate", "avg")
    return any(part.get(word) == metric for tree in trees for part, _ in subtrees(tree) for word in words)
