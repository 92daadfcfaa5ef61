"""The API gives one answer in both worlds, whatever it is asked."""

from __future__ import annotations

import pytest

from clawsim.timing import PROMPT_S
from tests.conformance.runs import Rehearsal

SCENARIO = "calls"

STATUSES = {
    "alert": 200,
    "other-form": 400,
    "unknown-member": 400,
    "any-action": 200,
    "no-action": 400,
    "action-unknown-to-the-node": 502,
    "no-action-name": 400,
    "too-long": 400,
    "slash": 307,
    "nobody": 404,
    "nobody-asks": 401,
    "viewer": 403,
    "nodes": 200,
    "second-page": 200,
    "wrong-page": 400,
    "no-node": 404,
    "readings": 200,
    "bad-cursor": 400,
    "health": 200,
    "ready": 200,
    "nowhere": 404,
    "method": 405,
    "config": 200,
    "config-that-cannot-be": 502,
    "identify": 200,
    "while-frozen": 200,
    "while-dead": None,
    "waits": 202,
    "expires": 504,
}


@pytest.mark.parametrize("name", STATUSES)
def test_a_call_is_answered_with_its_status(run: Rehearsal, name: str) -> None:
    assert run.one("call.answered", of=name)["status"] == STATUSES[name]


def test_a_manager_that_stands_still_answers_when_it_goes_on(run: Rehearsal) -> None:
    answered, cleared = run.one("call.answered", of="while-frozen"), run.one("fault.cleared", of="frozen")
    assert cleared.t_s - 0.5 <= answered.t_s <= cleared.t_s + PROMPT_S


def test_who_waits_for_a_node_that_is_silent_waits_as_long_as_he_said(run: Rehearsal) -> None:
    assert 5 <= run.one("call.answered", of="waits")["latency_ms"] / 1000 <= 5 + PROMPT_S
    assert 10 <= run.one("call.answered", of="expires")["latency_ms"] / 1000 <= 10 + PROMPT_S


def test_a_refused_call_leaves_no_command(run: Rehearsal) -> None:
    actions = [(event["action"], event["target"]) for event in run.all("command.queued")]
    assert actions == [
        ("alert", "sensor-01"),
        ("alert", "sensor-01"),
        ("dance", "sensor-01"),
        ("config", "sensor-01"),
        ("config", "sensor-01"),
        ("identify", "sensor-01"),
        ("restart", "sensor-02"),
        ("alert", "sensor-02"),
    ]
