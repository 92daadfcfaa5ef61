"""Rule expressions: what people write, the tree that travels, and where a mistake is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.wire.rules import OPERATORS, holds
from fleet.wire.condition import check_condition
from fleet.wire.expression import MAX_CHARS, ExpressionError, parse
from fleet.wire.rule import meets_both
from tests.wire.strategies import ANY_JSON, METRICS

SPACES = st.text(" \t", max_size=3)


@given(METRICS, st.sampled_from(OPERATORS), st.integers(-(10**9), 10**9) | st.decimals(-999, 999, places=2), SPACES)
def test_an_expression_means_what_it_says(metric: str, op: str, value: object, space: str) -> None:
    tree = parse(f"{space}{metric} {op}{space}{value}{space}")
    assert tree["metric"] == metric and tree["op"] == op
    assert tree["value"] == pytest.approx(float(str(value)))
    assert check_condition(tree) is tree


@pytest.mark.parametrize(
    ("text", "value", "met"),
    [
        ("temp > 30", 30, False),
        ("temp > 30", 30.01, True),
        ("temp >= 30", 30, True),
        ("temp < 29", 29, False),
        ("temp <= 29", 29, True),
        ("temp == 29", 29.0, True),
        ("temp != 29", 29, False),
        ("temp > -5", -4.5, True),
        ("door == true", True, True),
        ("door == true", False, False),
        ("door != true", False, True),
        ('tag == "a b"', "a b", True),
        ('tag != "a b"', "a", True),
        ("temp == 29", "29", False),
        ("temp != 29", "29", False),
        ('tag != "x"', 3, False),
        ("temp > 30", "hot", False),
    ],
)
def test_a_condition_holds_as_a_reader_would_expect(text: str, value: object, met: bool) -> None:
    assert holds(parse(text), value) is met


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("", 1, "metric, operator, value"),
        ("temp", 5, "metric, operator, value"),
        ("temp > 30 and", 14, "metric, operator"),
        ("temp = 30", 6, "unexpected"),
        ("Temp > 30", 1, "not the name of a metric"),
        ("cmd > 3", 1, "not the name of a metric"),
        ("temp temp 30", 6, "not an operator"),
        ("temp > abc", 8, "not a value"),
        ("door > true", 8, "needs a number"),
        ('tag < "a"', 7, "needs a number"),
        ("temp > 30 ☃", 11, "unexpected"),
        ("temp > >", 8, "not a value"),
        ("temp " * 100, MAX_CHARS, "longer"),
    ],
)
def test_a_mistake_is_named_with_its_column(text: str, column: int, words: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert caught.value.column == column
    assert words in caught.value.message


@given(st.text(max_size=60) | st.text('temp <>=!09."true-', max_size=30))
def test_any_text_is_parsed_or_refused_and_nothing_else(text: str) -> None:
    try:
        tree = parse(text)
    except ExpressionError as error:
        assert 1 <= error.column <= max(MAX_CHARS, len(text) + 1)
    else:
        assert check_condition(tree) is tree
        assert holds(tree, 1.5) in (True, False)


@given(ANY_JSON | st.fixed_dictionaries({"metric": ANY_JSON, "op": ANY_JSON | st.just(">"), "value": ANY_JSON}))
def test_a_tree_that_travels_is_checked_and_a_checked_one_can_be_evaluated(tree: object) -> None:
    try:
        condition = check_condition(tree)
    except ValueError:
        return
    for value in (1, -2.5, True, "text"):
        assert holds(condition, value) in (True, False)


NUMERIC = st.builds(lambda op, value: parse(f"temp {op} {value}"), st.sampled_from(OPERATORS), st.integers(-4, 4))


@given(NUMERIC, NUMERIC)
def test_thresholds_that_overlap_are_found_and_no_others(when: dict[str, object], clear: dict[str, object]) -> None:
    grid = [number / 4 for number in range(-24, 25)]
    assert (meets_both(when, clear) is not None) == any(holds(when, value) and holds(clear, value) for value in grid)


@pytest.mark.parametrize(
    ("when", "clear", "overlap"),
    [
        ("temp > 30", "temp < 29", False),
        ("temp > 30", "temp <= 30", False),
        ("temp > 30", "temp < 31", True),
        ("door == true", "door == false", False),
        ("door == true", "door != false", True),
        ('tag == "a"', 'tag != "a"', False),
        ('tag != "a"', 'tag != "b"', True),
    ],
)
def test_one_value_must_not_raise_and_clear(when: str, clear: str, overlap: bool) -> None:
    assert (meets_both(parse(when), parse(clear)) is not None) == overlap
