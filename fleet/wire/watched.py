"""One rule that is watched: its terms, and the records that looking at it makes."""

from typing import NamedTuple

from fleet.wire.condition import is_per_node, metrics_of
from fleet.wire.terms import Facts, Sample, Scoped, Term, Value, absences_of, term_of
from fleet.wire.uplink import Message


class Change(NamedTuple):
    """An episode begins or ends."""

    rule: Message
    episode: str
    raised: bool
    node: str
    value: Value | None
    at_ms: int


class Since(NamedTuple):
    """Since when a condition with `for` holds, and the reading that made it so, which names the episode."""

    at_ms: int
    node: str
    boot: int
    seq: int


class Moment(NamedTuple):
    """What is the matter: a sample of a node, or (then it is its latest) that time has passed for it."""

    node: str
    sample: Sample
    at_ms: int
    now_ms: int
    sampled: bool


class Watched:
    """One rule with its terms."""

    def __init__(self, rule: Message, facts: Facts) -> None:
        when, clear = rule["when"], rule.get("clear")
        self.rule, self.name = rule, str(rule["name"])
        self.for_ms: int = when.get("for_ms", 0)
        self.per_node = is_per_node(when)
        self.metrics = frozenset(metrics_of(when))
        self.when = term_of(when, facts)
        self.clear = term_of(clear, facts) if clear else None
        leaves = [*self.when.leaves, *(self.clear.leaves if self.clear else ())]
        self.scopes = [leaf for leaf in leaves if isinstance(leaf, Scoped)]
        self.own_metrics = {leaf.metric for leaf in leaves if not isinstance(leaf, Scoped)}
        absences = [one for term in (self.when, self.clear) if term for one in absences_of(term)]
        self.absences = absences + [one for scope in self.scopes for one in scope.absences]
        self.told: Term = next((leaf for leaf in leaves if self.per_node and leaf not in self.scopes), leaves[0])

    def ended(self, node: str, now_ms: int) -> bool:
        """Whether an open episode ends."""
        if self.clear is not None:
            return self.clear.judge(node, now_ms) is True
        return self.when.judge(node, now_ms) is False
