"""Episodes: hysteresis, against a state machine written the long way."""

from hypothesis import given
from hypothesis import strategies as st

from firmware.wire.rules import Episodes
from fleet.wire.expression import parse

HOT = {"name": "hot", "when": parse("temp > 30"), "clear": parse("temp < 29"), "action": "alert"}
BARE = {"name": "hot", "when": parse("temp > 30"), "clear": None, "action": "alert"}
VALUES = st.lists(st.integers(27, 32), max_size=40)


def changes(rule: dict[str, object], values: list[int]) -> list[tuple[int, bool]]:
    episodes = Episodes()
    episodes.set_rules([rule])
    found = [(seq, episodes.evaluate("n1", "temp", value, 5, seq)) for seq, value in enumerate(values)]
    return [(seq, raised) for seq, said in found for _, _, raised in said]


@given(VALUES)
def test_an_episode_begins_above_and_ends_below_with_a_quiet_band_between(values: list[int]) -> None:
    wanted, active = [], False
    for seq, value in enumerate(values):
        if (value > 30 and not active) or (value < 29 and active):
            active = not active
            wanted.append((seq, active))
    assert changes(HOT, values) == wanted


@given(VALUES)
def test_without_a_clear_condition_it_ends_when_the_first_no_longer_holds(values: list[int]) -> None:
    before = [False] + [value > 30 for value in values]
    assert changes(BARE, values) == [(seq, now) for seq, now in enumerate(before[1:]) if now != before[seq]]


def test_the_episode_is_named_after_the_reading_that_raised_it() -> None:
    episodes = Episodes()
    episodes.set_rules([HOT])
    ((_, raised, _),) = episodes.evaluate("n1", "temp", 31, 5, 17)
    assert not episodes.evaluate("n1", "temp", 33, 5, 18)
    ((_, cleared, is_raised),) = episodes.evaluate("n1", "temp", 20, 5, 19)
    assert raised == cleared == "hot:n1:5:17" and not is_raised


def test_nodes_and_metrics_do_not_mix() -> None:
    episodes = Episodes()
    episodes.set_rules([HOT])
    assert episodes.evaluate("n1", "temp", 31, 5, 1)
    assert not episodes.evaluate("n2", "temp", 20, 5, 1)
    assert not episodes.evaluate("n1", "humidity", 20, 5, 2)
    assert episodes.open == {("hot", "n1"): "hot:n1:5:1"}


def test_an_episode_of_a_rule_that_is_gone_is_no_longer_open() -> None:
    episodes = Episodes()
    episodes.set_rules([HOT])
    episodes.evaluate("n1", "temp", 31, 5, 1)
    episodes.set_rules([])
    assert not episodes.open and not episodes.evaluate("n1", "temp", 20, 5, 2)
