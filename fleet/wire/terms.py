"""Conditions judged: what is known of each node, and the terms of an expression that look at it.

A judgement is True, False, or None while nobody can tell: of a node that has not measured the metric, of a rate with
one reading. Nothing begins and nothing ends for what nobody can tell.
"""

from collections.abc import Callable, Iterable
from functools import partial
from math import fsum
from typing import Any, NamedTuple, cast

from firmware.wire.rules import holds
from fleet.wire.condition import FLEET, Condition, metrics_of

MOST_SAMPLES = 1_000  # of one metric of one node, for its rate
Key = tuple[str, str]
"""Node and metric."""
Value = int | float | bool | str
Undo = Callable[[], None]
InScope = Callable[[str, str], bool]
"""Whether a scope, as the tree spells it, holds a node."""


class Sample(NamedTuple):
    """A reading as the conditions see it; `at_ms` is core time, `value` None when it is too old to count."""

    at_ms: int
    value: Value | None
    boot: int
    seq: int


class Facts:
    """The latest sample of each (node, metric) that a condition names, and those of before where a rate is asked."""

    def __init__(self, in_scope: InScope) -> None:
        self.in_scope = in_scope
        self.latest: dict[Key, Sample] = {}
        self.history: dict[Key, tuple[Sample, ...]] = {}
        self.spans_ms: dict[str, int] = {}  # by metric, the longest that a rate looks back

    def take(self, key: Key, sample: Sample, undo: list[Undo]) -> None:
        """A newer sample."""
        undo.append(partial(_put_back, self.latest, key, self.latest.get(key)))
        self.latest[key] = sample
        span_ms = self.spans_ms.get(key[1])
        if span_ms is not None:
            before = self.history.get(key, ())
            undo.append(partial(_put_back, self.history, key, before))
            kept = [old for old in before if sample.at_ms - old.at_ms <= span_ms]
            self.history[key] = (*kept[1 - MOST_SAMPLES :], sample)


class Term:
    """One condition, judged for one node (or, if it is about a scope, for none)."""

    metric: str
    """What it measures; of a term that joins others, nothing."""

    @property
    def leaves(self) -> "tuple[Term, ...]":
        """The terms in it that measure something, from left to right; a scope's are its own business."""
        return (self,)

    def judge(self, node: str, now_ms: int) -> bool | None:
        """Whether it holds."""
        raise NotImplementedError

    def measure(self, node: str, now_ms: int) -> Value | None:
        """What people are told as its value."""
        raise NotImplementedError


class Latest(Term):
    """`temp > 30`."""

    def __init__(self, tree: Condition, facts: Facts) -> None:
        self._tree, self._facts, self.metric = tree, facts, str(tree["metric"])

    def judge(self, node: str, now_ms: int) -> bool | None:
        value = self.measure(node, now_ms)
        return None if value is None else bool(holds(self._tree, value))

    def measure(self, node: str, now_ms: int) -> Value | None:
        sample = self._facts.latest.get((node, self.metric))
        return None if sample is None else sample.value


class Rate(Term):
    """`rate(temp, 10 min) > 2`: not scaled to the span, so that two readings a second apart make no steep rise."""

    def __init__(self, tree: Condition, facts: Facts) -> None:
        self._tree, self._facts, self.metric = tree, facts, str(tree["rate"])
        self._span_ms = cast(int, tree["over_ms"])
        facts.spans_ms[self.metric] = max(self._span_ms, facts.spans_ms.get(self.metric, 0))

    def judge(self, node: str, now_ms: int) -> bool | None:
        change = self.measure(node, now_ms)
        return None if change is None else bool(holds(self._tree, change))

    def measure(self, node: str, now_ms: int) -> float | None:
        samples = self._facts.history.get((node, self.metric), ())
        if not samples:
            return None
        since_ms = samples[-1].at_ms - self._span_ms
        values = [s.value for s in samples if s.at_ms >= since_ms and type(s.value) in (int, float)]
        return cast(float, values[-1]) - cast(float, values[0]) if len(values) > 1 else None


class Absent(Term):
    """`absent(temp, 15 min)`."""

    def __init__(self, tree: Condition, facts: Facts) -> None:
        self._facts, self.metric, self.span_ms = facts, str(tree["absent"]), cast(int, tree["over_ms"])

    def judge(self, node: str, now_ms: int) -> bool | None:
        sample = self._facts.latest.get((node, self.metric))
        return None if sample is None else now_ms - sample.at_ms >= self.span_ms

    def measure(self, node: str, now_ms: int) -> Value | None:
        sample = self._facts.latest.get((node, self.metric))
        return None if sample is None else sample.value


class Joined(Term):
    """`and`, `or`: one False decides an `and`, one True an `or`, whatever is not known beside it."""

    def __init__(self, terms: list[Term], decisive: bool) -> None:
        self._terms, self._decisive = terms, decisive

    @property
    def leaves(self) -> tuple[Term, ...]:
        return tuple(leaf for term in self._terms for leaf in term.leaves)

    def judge(self, node: str, now_ms: int) -> bool | None:
        judged = [term.judge(node, now_ms) for term in self._terms]
        if self._decisive in judged:
            return self._decisive
        return None if None in judged else not self._decisive


class Not(Term):
    """`not`."""

    def __init__(self, term: Term) -> None:
        self._term = term

    @property
    def leaves(self) -> tuple[Term, ...]:
        return self._term.leaves

    def judge(self, node: str, now_ms: int) -> bool | None:
        judged = self._term.judge(node, now_ms)
        return None if judged is None else not judged


class Scoped(Term):
    """`any`, `all`, `count`, `avg`: what is known of each node of a scope, kept up to date by `refresh`."""

    def __init__(self, tree: Condition, facts: Facts) -> None:
        self._tree, self._facts, self._scope = tree, facts, str(tree["in"])
        self._word = next(word for word in ("any", "all", "count", "avg") if word in tree)
        self.metrics = frozenset(metrics_of(tree))
        self.metric = metrics_of(tree)[0]
        inner = tree[self._word]
        self._inner = (
            Latest({"metric": inner}, facts) if self._word == "avg" else term_of(cast(Condition, inner), facts)
        )
        self.absences = absences_of(self._inner)
        self._known: dict[str, Value] = {}
        self._true = 0

    def refresh(self, node: str, now_ms: int) -> None:
        """The node has a new sample, is silent for too long, or belongs here no more."""
        self._true -= self._known.pop(node, None) is True
        found: Value | None = None
        if self._facts.in_scope(self._scope, node):
            found = self._inner.measure(node, now_ms) if self._word == "avg" else self._inner.judge(node, now_ms)
        if found is not None:
            self._known[node] = found
            self._true += found is True

    def judge(self, node: str, now_ms: int) -> bool | None:
        if not self._known:
            return None
        if self._word == "any":
            return self._true > 0
        if self._word == "all":
            return self._true == len(self._known)
        measured = self.measure(node, now_ms)
        return None if measured is None else bool(holds(self._tree, measured))

    def measure(self, node: str, now_ms: int) -> Value | None:
        if self._word != "avg":
            return self._true
        numbers = [cast(float, value) for value in self._known.values() if type(value) in (int, float)]
        return fsum(numbers) / len(numbers) if numbers else None


def term_of(tree: Condition, facts: Facts) -> Term:
    """The term that judges a checked tree; of one with `for`, what has to hold for so long."""
    if "for_ms" in tree:
        return term_of(cast(Condition, tree["of"]), facts)
    for word, decisive in (("and", False), ("or", True)):
        if word in tree:
            return Joined([term_of(inner, facts) for inner in cast(list[Condition], tree[word])], decisive)
    if "not" in tree:
        return Not(term_of(cast(Condition, tree["not"]), facts))
    kinds: Iterable[tuple[str, Callable[[Condition, Facts], Term]]] = (
        ("in", Scoped),
        ("metric", Latest),
        ("rate", Rate),
        ("absent", Absent),
    )
    return next(kind for word, kind in kinds if word in tree)(tree, facts)


def absences_of(term: Term) -> list[Absent]:
    """What in it becomes true by time alone."""
    return [leaf for leaf in term.leaves if isinstance(leaf, Absent)]


def in_scope(scope: str, site: object, groups: object, node: str) -> bool:
    """Whether a node of that site and those groups is in the scope, as `site:barn`."""
    kind, _, name = scope.partition(":")
    if kind == FLEET:
        return True
    if kind == "group":
        return isinstance(groups, list | tuple) and name in groups
    return name == (node if kind == "node" else site)


def _put_back(table: dict[Any, Any], key: object, value: object) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
