"""Rules at the edge: evaluated always, acted upon while the cloud is away.

An episode is named after the reading that raised it, so cloud and gateway derive the same id and neither repeats what
the other said. Going offline, the alarms that are still true are given again, by the gateway this time.
"""

from typing import TYPE_CHECKING, Any

from firmware.wire.rules import Episodes
from fleet.wire.condition import metrics_of
from fleet.wire.uplink import Message
from nanoclaw.core.roster import Node
from nanoclaw.core.uplink import OFFLINE

if TYPE_CHECKING:
    from nanoclaw.core.gateway import GatewayCore

ALARM_TTL_MS = 300_000
_UNKNOWN = (0, None, None, False)


class Decisions:
    """The rule state of this gateway's nodes."""

    def __init__(self, core: "GatewayCore") -> None:
        self._core = core
        self._episodes = Episodes()
        self._blind: set[tuple[str, str]] = set()  # rule and node
        # By episode: outbox id, value and UTC of its reading, and whether the cloud is told of it for certain.
        self._raised_by: dict[str, tuple[int, Any, int | None, bool]] = {}

    def set_rules(self, rules: list[Message]) -> None:
        """The snapshot's rules."""
        self._episodes.set_rules(rules)
        self._blind.clear()

    def restore(self, kept: list[list[Any]] | None) -> None:
        """The episodes that were active before the gateway restarted."""
        for rule, node, episode, raised_by in kept or []:
            if rule in self._episodes.rules:
                self._episodes.open[rule, node] = episode
                self._raised_by[episode] = tuple(raised_by)

    def on_reading(self, node: Node, metric: str, entry: Message, at_ms: int, item_id: int, now_ms: int) -> None:
        """A timely reading, taken at `at_ms`; one older than the last evaluated changes nothing."""
        latest = node.latest.get(metric)
        if latest is not None and at_ms < latest[0]:
            return
        if "value" not in entry:
            self._refuse(node, metric)
            return
        node.latest[metric] = at_ms, entry["value"]
        self._core.recent.changed = True
        for rule, episode, raised in self._episodes.evaluate(
            node.id, metric, entry["value"], entry["boot"], entry["seq"]
        ):
            self._raised_by[episode] = (item_id, entry["value"], entry.get("utc_ms"), False)  # or cleared by
            if self._acts(rule):
                self._decide(rule, node, episode, raised, now_ms)
            else:
                self._core.stores.persist([self._kept()], None)
            if not raised:
                self._raised_by.pop(episode, None)

    def _refuse(self, node: Node, metric: str) -> None:
        """Only the fleet manager can read a sealed value: of each rule that asks for one it is said once."""
        for rule in self._episodes.about(metric):
            if (rule["name"], node.id) not in self._blind:
                self._blind.add((rule["name"], node.id))
                self._core.event("rule.blind", {"rule": rule["name"], "node": node.id, "metric": metric})

    def _acts(self, rule: Message) -> bool:
        """Whether it is for this gateway to act on the rule: the cloud is away, or never sees what it is about."""
        core = self._core
        if core.uplink.mode == OFFLINE or rule.get("always"):
            return True
        return core.reduction.active and core.reduction.decides(metrics_of(rule["when"]))

    def take_over(self, now_ms: int) -> None:
        """The cloud is gone: give the alarms that are still true again, and say those that it cannot know of."""
        for (name, node_id), episode in list(self._episodes.open.items()):
            node = self._core.nodes.get(node_id)
            if node is None:
                continue
            item_id, _, _, told = self._raised_by.get(episode, _UNKNOWN)
            new = item_id >= self._core.intake.window_first_id or item_id in self._core.outbox.waiting
            unknown = new and not told
            rule = self._episodes.rules[name]
            if unknown:
                self._decide(rule, node, episode, True, now_ms)
            elif rule["action"] == "alert":
                self._alarm(rule, node, True, now_ms)

    def _decide(self, rule: Message, node: Node, episode: str, raised: bool, now_ms: int) -> None:
        kind = "alert.raised" if raised else "alert.cleared"
        item_id, value, utc_ms, _ = self._raised_by.get(episode, _UNKNOWN)
        self._raised_by[episode] = (item_id, value, utc_ms, True)
        fields = {"id": episode, "node": node.id, "rule": rule["name"], "value": value, "by": "gateway"}
        told = {"sensor": node.id, "status": kind.replace(".", "-"), "alert": episode, "rule": rule["name"]}
        # Rule state and report in one transaction, the word and the alarm after it: whatever anybody was told, the
        # cloud will be told too.
        told |= {"value": value, "reading_utc_ms": utc_ms}

        def act(at_ms: int) -> None:
            self._core.event(kind, fields)
            if rule["action"] == "alert":
                self._alarm(rule, node, raised, at_ms)

        self._core.forwarder.report("status", told, now_ms, (self._kept(),), act)

    def _alarm(self, rule: Message, node: Node, on: bool, now_ms: int) -> None:
        params = {"state": "on" if on else "off", "rule": rule["name"]}
        self._core.commands.order("alert", node, params, "gateway", ALARM_TTL_MS, now_ms, self._core.new_name())

    def _kept(self) -> tuple[str, str, list[Any]]:
        """The write that keeps the rule state."""
        kept = [
            [rule, node, episode, list(self._raised_by.get(episode, _UNKNOWN))]
            for (rule, node), episode in self._episodes.open.items()
        ]
        return ("put", "episodes", kept)
