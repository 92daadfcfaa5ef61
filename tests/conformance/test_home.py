"""Nodes go home when their gateway is back, and a gateway without its cloud judges more than a comparison."""

from __future__ import annotations

import pytest

from clawsim.timing import LOOK_S
from tests.conformance.runs import Rehearsal

SCENARIO = "home"
NODES = ["sensor-01", "sensor-02"]


def test_it_passes(run: Rehearsal) -> None:
    assert (run.summary["verdict"], run.summary["reasons"]) == ("PASS", []), run.output


@pytest.mark.parametrize("node", NODES)
def test_each_node_flees_once_and_goes_home_once(run: Rehearsal, node: str) -> None:
    joined = [(event["gateway"], event["attach"]) for event in run.all("failover.joined", node)]
    assert joined == [("gateway-02", 2), ("gateway-01", 3)]
    ordered = run.one("failback.ordered", "gateway-02", node=node, gateway="gateway-01")
    assert run.all("failover.joined", node)[-1].t_s - ordered.t_s <= LOOK_S
    assert ordered.t_s - run.one("fault.cleared", of="dies").t_s >= 35, "the hold time, from the home's start"


def test_nobody_is_counted_as_down_and_nothing_is_lost(run: Rehearsal) -> None:
    assert not run.all("node.down") and not run.all("reading.lost")
    assert run.readings("stored").keys() == run.readings("produced").keys()


def test_the_secondary_lets_go_and_its_command_is_answered_wherever_the_answer_came_by(run: Rehearsal) -> None:
    answered = run.all("command.acknowledged", "gateway-02", action="rejoin")
    assert sorted(event["target"] for event in answered) == NODES
    assert not run.all("command.expired")


@pytest.mark.parametrize("node", NODES)
def test_offline_the_gateway_waits_for_the_for_and_sounds_the_alarm(run: Rehearsal, node: str) -> None:
    raised = run.one("alert.raised", "gateway-01", node=node, rule="hot")
    first_s = min(event.t_s for event in run.all("reading.produced", node) if event["value"] == 35)
    assert 19 <= raised.t_s - first_s <= 31
    assert run.one("alarm.local", node, by="gateway").t_s >= raised.t_s


def test_offline_a_rule_about_a_group_commands_a_node(run: Rehearsal) -> None:
    raised = run.one("alert.raised", "gateway-01", rule="both")
    assert (raised["scope"], raised["judged"], raised["members"]) == ("group:pair", 2, 2)
    assert len(run.all("command.executed", "sensor-01", action="identify")) == 1


def test_the_cloud_takes_all_of_it_over_and_repeats_none(run: Rehearsal) -> None:
    assert not run.all("alert.raised", by="cloud")
    (told,) = [event for event in run.all("notification.sent") if "raised" in event["subject"]]
    assert told["subject"].startswith("both, hot: 3 alerts are raised")
