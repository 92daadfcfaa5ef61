"""Sensor data upload, L1 to L2 to L3, and the alarm on its way back."""

from __future__ import annotations

from clawsim.timing import PROMPT_S, WINDOW_S
from tests.conformance.runs import Rehearsal

SCENARIO = "upload"
SAMPLED_S = 60


def test_a_reading_is_in_the_cloud_within_the_aggregation_window(run: Rehearsal) -> None:
    produced = run.readings("produced")
    for identity, said in run.readings("stored").items():
        assert said[0].t_s - produced[identity][0].t_s <= WINDOW_S, identity


def test_the_gateway_sends_its_readings_in_batches_and_not_one_by_one(run: Rehearsal) -> None:
    sent = [event for event in run.all("batch.sent") if event["readings"] > 0]
    assert max(event["readings"] for event in sent) >= 3  # a minute of two thermometers and a hygrometer
    assert len({event["batch"] for event in sent}) == len(sent), "a batch went twice though nothing was lost"


def test_a_door_does_not_wait_for_the_window(run: Rehearsal) -> None:
    stored = run.readings("stored")
    doors = [event for event in run.all("reading.produced", "door-01") if event["metric"] == "door"]
    assert len(doors) == 3
    for event in doors[1:]:  # the first is said while everything starts
        assert stored["door-01", event["boot"], event["seq"]][0].t_s - event.t_s <= PROMPT_S


def test_above_30_degrees_the_cloud_commands_the_alarm_of_that_node_alone(run: Rehearsal) -> None:
    raised = run.one("alert.raised", "fleet", node="sensor-01", rule="hot", by="cloud")
    assert raised["value"] > 30
    assert 240 <= raised.t_s <= 240 + SAMPLED_S + WINDOW_S
    alarm = run.one("alarm.local", by="cloud")
    assert alarm.who == "sensor-01"
    assert 0 < alarm.t_s - raised.t_s <= PROMPT_S


def test_the_command_goes_through_queued_sent_executed_acknowledged(run: Rehearsal) -> None:
    first = run.all("command.queued", target="sensor-01")[0]
    steps = [event.kind for event in run.events if event.fields.get("id") == first["id"]]
    assert steps == ["command.queued", "command.sent", "command.executed", "alarm.local", "command.acknowledged"]


def test_below_29_degrees_the_episode_ends_and_the_alarm_falls_silent(run: Rehearsal) -> None:
    raised = run.one("alert.raised")
    cleared = run.one("alert.cleared", "fleet", node="sensor-01", rule="hot")
    assert cleared["id"] == raised["id"]
    assert cleared["value"] < 29
    assert 0 < run.one("alarm.silenced", "sensor-01").t_s - cleared.t_s <= PROMPT_S


def test_people_are_told_when_it_begins_and_when_it_ends(run: Rehearsal) -> None:
    subjects = [event["subject"] for event in run.all("notification.sent", node="sensor-01")]
    assert subjects == ["hot on sensor-01: raised", "hot on sensor-01: cleared"]
