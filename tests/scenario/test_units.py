"""Quantities: exact integers, units mandatory, and the schema's pattern agreeing with the parser."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawsim.scenario.units import DURATION_PATTERN, PERCENT_PATTERN, clock, duration_us, share, spoken

UNITS_US = {"us": 1, "ms": 1_000, "s": 10**6, "min": 60 * 10**6, "h": 3600 * 10**6, "d": 86_400 * 10**6}


@given(st.integers(0, 366), st.sampled_from(sorted(UNITS_US)), st.sampled_from(["", " "]))
def test_a_whole_number_of_units_is_exactly_that_many_microseconds(number: int, unit: str, space: str) -> None:
    assert duration_us(f"{number}{space}{unit}") == number * UNITS_US[unit]


@given(st.integers(0, 366 * 86_400 * 10**6))
def test_what_is_spoken_reads_back_to_whole_seconds_or_exactly(us: int) -> None:
    assert duration_us(spoken(us)) == us


@given(st.text(max_size=30) | st.integers() | st.floats() | st.none() | st.booleans() | st.lists(st.integers()))
def test_anything_else_is_a_value_error_that_names_a_unit_or_the_limit(value: object) -> None:
    for parse in (duration_us, share):
        try:
            parse(value)
        except ValueError as error:
            assert str(error)


@given(st.from_regex(DURATION_PATTERN, fullmatch=True))
def test_the_schemas_pattern_promises_no_text_that_the_parser_calls_malformed(text: str) -> None:
    try:
        duration_us(text.rstrip("\n"))
    except ValueError as error:
        assert "366 d" in str(error) or "finer than a microsecond" in str(error)


@given(st.text(max_size=12))
def test_every_duration_the_parser_takes_matches_the_schemas_pattern(text: str) -> None:
    try:
        duration_us(text)
    except ValueError:
        return
    assert re.search(DURATION_PATTERN, text)


@pytest.mark.parametrize("text", ["30", "s", "-1 s", "1  s", "1.0.0 s", "٣ s", "1e3 s", "400 d", "0.1 us", " 1 s"])
def test_these_are_no_durations(text: str) -> None:
    with pytest.raises(ValueError):
        duration_us(text)


def test_a_share_is_given_in_percent_only() -> None:
    assert share("20 %") == 0.2
    assert re.search(PERCENT_PATTERN, "12.5%")
    for wrong in ("20", 0.2, "101 %", "5 s"):
        with pytest.raises(ValueError):
            share(wrong)


def test_an_instant_reads_as_a_clock() -> None:
    assert clock(5 * 60_000_000) == "0:05:00"
    assert clock(3_661_250_000) == "1:01:01.25"
