"""Rules that a node judges by itself: its alarm needs no gateway."""

from typing import Any

import pytest

from firmware.core.rules import MAX_RULES, problem
from tests.firmware_core.rig import TEMP, Alarm, Board

HOT: dict[str, Any] = {
    "name": "hot",
    "when": {"metric": "temp", "op": ">", "value": 30},
    "clear": {"metric": "temp", "op": "<", "value": 29},
}
WET: dict[str, Any] = {"name": "wet", "when": {"metric": "leak", "op": "==", "value": True}, "clear": None}
LEAK = {"metric": "leak", "unit": "", "exp": 0, "low": None, "high": None, "every_ms": None}


def alarms(board: Board) -> list[tuple[bool, str]]:
    return [(alarm.on, alarm.by) for alarm in board.of(Alarm)]


def test_a_hot_sensor_sounds_the_alarm_without_any_gateway_and_ends_it_by_its_hysteresis() -> None:
    board = Board(rules=[HOT]).power_on()
    for value in (2900, 3000, 3001, 3500, 2950, 2899):
        board.sampled(value)
    assert alarms(board) == [(True, "node"), (False, "node")]
    assert board.events("alarm.local", "alarm.silenced") == [{"by": "node", "rule": "hot"}] * 2


def test_the_alarm_ends_with_the_last_of_several_episodes() -> None:
    board = Board(sensors=[TEMP, LEAK], rules=[HOT, WET]).power_on()
    board.sampled(3100)
    board.sampled(True, 1)
    board.sampled(2000)
    assert alarms(board) == [(True, "node"), (True, "node")]
    board.sampled(False, 1)
    assert alarms(board)[-1] == (False, "node")


def test_a_value_that_is_a_fault_raises_nothing() -> None:
    board = Board(rules=[HOT]).power_on()
    board.sampled(9000)
    board.sampled(None)
    assert alarms(board) == []


def test_an_alarm_that_the_cloud_sounded_is_not_ended_by_the_node() -> None:
    board = Board(rules=[HOT]).started()
    board.sampled(3100)
    board.command("alert", "c-1", state="on")
    board.sampled(2000)
    assert alarms(board) == [(True, "node"), (True, "cloud")]
    board.command("alert", "c-2", state="off")
    assert alarms(board)[-1] == (False, "cloud")


def test_a_node_that_restarts_sounds_again_with_the_next_reading_that_is_still_too_hot() -> None:
    board = Board(rules=[HOT]).power_on()
    board.sampled(3100)
    board.power_on(10_000)
    board.sampled(3100)
    assert alarms(board) == [(True, "node")] * 2


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ([HOT, WET], ""),
        ([HOT, HOT], "two rules 'hot'"),
        ([HOT | {"name": ""}], "needs a name"),
        ([HOT | {"when": {"metric": "temp", "op": "~", "value": 3}}], "metric, op, value"),
        ([HOT | {"when": {"metric": "Temp", "op": ">", "value": 3}}], "metric, op, value"),
        ([HOT | {"when": {"metric": "temp", "op": ">", "value": float("nan")}}], "metric, op, value"),
        ([HOT | {"clear": {"metric": "leak", "op": "<", "value": 3}}], "different metrics"),
        ([HOT | {"clear": 3}], "metric, op, value"),
        ([HOT | {"name": f"rule {n}"} for n in range(MAX_RULES + 1)], "at most 16"),
        ({}, "a list"),
        (["hot"], "needs a name"),
    ],
)
def test_rules_are_checked_before_a_node_has_them(rules: Any, words: str) -> None:
    assert words in problem(rules) and bool(words) == bool(problem(rules))
