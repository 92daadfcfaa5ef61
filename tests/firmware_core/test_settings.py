"""Settings from afar: tried out, kept with the answer once the gateway was heard, taken back if it was not."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.core.commands import IDENTIFY_S
from firmware.core.settings import CONFIRM_S
from tests.firmware_core.rig import TEMP, Board, Identify, PowerCut

PERIODIC = TEMP | {"every_ms": 60_000}
HOT: dict[str, Any] = {
    "name": "hot",
    "when": {"metric": "temp", "op": ">", "value": 30},
    "clear": {"metric": "temp", "op": "<", "value": 29},
}


def sampling(**config: Any) -> Board:
    return Board(sensors=[PERIODIC], rules=[HOT], **config).started()


def period_ms(board: Board) -> int:
    """The time between the next two samples."""
    first_ms = board.core.sensors[0].next_ms
    board.at(first_ms)
    return int(board.core.sensors[0].next_ms - first_ms)


def test_an_interval_is_in_force_at_once_and_answered_when_the_gateway_was_heard_under_it() -> None:
    board = sampling()
    board.command("config", "c-1", interval_s=5)
    assert period_ms(board) == 5000
    assert len(board.sent("beacon")) == 1  # it asks
    assert board.sent("ack") == [] and "config" not in board.flash.slots
    board.alive()
    assert board.sent("ack") == [{"id": "c-1", "status": "done"}]
    assert board.flash.slots["config"] == {"interval_s": 5}


def test_settings_survive_a_loss_of_power_and_later_ones_add_to_them() -> None:
    board = sampling()
    board.command("config", "c-1", interval_s=5)
    board.alive()
    board.command("config", "c-2", heartbeat_s=120, thresholds={"hot": 25})
    board.alive()
    board.power_on(10_000)
    board.link_up()
    assert period_ms(board) == 5000
    assert board.sent("heartbeat")[-1]["interval_ms"] == 120_000
    board.sampled(2600)
    assert [event["rule"] for event in board.events("alarm.local")] == ["hot"]


def test_a_new_heartbeat_interval_is_announced_at_once() -> None:
    board = sampling()
    board.forget()
    board.command("config", "c-1", heartbeat_s=300)
    assert [found["interval_ms"] for found in board.sent("heartbeat")] == [300_000]
    board.alive()
    board.at(310_000)
    assert len(board.sent("heartbeat")) == 2


def test_a_threshold_moves_with_its_hysteresis() -> None:
    board = sampling()
    board.command("config", "c-1", thresholds={"hot": 20})
    board.alive()
    for value in (2100, 1950, 1850):
        board.sampled(value)
    assert len(board.events("alarm.local")) == 1
    assert len(board.events("alarm.silenced")) == 1
    assert HOT["when"]["value"] == 30  # the node's own configuration is as it was


def test_settings_are_taken_back_when_the_gateway_is_not_heard_in_time() -> None:
    board = sampling()
    board.command("config", "c-1", interval_s=5, heartbeat_s=600, confirm_s=30)
    board.at(29_000)
    assert board.events("config.rolled-back") == []
    board.at(30_000)
    assert board.events("config.rolled-back") == [{"id": "c-1", "reason": "the gateway was not heard"}]
    assert period_ms(board) == 60_000
    assert board.sent("ack")[0]["status"] == "failed"
    assert board.sent("heartbeat")[-1]["interval_ms"] == 60_000
    board.command("config", "c-1", interval_s=5)
    assert board.sent("ack")[-1] == {"id": "c-1", "status": "failed"}  # it does not run twice


def test_a_roll_back_while_there_is_no_connection_is_answered_when_there_is_one() -> None:
    board = sampling()
    board.command("config", "c-1", interval_s=5)
    board.link_down()
    board.at(1000 * CONFIRM_S)
    assert board.sent("ack") == [] and len(board.events("config.rolled-back")) == 1
    board.link_up()
    assert board.sent("ack") == [{"id": "c-1", "status": "failed"}]


def test_a_node_that_loses_its_power_in_a_trial_has_its_old_settings_and_says_that_it_failed() -> None:
    board = sampling()
    board.command("config", "c-1", interval_s=5)
    board.power_on(5000)
    board.link_up()
    assert period_ms(board) == 60_000
    assert board.sent("ack") == [{"id": "c-1", "status": "failed"}]


def test_flash_that_refuses_the_settings_takes_them_back() -> None:
    board = sampling()
    board.command("config", "c-1", interval_s=5)
    board.refuse_stores = True
    board.alive()
    assert [event["reason"] for event in board.events("config.rolled-back")] == ["flash"]
    board.refuse_stores = False
    assert period_ms(board) == 60_000
    assert board.sent("ack")[-1]["status"] == "failed"


@pytest.mark.parametrize("cut_after", range(14))
def test_wherever_the_power_goes_the_answer_says_what_is_in_force(cut_after: int) -> None:
    board = sampling()
    board.cut_after = cut_after
    try:
        board.command("config", "c-1", interval_s=5)
        board.alive()
    except PowerCut:
        board.cut_after = None
        board.power_on(5000)
        board.link_up()
    board.cut_after = None
    board.command("config", "c-1", interval_s=5)  # the gateway asks again
    board.alive()
    answers = {answer["status"] for answer in board.sent("ack")}
    assert len(answers) == 1
    assert period_ms(board) == (5000 if answers == {"done"} else 60_000)
    assert len(board.events("command.executed")) <= 1


def test_a_second_configuration_settles_the_first_for_it_is_a_word_of_the_gateway() -> None:
    board = sampling()
    board.command("config", "c-1", interval_s=5)
    board.command("config", "c-2", interval_s=7)
    assert board.sent("ack") == [{"id": "c-1", "status": "done"}]
    assert period_ms(board) == 7000
    board.alive()
    assert [answer["id"] for answer in board.sent("ack")] == ["c-1", "c-2"]


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"interval_s": 0}, "interval_s is not from 1 to 86400"),
        ({"interval_s": "5"}, "interval_s"),
        ({"interval_s": True}, "interval_s"),
        ({"heartbeat_s": 5}, "heartbeat_s is not from 10 to 3600"),
        ({"confirm_s": 1}, "confirm_s"),
        ({"colour": "red"}, "cannot set colour"),
        ({"thresholds": {"cold": 3}}, "no rule cold"),
        ({"thresholds": {"hot": "3"}}, "no number for hot"),
        ({"thresholds": [3]}, "thresholds is no object"),
        ({"interval_s": 5, "thresholds": {"hot": None}}, "no number"),
    ],
)
def test_settings_that_cannot_be_change_nothing_and_the_answer_says_why(params: Any, reason: str) -> None:
    board = sampling()
    board.command("config", "c-1", **params)
    [answer] = board.sent("ack")
    assert answer["status"] == "failed" and reason in answer["reason"]
    assert period_ms(board) == 60_000 and board.events("command.executed") == []


@settings(max_examples=40)
@given(st.dictionaries(st.text(max_size=12), st.recursive(st.none() | st.integers(), st.lists), max_size=4))
def test_whatever_is_asked_of_a_node_is_answered_with_a_reason_that_fits_its_message(params: Any) -> None:
    board = sampling()
    board.command("config", "c-1", **{name: value for name, value in params.items() if name != "by"})
    assert (
        len(board.sent("ack")) + (board.core.settings.due_ms is not None) + len(board.events("message.rejected")) == 1
    )


@pytest.mark.parametrize("slot", [{"interval_s": "x"}, ["x"], "x", {"thresholds": {"gone": 1}}])
def test_settings_on_flash_that_make_no_sense_any_more_are_not_taken(slot: Any) -> None:
    board = Board(sensors=[PERIODIC], rules=[HOT])
    board.flash.slots["config"] = slot
    board.started()
    assert period_ms(board) == 60_000


def test_after_the_end_of_a_rehearsal_no_settings_make_it_sample_again() -> None:
    board = sampling()
    board.core.stop_sampling(board.now_ms)
    board.command("config", "c-1", interval_s=5)
    board.alive()
    board.forget()
    board.at(300_000)
    assert board.events("reading.produced") == []


def test_identify_blinks_once_and_is_answered_as_often_as_it_is_asked() -> None:
    board = Board().started()
    board.command("identify", "c-1", for_s=3)
    board.command("identify", "c-1", for_s=3)
    board.command("identify", "c-2")
    assert [output.for_ms for output in board.of(Identify)] == [3000, 1000 * IDENTIFY_S]
    assert [answer["status"] for answer in board.sent("ack")] == ["done"] * 3
    board.command("identify", "c-3", for_s=0)
    assert "for_s" in board.sent("ack")[-1]["reason"]


# --- the battery ------------------------------------------------------------------------------------------------------


def test_a_low_battery_makes_all_intervals_longer_and_the_heartbeat_announces_it() -> None:
    board = sampling(low_battery_mv=3300)
    board.battery(3400)
    assert board.events("battery.low") == []
    board.battery(3290)
    heartbeat = board.sent("heartbeat")[-1]
    assert (heartbeat["interval_ms"], heartbeat["low_battery"], heartbeat["battery_mv"]) == (300_000, True, 3290)
    assert period_ms(board) == 300_000
    board.battery(3350)  # with less to do a battery rises a little
    board.battery(None)
    assert board.events("battery.recovered") == []
    board.battery(3400)
    assert period_ms(board) == 60_000
    assert board.sent("heartbeat")[-1]["interval_ms"] == 60_000 and "low_battery" not in board.sent("heartbeat")[-1]


def test_a_low_battery_does_not_put_off_the_sample_that_is_due_first() -> None:
    board = Board(sensors=[PERIODIC], low_battery_mv=3300).power_on()
    board.battery(3000)
    board.at(301_000)
    assert len(board.events("reading.produced")) == 2


def test_settings_of_a_node_with_a_low_battery_are_stretched_too() -> None:
    board = sampling(low_battery_mv=3300)
    board.battery(3000)
    board.command("config", "c-1", interval_s=10)
    board.alive()
    assert period_ms(board) == 50_000
    board.battery(4000)
    assert period_ms(board) == 10_000


def test_without_a_limit_a_battery_is_told_and_changes_nothing() -> None:
    board = sampling()
    board.battery(100)
    board.at(61_000)
    assert board.sent("heartbeat")[-1]["battery_mv"] == 100
    assert period_ms(board) == 60_000


# --- sticking sensors -------------------------------------------------------------------------------------------------


def test_a_sensor_that_sticks_is_a_fault_and_no_reading_until_it_moves_again() -> None:
    board = Board(sensors=[PERIODIC | {"stuck_ms": 300_000}])
    board.on_sample = lambda index, now_ms: 2150 if now_ms < 600_000 else 2151
    board.started()
    board.at(590_000)
    assert [event["reason"] for event in board.events("sensor.fault")] == ["stuck"]
    assert len(board.events("reading.produced")) == 6  # up to 300 s
    assert board.sent("heartbeat")[-1]["faults"] == ["temp"]
    board.at(661_000)
    assert len(board.events("reading.produced")) == 8
    assert "faults" not in board.sent("heartbeat")[-1]


def test_a_sensor_sticks_by_its_value_whatever_faults_come_between() -> None:
    board = Board(sensors=[TEMP | {"stuck_ms": 100}]).started()
    for now_ms, value in ((0, 2000), (50, None), (90, 2000), (101, 2000)):
        board.at(now_ms)
        board.sampled(value)
    assert [event["reason"] for event in board.events("sensor.fault")] == ["failed", "stuck"]
