"""The whole expression language: what is written means one tree, and is written back as it was meant."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.wire.condition import check_condition, is_per_node, main_metric, metrics_of, needs
from fleet.wire.expression import ExpressionError, parse, parse_duration, write, write_duration
from tests.wire.strategies import IDS, METRICS

ORDERS = st.sampled_from((">", ">=", "<", "<=", "==", "!="))
NUMBERS = st.integers(-(10**9), 10**9) | st.floats(-1e9, 1e9, allow_nan=False).map(lambda found: float(repr(found)))
SPANS_MS = st.integers(1, 7 * 24 * 3_600_000)
SCOPES = st.just("fleet") | st.tuples(st.sampled_from(("node", "group", "site")), IDS).map(":".join)
TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"'), max_size=8)


def comparison(name: str, what: Any, **more: Any) -> Any:
    return st.fixed_dictionaries({name: what, **more, "op": ORDERS, "value": NUMBERS})


ABOUT_A_NODE = st.one_of(
    comparison("metric", METRICS),
    st.fixed_dictionaries(
        {"metric": METRICS, "op": st.sampled_from(("==", "!=")), "value": st.booleans() | TEXTS},
    ),
    comparison("rate", METRICS, over_ms=SPANS_MS),
    st.fixed_dictionaries({"absent": METRICS, "over_ms": SPANS_MS}),
)
ABOUT_A_SCOPE = st.one_of(
    st.fixed_dictionaries({"any": ABOUT_A_NODE, "in": SCOPES}),
    st.fixed_dictionaries({"all": ABOUT_A_NODE, "in": SCOPES}),
    comparison("count", ABOUT_A_NODE, **{"in": SCOPES}),
    comparison("avg", METRICS, **{"in": SCOPES}),
)


def joined(inner: Any) -> Any:
    terms = st.lists(inner, min_size=2, max_size=3)
    return st.one_of(
        terms.map(lambda found: {"and": found}),
        terms.map(lambda found: {"or": found}),
        inner.map(lambda found: {"not": found}),
    )


PLAIN = st.recursive(ABOUT_A_NODE | ABOUT_A_SCOPE, joined, max_leaves=4)
TREES = PLAIN | st.fixed_dictionaries({"for_ms": SPANS_MS, "of": PLAIN})


@given(TREES)
def test_a_tree_that_is_written_is_parsed_to_itself(tree: dict[str, Any]) -> None:
    try:
        found = parse(write(tree))
    except ExpressionError as error:  # the text has limits of its own
        assert "nested deeper" in error.message or "longer than" in error.message
        return
    assert found == tree
    assert check_condition(found) is found


@given(st.text('temp <>=0.9"()and or not for any(site: barn, rate absent) min,', max_size=60))
def test_whatever_is_parsed_is_a_condition_that_can_be_written(text: str) -> None:
    try:
        tree = parse(text)
    except ExpressionError as error:
        assert 1 <= error.column <= len(text) + 1
        return
    assert check_condition(tree) is tree
    assert parse(write(tree)) == tree


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("temp > 30 for 5 min", {"for_ms": 300_000, "of": parse("temp > 30")}),
        ("rate(temp, 10 min) > 2", {"rate": "temp", "over_ms": 600_000, "op": ">", "value": 2}),
        ("absent(temp, 15min)", {"absent": "temp", "over_ms": 900_000}),
        ("not a > 1 and b > 2", {"and": [{"not": parse("a > 1")}, parse("b > 2")]}),
        ("a > 1 or b > 2 and c > 3", {"or": [parse("a > 1"), {"and": [parse("b > 2"), parse("c > 3")]}]}),
        ("(a > 1 or b > 2) and c > 3", {"and": [{"or": [parse("a > 1"), parse("b > 2")]}, parse("c > 3")]}),
        (
            "any(site: barn, temp > 30) and humidity < 20",
            {"and": [{"any": parse("temp > 30"), "in": "site:barn"}, parse("humidity < 20")]},
        ),
        ("all(fleet, temp > 30)", {"all": parse("temp > 30"), "in": "fleet"}),
        (
            "count(group: 2nd-floor, absent(temp, 5 min)) >= 3",
            {"count": parse("absent(temp, 5 min)"), "in": "group:2nd-floor", "op": ">=", "value": 3},
        ),
        ("avg(node:sensor-01, temp) > 25.5", {"avg": "temp", "in": "node:sensor-01", "op": ">", "value": 25.5}),
        ("count > 5", {"metric": "count", "op": ">", "value": 5}),
        ("any(site: a, x > 1 or y > 1) for 90 s", {"for_ms": 90_000, "of": parse("any(site: a, x > 1 or y > 1)")}),
    ],
)
def test_an_expression_has_one_meaning(text: str, tree: dict[str, Any]) -> None:
    assert parse(text) == tree


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("temp > 30 for", 14, "duration"),
        ("temp > 30 for 5", 16, "unit of time"),
        ("temp > 30 for 5 weeks", 17, "unit of time"),
        ("temp > 30 for 8 d", 15, "7 days"),
        ("temp > 30 for -5 min", 15, "duration"),
        ("temp > 30 for 5 min and x > 1", 21, "covers all"),
        ("(temp > 30 for 5 min) and x > 1", 12, "covers all"),
        ("any(site: barn, temp > 30 for 5 min)", 27, "covers all"),
        ("rate(temp) > 2", 10, "','"),
        ("rate(temp, 10 min)", 19, "metric, operator"),
        ("rate(temp, 10 min) > true", 22, "not a number"),
        ("absent(30, 5 min)", 8, "not the name of a metric"),
        ("absent(temp, 5 min) > 3", 21, "metric, operator"),
        ("any(barn, temp > 30)", 5, "site: barn"),
        ("any(site: Barn, temp > 30)", 11, "id of a site"),
        ("any(site: , temp > 30)", 11, "id of a site"),
        ("any(site: barn temp > 30)", 16, "','"),
        ("any(fleet, any(fleet, temp > 30))", 12, "does not stand in"),
        ("any(fleet, temp > 30", 21, "')'"),
        ("(temp > 30", 11, "')'"),
        ("temp > 30)", 10, "metric, operator"),
        ("and > 3", 1, "not the name of a metric"),
        ("a > 1 and", 10, "metric, operator"),
        ("temp > 99999999999999999999", 8, "too large"),
        ("((((((temp > 1))))))", 6, "nested deeper"),
        ("avg(fleet, temp > 3) > 1", 17, "')'"),
    ],
)
def test_a_mistake_is_named_with_its_column(text: str, column: int, words: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert (caught.value.column, words in caught.value.message) == (column, True), caught.value.message


@pytest.mark.parametrize(
    ("text", "per_node", "metric", "asked"),
    [
        ("temp > 30", True, "temp", {"compare"}),
        ("temp > 30 for 5 min", True, "temp", {"compare", "for"}),
        ("any(site: barn, temp > 30)", False, "temp", {"any", "compare"}),
        ("any(site: barn, temp > 30) and humidity < 20", True, "humidity", {"any", "and", "compare"}),
        ("avg(fleet, temp) > 3 or not absent(x, 5 s)", True, "x", {"avg", "or", "not", "absent"}),
        ("rate(temp, 5 s) > 3", True, "temp", {"rate"}),
    ],
)
def test_a_condition_says_what_it_is_about_and_what_it_takes(
    text: str, per_node: bool, metric: str, asked: set[str]
) -> None:
    tree = parse(text)
    assert (is_per_node(tree), main_metric(tree), needs(tree)) == (per_node, metric, asked)
    assert metric in metrics_of(tree)


@pytest.mark.parametrize(
    "tree",
    [
        {"and": [parse("a > 1")]},
        {"and": parse("a > 1")},
        {"and": [parse("a > 1"), None]},
        {"not": 3},
        {"of": parse("a > 1"), "for_ms": 0},
        {"not": {"of": parse("a > 1"), "for_ms": 5}},
        {"any": parse("a > 1"), "in": "barn"},
        {"any": parse("a > 1"), "in": "site:"},
        {"any": parse("any(fleet, a > 1)"), "in": "fleet"},
        {"count": parse("a > 1"), "in": "fleet", "op": ">", "value": "3"},
        {"avg": "cmd", "in": "fleet", "op": ">", "value": 3},
        {"rate": "a", "over_ms": 1.5, "op": ">", "value": 3},
        {"absent": "a", "over_ms": True},
        {"metric": "a", "op": ">", "value": float("nan")},
        {"metric": "a", "op": ">", "value": 1 << 60},
    ],
    ids=str,
)
def test_a_tree_that_no_expression_makes_is_refused(tree: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        check_condition(tree)


def test_a_tree_that_is_nested_without_end_is_refused_before_python_minds() -> None:
    tree: Any = parse("a > 1")
    for _ in range(10_000):
        tree = {"not": tree}
    with pytest.raises(ValueError, match="nested deeper"):
        check_condition(tree)


@given(SPANS_MS)
def test_a_duration_is_read_as_it_is_written(span_ms: int) -> None:
    assert parse_duration(write_duration(span_ms)) == span_ms
