"""Command dispatch, L3 to L2 to L1 and back."""

from __future__ import annotations

from clawsim.timing import PROMPT_S, START_S
from tests.conformance.runs import Rehearsal

SCENARIO = "command"


def test_a_restart_through_the_api_is_answered_with_the_nodes_own_result(run: Rehearsal) -> None:
    answer = run.one("call.answered", of="restart")
    assert answer["status"] == 200
    [judged] = [each for each in run.summary["expectations"] if each["name"].startswith("call restart: 200")]
    assert "success" in judged["seen"]


def test_the_api_answers_after_the_nodes_acknowledgement_and_soon(run: Rehearsal) -> None:
    acknowledged = run.one("command.acknowledged", "fleet", target="sensor-01", status="restarted")
    asked, answered = run.one("call.sent", of="restart"), run.one("call.answered", of="restart")
    assert asked.t_s < acknowledged.t_s <= answered.t_s <= acknowledged.t_s + PROMPT_S
    assert answered.t_s - asked.t_s <= START_S


def test_the_command_runs_exactly_once(run: Rehearsal) -> None:
    queued = run.one("command.queued")
    assert run.one("command.executed")["id"] == queued["id"]
    steps = [event.kind for event in run.events if event.fields.get("id") == queued["id"]]
    assert steps == ["command.queued", "command.sent", "command.executed", "command.acknowledged"]


def test_the_node_really_restarted_with_the_next_boot_number_and_the_other_did_not(run: Rehearsal) -> None:
    before, after = run.all("node.started", "sensor-01")
    assert after["boot"] == before["boot"] + 1
    assert run.one("command.executed", "sensor-01").t_s < after.t_s < run.one("command.acknowledged").t_s
    assert len(run.all("node.started", "sensor-02")) == 1


def test_a_planned_restart_is_not_taken_for_a_failure(run: Rehearsal) -> None:
    assert not run.all("node.down")
    assert not [event for event in run.all("notification.sent") if "down" in event["subject"]]


def test_who_may_not_is_told_so_and_nothing_is_queued(run: Rehearsal) -> None:
    statuses = {event["of"]: event["status"] for event in run.all("call.answered")}
    assert statuses == {"restart": 200, "unknown-node": 404, "no-token": 401, "only-viewing": 403}
    assert len(run.all("command.queued")) == 1
