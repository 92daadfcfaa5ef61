"""How the report names many at once."""

import pytest

from clawsim.enumeration import listed


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["sensor-01"], "sensor-01"),
        (["sensor-01", "sensor-02"], "sensor-01, sensor-02"),
        (["sensor-01", "sensor-02", "sensor-03"], "sensor-01 … sensor-03"),
        (["sensor-09", "sensor-10", "sensor-11"], "sensor-09 … sensor-11"),
        (["sensor-01", "sensor-02", "sensor-04"], "sensor-01, sensor-02, sensor-04"),
        (["a-1", "b-1", "c-1", "d-1", "e-1"], "a-1, b-1, c-1, d-1, e-1"),
        (["a", "b", "c", "d", "e", "f"], "a, b, c, d and 2 more"),
        ([f"hot on sensor-0{n}: raised" for n in (1, 2, 3)], "hot on sensor-01 … sensor-03: raised"),
        (["hot on node-1: raised", "wet on node-2: raised"], "hot on node-1: raised, wet on node-2: raised"),
    ],
)
def test_names_that_count_up_are_one_range_and_a_long_list_is_cut(names: list[str], said: str) -> None:
    assert listed(names) == said


def test_what_is_cut_is_counted_by_name_not_by_range() -> None:
    names = ["a", "b", "c", "d", *(f"sensor-{n:02d}" for n in range(10)), "x", "y"]
    assert listed(names) == "a, b, c, d and 12 more"
