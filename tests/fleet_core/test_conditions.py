"""Rules that need more than a comparison, against a model that looks at all there ever was, every second."""

from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.wire.rules import holds
from fleet.core.transaction import Transaction
from fleet.wire.condition import is_per_node, metrics_of
from fleet.wire.expression import parse
from fleet.wire.terms import Sample, in_scope
from fleet.wire.wakes import Wakes
from fleet.wire.watch import Watch

NODES = {"n1": "barn", "n2": "barn", "n3": "yard"}
LAG_S = 7
LAST_S = 25


class Reading(NamedTuple):
    at_s: int
    node: str
    metric: str
    value: int
    fails: bool = False


READINGS = st.lists(
    st.builds(
        Reading, st.integers(0, LAST_S), st.sampled_from(sorted(NODES)), st.sampled_from("xy"), st.integers(0, 4)
    ),
    max_size=14,
).map(lambda found: sorted(found, key=lambda reading: reading.at_s))


def is_in(scope: str, node: str) -> bool:
    return node in NODES and in_scope(scope, NODES[node], (), node)


# --- the model ------------------------------------------------------------------------------------------------------


def truth(tree: dict[str, Any], node: str, known: list[Reading], now_s: int) -> bool | None:
    """By definition, from all readings so far."""
    if "and" in tree or "or" in tree:
        word = "and" if "and" in tree else "or"
        judged = [truth(term, node, known, now_s) for term in tree[word]]
        if (word == "or") in judged:
            return word == "or"
        return None if None in judged else word == "and"
    if "not" in tree:
        judged = truth(tree["not"], node, known, now_s)
        return None if judged is None else not judged
    if "in" in tree:
        return scope_truth(tree, known, now_s)
    metric = tree.get("metric") or tree.get("rate") or tree["absent"]
    mine = [reading for reading in known if (reading.node, reading.metric) == (node, metric)]
    if not mine:
        return None
    if "absent" in tree:
        return (now_s - mine[-1].at_s) * 1000 >= tree["over_ms"]
    if "metric" in tree:
        return holds(tree, mine[-1].value)
    within = [reading for reading in mine if (mine[-1].at_s - reading.at_s) * 1000 <= tree["over_ms"]]
    return holds(tree, mine[-1].value - within[0].value) if len(within) > 1 else None


def scope_truth(tree: dict[str, Any], known: list[Reading], now_s: int) -> bool | None:
    members = [node for node in NODES if is_in(tree["in"], node)]
    if "avg" in tree:
        values = [[r.value for r in known if (r.node, r.metric) == (node, tree["avg"])] for node in members]
        latest = [found[-1] for found in values if found]
        return holds(tree, sum(latest) / len(latest)) if latest else None
    word = next(word for word in ("any", "all", "count") if word in tree)
    judged = [found for node in members if (found := truth(tree[word], node, known, now_s)) is not None]
    if not judged:
        return None
    return {"any": any(judged), "all": all(judged)}[word] if word != "count" else holds(tree, sum(judged))


class Model:
    """One rule, every second."""

    def __init__(self, rule: dict[str, Any]) -> None:
        self.rule, self.known = rule, list[Reading]()
        self.open: set[str] = set()
        self.since_s: dict[str, int] = {}
        self.changes: list[tuple[int, str, bool]] = []

    def run(self, readings: list[Reading]) -> list[tuple[int, str, bool]]:
        for now_s in range(LAST_S + 20):
            self.look(now_s, False)
            for reading in [one for one in readings if one.at_s == now_s]:
                self.known.append(reading)
                self.look(now_s, reading.metric in metrics_of(self.rule["when"]), reading.node)
        return self.changes

    def look(self, now_s: int, sampled: bool, node: str = "") -> None:
        when, clear = self.rule["when"], self.rule.get("clear")
        span_ms, tree = when.get("for_ms", 0), when.get("of", when)
        for subject in sorted(NODES) if is_per_node(tree) else [""]:
            judged = truth(tree, subject, self.known, now_s)
            if subject in self.open:
                ended = truth(clear, subject, self.known, now_s) if clear else judged is False
                if ended:
                    self.open.remove(subject)
                    self.changes.append((now_s, subject, False))
                continue
            if judged is False:
                self.since_s.pop(subject, None)
            if judged is True:
                since_s = self.since_s.setdefault(subject, now_s)
                held_ms = (now_s - since_s) * 1000
                if (sampled and subject in (node, "") and held_ms >= span_ms) or held_ms >= span_ms + LAG_S * 1000:
                    del self.since_s[subject]
                    self.open.add(subject)
                    self.changes.append((now_s, subject, True))
                elif span_ms == 0:
                    self.open.add(subject)
                    del self.since_s[subject]
                    self.changes.append((now_s, subject, True))


def watched(rule: dict[str, Any], readings: list[Reading]) -> list[tuple[int, str, bool]]:
    """What the watch says; a reading that fails is undone, and comes again at once."""
    watch = Watch(is_in, LAG_S * 1000, lambda _: False)
    watch.set_rules([rule])
    changes: list[tuple[int, str, bool]] = []

    def timers(until_ms: int) -> None:
        while watch.wakes.due_ms is not None and watch.wakes.due_ms <= until_ms:
            due_ms = watch.wakes.due_ms
            found = watch.on_timer(due_ms, Transaction())
            changes.extend((due_ms // 1000, change.node, change.raised) for change in found)

    for seq, reading in enumerate(readings):
        now_ms = reading.at_s * 1000
        timers(now_ms)
        for failing in (True, False) if reading.fails else (False,):
            tx = Transaction()
            sample = Sample(now_ms, reading.value, 1, seq)
            found = watch.on_sample((reading.node, reading.metric), sample, now_ms, tx)
            if failing:
                tx.failed()
            else:
                changes.extend((reading.at_s, change.node, change.raised) for change in found)
    timers((LAST_S + 19) * 1000)
    return changes


def rule_of(when: str, clear: str | None = None) -> dict[str, Any]:
    return {"name": "r", "when": parse(when), "clear": parse(clear) if clear else None, "action": "notify"}


OF_A_NODE = [
    rule_of("x > 1 for 5 s"),
    rule_of("x > 1 and y > 1"),
    rule_of("x > 1 and y > 1 for 10 s"),
    rule_of("x > 2 or y > 2 for 4 s", "x < 1 and y < 1"),
    rule_of("rate(x, 10 s) > 1"),
    rule_of("rate(x, 20 s) < -1 for 3 s"),
    rule_of("absent(x, 9 s)"),
    rule_of("not absent(x, 9 s) and y > 2"),
    rule_of("absent(x, 5 s) or x > 3", "x < 2 and not absent(x, 5 s)"),
]
OF_A_SCOPE = [
    rule_of("any(site: barn, x > 2)"),
    rule_of("all(site: barn, x > 1 or y > 3)"),
    rule_of("count(fleet, absent(x, 8 s)) > 1"),
    rule_of("avg(fleet, x) > 2", "avg(fleet, x) < 2"),
    rule_of("any(node: n3, x > 2) and y > 1"),
    rule_of("any(site: barn, absent(x, 8 s)) and y > 1 and not all(fleet, x > 0)"),
]


@pytest.mark.parametrize("rule", OF_A_NODE + OF_A_SCOPE, ids=lambda rule: str(rule["when"]))
@settings(max_examples=25)
@given(READINGS)
def test_episodes_begin_and_end_as_the_definition_says(rule: dict[str, Any], readings: list[Reading]) -> None:
    assert sorted(watched(rule, readings)) == sorted(Model(rule).run(readings))


@pytest.mark.parametrize("rule", OF_A_NODE + OF_A_SCOPE, ids=lambda rule: str(rule["when"]))
@settings(max_examples=15)
@given(READINGS, st.sets(st.integers(0, 29)))
def test_what_a_failed_transaction_changed_never_was(
    rule: dict[str, Any], readings: list[Reading], failing: set[int]
) -> None:
    failed = [reading._replace(fails=number in failing) for number, reading in enumerate(readings)]
    assert watched(rule, failed) == watched(rule, readings)


@given(st.lists(st.tuples(st.integers(0, 3), st.none() | st.integers(0, 50), st.integers(0, 10)), max_size=40))
def test_everybody_is_woken_once_at_the_time_that_was_asked_for_last(steps: list[Any]) -> None:
    wakes: Wakes[int] = Wakes()
    wanted: dict[int, int] = {}
    now_ms = 0
    for key, due_ms, passes_ms in steps:
        wakes.set(key, None if due_ms is None else now_ms + due_ms)
        wanted.pop(key, None)
        if due_ms is not None:
            wanted[key] = now_ms + due_ms
        now_ms += passes_ms
        assert wakes.due_ms is None or not wanted or wakes.due_ms <= min(wanted.values())
        due = {key for key, at_ms in wanted.items() if at_ms <= now_ms}
        assert set(wakes.take(now_ms)) == due
        wanted = {key: at_ms for key, at_ms in wanted.items() if key not in due}
