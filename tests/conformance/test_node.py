"""What a node does by itself: new settings that it keeps, and sleep that nobody takes for death."""

from __future__ import annotations

from itertools import pairwise

from clawsim.timing import BEACON_S, PROMPT_S
from tests.conformance.runs import Rehearsal

SCENARIO = "calls"


def test_a_new_interval_is_in_force_when_the_caller_hears_of_it_and_only_there(run: Rehearsal) -> None:
    answered = run.one("call.answered", of="config")
    assert answered.t_s - run.one("call.sent", of="config").t_s < BEACON_S
    for node, every_s in (("sensor-01", 5), ("sensor-02", 20)):
        times = [event.t_s for event in run.all("reading.produced", node) if answered.t_s < event.t_s < 230]
        assert len(times) > 4
        assert all(abs(b - a - every_s) < 1 + PROMPT_S / 5 for a, b in pairwise(times))
    assert not run.all("config.rolled-back")


def test_a_command_to_identify_or_configure_runs_once(run: Rehearsal) -> None:
    executed = [event["action"] for event in run.all("command.executed", "sensor-01")]
    assert executed == ["alert", "alert", "config", "identify"]


def test_a_node_that_sleeps_is_up_all_the_time_and_all_it_measures_arrives(run: Rehearsal) -> None:
    assert not run.all("node.down", node="sleeper-01")
    assert not run.all("failover.scan", "sleeper-01")
    produced = [event["seq"] for event in run.all("reading.produced", "sleeper-01")]
    assert len(produced) == 6
    assert sorted(event["seq"] for event in run.all("reading.stored", node="sleeper-01")) == produced
