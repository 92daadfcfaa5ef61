"""What is true of every scenario of ours in either world: it passes, and its ledger is the truth."""

from __future__ import annotations

import sqlite3

import pytest

from tests.conformance.conftest import SCENARIOS
from tests.conformance.runs import Rehearsal, Runs, Spec

pytestmark = pytest.mark.parametrize("scenario", SCENARIOS)


@pytest.fixture
def run(runs: Runs, scenario: str, world: str) -> Rehearsal:
    return runs.get(Spec(scenario, world))


def test_it_passes_with_exit_code_0(run: Rehearsal) -> None:
    assert (run.summary["verdict"], run.exit_code, run.summary["reasons"]) == ("PASS", 0, []), run.output


def test_every_expectation_is_judged_with_what_was_seen(run: Rehearsal) -> None:
    assert run.summary["expectations"]
    for expectation in run.summary["expectations"]:
        assert expectation["verdict"] == "PASS", expectation
        assert expectation["name"] and expectation["seen"]


def test_the_ledger_adds_up(run: Rehearsal) -> None:
    readings = run.summary["readings"]
    ended = readings["delivered"] + sum(readings["lost"].values()) + sum(readings["buffered"].values())
    assert readings["produced"] == ended > 0
    assert readings["unaccounted"] == readings["phantom"] == readings["duplicated"] == readings["conflict"] == 0


def test_produced_is_what_the_nodes_say(run: Rehearsal) -> None:
    produced = run.readings("produced")
    assert run.summary["readings"]["produced"] == len(produced)
    assert {node for node, _, _ in produced} == {e.who for e in run.all("node.started")}


def test_delivered_is_what_the_fleet_manager_stored_and_nothing_else(run: Rehearsal) -> None:
    stored = run.readings("stored")
    assert run.summary["readings"]["delivered"] == len(stored)
    assert stored.keys() <= run.readings("produced").keys()
    assert all(len(said) == 1 for said in stored.values())


def test_nothing_is_stored_before_it_was_produced(run: Rehearsal) -> None:
    produced = run.readings("produced")
    for identity, said in run.readings("stored").items():
        assert said[0].t_s >= produced[identity][0].t_s


def test_the_events_are_in_order_of_time(run: Rehearsal) -> None:
    times = [event.t_s for event in run.events]
    assert times == sorted(times)


def test_only_a_wholly_virtual_run_has_a_digest(run: Rehearsal, world: str) -> None:
    assert run.summary["world"] == ("virtual" if world == "virtual" else "live")
    assert (run.summary["events_sha256"] is None) == (world != "virtual")


def test_a_live_run_kept_up_with_its_clock(run: Rehearsal, world: str) -> None:
    lag_ms = run.summary["lag_p99_ms"]
    assert lag_ms is None if world == "virtual" else 0 <= lag_ms <= 5_000


@pytest.mark.live
@pytest.mark.parametrize("world", ["live"])
def test_the_database_on_disk_holds_exactly_the_delivered_readings(run: Rehearsal) -> None:
    [path] = (run.directory / "run" / "data" / "fleet").glob("*.sqlite")
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        rows = database.execute("SELECT node, boot, seq FROM readings").fetchall()
    assert len(rows) == len(set(rows)) == run.summary["readings"]["delivered"]
    assert set(rows) == run.readings("stored").keys()
