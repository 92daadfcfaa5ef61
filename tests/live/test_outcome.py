"""What is odd about a live run's evidence is said in its outcome."""

from pathlib import Path
from typing import Any

import pytest

from clawsim.live.options import LiveResult
from clawsim.run import run_live
from clawsim.verdict import Outcome
from tests.live.plans import plan


def outcome_of(monkeypatch: pytest.MonkeyPatch, directory: Path, **found: Any) -> Outcome:
    nothing: dict[str, Any] = {"delivered": [], "buffered": [], "rows": [], "answers": {}, "without_effect": []}
    times: dict[str, Any] = {"impossible": [], "messages": 0, "end_us": 0, "wall_s": 1.0, "lag_p99_ms": 0}

    async def ended(*_: Any) -> LiveResult:
        return LiveResult(**nothing, **times, **found)

    monkeypatch.setattr("clawsim.live.run.run_live", ended)
    return run_live(plan(), directory / "run", None, None, frozenset({"hub"})).outcome


def test_a_trace_with_lines_that_are_no_events_proves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    outcome = outcome_of(monkeypatch, tmp_path, broken_lines=2)
    assert outcome.verdict == "INVALID"
    assert outcome.as_json()["reasons"] == ["2 lines of the processes' traces are no events: the story has holes"]


def test_strangers_at_a_broker_are_remarked_upon_and_change_no_verdict(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    outcome = outcome_of(monkeypatch, tmp_path, strangers={"hub": 3}, remarks=["something else"])
    assert outcome.verdict == "PASS"
    assert outcome.as_json()["remarks"] == ["something else", "3 connections of strangers to hub were refused"]
