"""The rule evaluator that every tier shares; the tree is plain JSON, made and type-checked by the fleet manager.

A condition is `{"metric": "temp", "op": ">", "value": 30}`. A rule is
`{"name", "when": condition, "clear": condition or None, "action", ...}`: `when` raises an episode and `clear` ends it
(without `clear` it ends when `when` no longer holds), which is hysteresis.
"""

# What this evaluator can do, as a gateway announces it; `fleet.wire.condition.needs` says what a condition asks for.
CAPABILITIES = ("compare",)
OPERATORS = (">", ">=", "<", "<=", "==", "!=")


def holds(condition: dict, value: object) -> bool:
    """Whether `value`, a reading of the condition's metric, meets the condition; a value of another type never does."""
    limit = condition["value"]
    op = condition["op"]
    if (type(value) is str) != (type(limit) is str):
        return False
    if op == ">":
        return value > limit
    if op == ">=":
        return value >= limit
    if op == "<":
        return value < limit
    if op == "<=":
        return value <= limit
    return (value == limit) == (op == "==")


def next_state(rule: dict, value: object, active: bool) -> bool:
    """Whether the rule's episode is active after `value`, given whether it was before."""
    if not active:
        return holds(rule["when"], value)
    clear = rule.get("clear")
    return not holds(clear, value) if clear else holds(rule["when"], value)


def episode_id(rule: str, node: str, boot: int, seq: int) -> str:
    """The id of the episode that the reading (node, boot, seq) raised: gateway and cloud derive the same one."""
    return "%s:%s:%d:%d" % (rule, node, boot, seq)


class Episodes:
    """The state of all rules over all nodes: which episodes are active, and what a new value changes.

    `open` maps (rule name, node) to the episode's id.
    """

    def __init__(self) -> None:
        self.open: dict[tuple[str, str], str] = {}
        self.rules: dict[str, dict] = {}
        self._by_metric: dict[str, list] = {}

    def set_rules(self, rules: list) -> None:
        """Evaluate these rules from now on; episodes of rules that are gone end without a word."""
        self.rules = {rule["name"]: rule for rule in rules}
        self._by_metric = {}
        for rule in rules:
            self._by_metric.setdefault(rule["when"]["metric"], []).append(rule)
        for key in [key for key in self.open if key[0] not in self.rules]:
            del self.open[key]

    def about(self, metric: str) -> list:
        """The rules that look at this metric."""
        return list(self._by_metric.get(metric, ()))

    def evaluate(self, node: str, metric: str, value: object, boot: int, seq: int) -> list:
        """What this reading changes: `(rule, episode id, raised)`; most readings change nothing."""
        changes = []
        for rule in self._by_metric.get(metric, ()):
            key = (rule["name"], node)
            episode = self.open.get(key)
            active = holds(rule["when"], value) if episode is None else next_state(rule, value, True)
            if active and episode is None:
                self.open[key] = episode = episode_id(rule["name"], node, boot, seq)
                changes.append((rule, episode, True))
            elif episode is not None and not active:
                del self.open[key]
                changes.append((rule, episode, False))
        return changes
