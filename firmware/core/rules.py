"""Rules that the node judges by itself, with an alarm that needs no gateway.

A rule is `{"name", "when", "clear"}` with conditions of `firmware.wire.rules` on one metric, in the metric's unit.
"""

from firmware.wire.ids import valid_metric
from firmware.wire.rules import OPERATORS, Episodes

MAX_RULES = 16
MAX_NAME_CHARS = 64


class LocalRules:
    """The node's rules and the episodes that are open."""

    def __init__(self, core, rules: "list[dict]") -> None:
        """`rules` without a `problem`."""
        self._core = core
        self._own = rules
        self._episodes = Episodes()
        self._episodes.set_rules(rules)
        self.any = bool(rules)

    def on_reading(self, metric: str, value: object, seq: int) -> None:
        """A reading that passed its checks, in the metric's unit: sound the alarm, or end it with the last episode."""
        core, episodes = self._core, self._episodes
        for rule, _, raised in episodes.evaluate(core.id, metric, value, core.boot, seq):
            if raised:
                core.sound(True, "node", {"rule": rule["name"]})
            elif not episodes.open and core.alarm_by == "node":  # an alarm of the cloud's is the cloud's to end
                core.sound(False, "node", {"rule": rule["name"]})

    def problem_of_thresholds(self, wanted: object) -> str:
        """What is wrong with thresholds that somebody wants to set, or nothing."""
        if not isinstance(wanted, dict):
            return "thresholds is no object"
        known = {rule["name"]: rule for rule in self._own}
        for name in sorted(wanted):
            if name not in known:
                return "no rule " + name[:32]
            if not _is_number(wanted[name]) or not _is_number(known[name]["when"]["value"]):
                return "no number for " + name[:32]
        return ""

    def set_thresholds(self, thresholds: dict) -> None:
        """Judge by these limits, where given; a rule's `clear` moves along, so that its hysteresis stays."""
        self._episodes.set_rules([_moved(rule, thresholds.get(rule["name"])) for rule in self._own])


def problem(rules: object) -> str:
    """What is wrong with a node's rules, or nothing."""
    if not isinstance(rules, list) or len(rules) > MAX_RULES:
        return "rules: must be a list of at most %d" % MAX_RULES
    seen = []
    for rule in rules:
        name = rule.get("name") if isinstance(rule, dict) else None
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARS:
            return "a rule needs a name of 1 to %d characters" % MAX_NAME_CHARS
        if name in seen:
            return "there are two rules %r" % name
        seen.append(name)
        clear = rule.get("clear")
        if not _is_condition(rule.get("when")) or (clear is not None and not _is_condition(clear)):
            return "rule %r: when and clear are {metric, op, value}" % name
        if clear is not None and clear["metric"] != rule["when"]["metric"]:
            return "rule %r: when and clear are about different metrics" % name
    return ""


def _is_condition(found: object) -> bool:
    if not isinstance(found, dict) or not valid_metric(found.get("metric")) or found.get("op") not in OPERATORS:
        return False
    value = found.get("value")
    return isinstance(value, (str, bool)) or _is_number(value)


def _is_number(value: object) -> bool:
    return type(value) is int or (type(value) is float and value - value == 0)  # neither NaN nor infinite


def _moved(rule: dict, limit) -> dict:
    if limit is None:
        return rule
    moved, when, clear = dict(rule), dict(rule["when"]), rule.get("clear")
    if clear and _is_number(clear["value"]):
        moved["clear"] = dict(clear)
        moved["clear"]["value"] = clear["value"] + limit - when["value"]
    when["value"] = limit
    moved["when"] = when
    return moved
