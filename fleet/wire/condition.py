"""The trees that travel: what makes one, what it is about, what it asks of whoever evaluates it.

A tree is one of these JSON objects; a tree about one node may stand in a tree about several, not the other way round:

    {"metric": "temp", "op": ">", "value": 30}                        the latest value
    {"rate": "temp", "over_ms": 600000, "op": ">", "value": 2}        the newest value less the oldest of that span
    {"absent": "temp", "over_ms": 900000}                             nothing for that long, of a node that measured it
    {"and": [tree, …]}  {"or": [tree, …]}  {"not": tree}
    {"any": tree, "in": "site:barn"}  {"all": tree, "in": "fleet"}    of the nodes there of which it is known
    {"count": tree, "in": "group:pumps", "op": ">", "value": 3}       how many of them
    {"avg": "temp", "in": "node:sensor-01", "op": ">", "value": 30}   the mean of their latest values
    {"for_ms": 300000, "of": tree}                                    outermost only: true without a break for that long
"""

import math
from collections.abc import Callable, Iterator

from firmware.wire.ids import valid_id, valid_metric
from firmware.wire.rules import OPERATORS

Condition = dict[str, object]

SCOPES = ("node", "group", "site")
FLEET = "fleet"
MAX_DEPTH = 20
MAX_TERMS = 20  # of one `and` or `or`
MAX_SPAN_MS = 7 * 24 * 3_600_000
MAX_NUMBER = (1 << 53) - 1  # RFC 8259 section 6: what every reader of JSON agrees on


def check_condition(tree: object) -> Condition:
    """`tree` itself when it is a condition as `parse` makes them; raises ValueError saying what is wrong."""
    if isinstance(tree, dict) and set(tree) == {"for_ms", "of"}:
        _span(tree["for_ms"], "for_ms")
        _check(tree["of"], MAX_DEPTH, False)
        return tree
    return _check(tree, MAX_DEPTH, False)


def _check(tree: object, depth: int, scoped: bool) -> Condition:
    if not isinstance(tree, dict):
        raise ValueError("a condition is an object of metric, op and value")
    check = _SHAPES.get(frozenset(map(str, tree)))
    if check is None:
        raise ValueError(f"a condition is an object of metric, op and value, or {', '.join(WORDS)}")
    if depth == 0:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    check(tree, depth - 1, scoped)
    return tree


def _comparison(tree: Condition, _depth: int, _scoped: bool) -> None:
    _metric(tree["metric"])
    value = tree["value"]
    if not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is not a number, a boolean or a text")
    _operator(tree["op"])
    _finite(value)
    if isinstance(value, bool | str) and tree["op"] not in ("==", "!="):
        raise ValueError(f"{tree['op']} needs a number, not {value!r}")


def _rate(tree: Condition, _depth: int, _scoped: bool) -> None:
    _metric(tree["rate"])
    _span(tree["over_ms"], "over_ms")
    _number(tree)


def _absent(tree: Condition, _depth: int, _scoped: bool) -> None:
    _metric(tree["absent"])
    _span(tree["over_ms"], "over_ms")


def _joined(tree: Condition, depth: int, scoped: bool) -> None:
    (terms,) = tree.values()
    if not isinstance(terms, list) or not 2 <= len(terms) <= MAX_TERMS:
        raise ValueError(f"and, or take 2 to {MAX_TERMS} conditions")
    for term in terms:
        _check(term, depth, scoped)


def _negated(tree: Condition, depth: int, scoped: bool) -> None:
    _check(tree["not"], depth, scoped)


def _quantified(tree: Condition, depth: int, scoped: bool) -> None:
    if scoped:
        raise ValueError("any, all, count and avg do not stand in one another")
    _scope(tree["in"])
    if "op" in tree:
        _number(tree)
    if "avg" in tree:
        _metric(tree["avg"])
    else:
        _check(next(tree[word] for word in ("any", "all", "count") if word in tree), depth, True)


def _scope(scope: object) -> None:
    kind, _, name = str(scope).partition(":")
    if scope != FLEET and not (isinstance(scope, str) and kind in SCOPES and valid_id(name)):
        raise ValueError(f"{scope!r} is no scope: {FLEET}, or one of {', '.join(SCOPES)} with an id, as in site:barn")


def _metric(metric: object) -> None:
    if not valid_metric(metric):
        raise ValueError(f"{metric!r} is not the name of a metric")


def _operator(op: object) -> None:
    if op not in OPERATORS:
        raise ValueError(f"{op!r} is not an operator; use one of {' '.join(OPERATORS)}")


def _number(tree: Condition) -> None:
    _operator(tree["op"])
    if type(tree["value"]) not in (int, float):
        raise ValueError(f"{tree['value']!r} is not a number")
    _finite(tree["value"])


def _finite(value: object) -> None:
    if isinstance(value, int | float) and not (math.isfinite(value) and abs(value) <= MAX_NUMBER):
        raise ValueError("a number is too large")


def _span(span: object, name: str) -> None:
    if type(span) is not int or not 0 < span <= MAX_SPAN_MS:
        raise ValueError(f"{name} is not a duration of 1 ms to 7 days")


_SHAPES: dict[frozenset[str], Callable[[Condition, int, bool], None]] = {
    frozenset({"metric", "op", "value"}): _comparison,
    frozenset({"rate", "over_ms", "op", "value"}): _rate,
    frozenset({"absent", "over_ms"}): _absent,
    frozenset({"and"}): _joined,
    frozenset({"or"}): _joined,
    frozenset({"not"}): _negated,
    frozenset({"any", "in"}): _quantified,
    frozenset({"all", "in"}): _quantified,
    frozenset({"count", "in", "op", "value"}): _quantified,
    frozenset({"avg", "in", "op", "value"}): _quantified,
}
WORDS = ("rate", "absent", "and", "or", "not", "any", "all", "count", "avg")


# --- what a checked tree is about -------------------------------------------------------------------------------------


def subtrees(tree: Condition) -> Iterator[tuple[Condition, bool]]:
    """Every condition in a checked tree from left to right, itself first, and whether it is about a scope's nodes."""
    return _subtrees(tree, False)


def _subtrees(tree: Condition, scoped: bool) -> Iterator[tuple[Condition, bool]]:
    yield tree, scoped
    inner_scoped = scoped or "in" in tree
    for inner in tree.values():
        for part in inner if isinstance(inner, list) else (inner,):
            if isinstance(part, dict):
                yield from _subtrees(part, inner_scoped)


def metric_of(tree: Condition) -> str | None:
    """The metric that this very condition names, without those inside it."""
    return next((str(tree[word]) for word in ("metric", "rate", "absent", "avg") if word in tree), None)


def metrics_of(tree: Condition) -> list[str]:
    """All metrics of a checked tree, each once, from left to right."""
    return list(dict.fromkeys(metric for part, _ in subtrees(tree) if (metric := metric_of(part))))


def main_metric(tree: Condition) -> str:
    """What a condition is about, first of all: of one about a node, the first metric of the node itself."""
    own = [metric_of(part) for part, scoped in subtrees(tree) if not scoped and "in" not in part]
    return next((metric for metric in own if metric), metrics_of(tree)[0])


def is_per_node(tree: Condition) -> bool:
    """Whether the tree is judged node by node; one that is about scopes only is judged once for all."""
    return any(metric_of(part) and not scoped and "in" not in part for part, scoped in subtrees(tree))


def needs(tree: Condition) -> frozenset[str]:
    """What an evaluator must be able to do, in the words of `firmware.wire.rules.CAPABILITIES`."""
    return frozenset(_need(part) for part, _ in subtrees(tree))


def _need(tree: Condition) -> str:
    if "for_ms" in tree:
        return "for"
    return next((word for word in WORDS if word in tree), "compare")
