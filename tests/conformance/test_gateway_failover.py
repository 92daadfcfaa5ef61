"""Failure scenario 2: the regional gateway fails."""

from __future__ import annotations

from clawsim.timing import BACKOFF_S, LOOK_S, PROMPT_S
from tests.conformance.runs import Rehearsal

SCENARIO = "gateway-failover"
NODES = [f"sensor-{number:02d}" for number in range(1, 5)]


def test_a_node_scans_only_after_more_than_90_s_of_silence(run: Rehearsal) -> None:
    scans = run.all("failover.scan", gateway="gateway-01")
    assert sorted({event.who for event in scans}) == NODES
    assert all(event["silent_ms"] > 90_000 for event in scans)


def test_the_first_scan_comes_at_most_90_s_after_the_gateway_died(run: Rehearsal) -> None:
    died_s = run.one("fault.effective", of="gateway-dies").t_s
    for node in NODES:
        assert 0 < run.all("failover.scan", node)[0].t_s - died_s <= 90 + PROMPT_S


def test_every_node_joins_the_fallback_once(run: Rehearsal) -> None:
    for node in NODES:
        joined = run.one("failover.joined", node)
        assert (joined["gateway"], joined["attach"]) == ("gateway-02", 2)
        assert 0 < joined.t_s - run.all("failover.scan", node)[-1].t_s <= LOOK_S
        assert run.one("node.up", "gateway-02", node=node)


def test_nobody_fails_over_while_the_gateway_lives(run: Rehearsal) -> None:
    died_s = run.one("fault.effective", of="gateway-dies").t_s
    assert not [e for e in run.events if e.kind.startswith("failover.") and e.t_s < died_s]


def test_readings_go_on_through_the_fallback(run: Rehearsal) -> None:
    stored = run.readings("stored")
    for node in NODES:
        joined_s = run.one("failover.joined", node).t_s
        later = [event for event in run.all("reading.produced", node) if event.t_s > joined_s]
        assert len(later) >= 8
        assert all((node, event["boot"], event["seq"]) in stored for event in later)


def test_what_no_gateway_had_acknowledged_comes_through_the_fallback_while_the_primary_is_dead(run: Rehearsal) -> None:
    died_s = run.one("fault.effective", of="gateway-dies").t_s
    back_s = run.one("fault.cleared", of="gateway-dies").t_s
    stored = run.readings("stored")
    for node in NODES:
        joined_s = run.one("failover.joined", node).t_s
        between = [event for event in run.all("reading.produced", node) if died_s < event.t_s < joined_s]
        assert between
        assert all(stored[node, event["boot"], event["seq"]][0].t_s < back_s for event in between)


def test_what_the_dead_gateway_had_acknowledged_comes_from_its_disk_when_it_returns(run: Rehearsal) -> None:
    back_s = run.one("fault.cleared", of="gateway-dies").t_s
    kept = run.all("gateway.started", "gateway-01")[-1]["outbox"]
    assert kept > 0
    late = [event for event in run.all("reading.stored") if event.t_s > back_s and _made_s(run, event) < 300]
    assert len(late) == kept
    assert run.one("gateway.caught-up", "gateway-01")["readings"] == kept


def _made_s(run: Rehearsal, stored: object) -> float:
    event = stored  # type: ignore[assignment]
    return run.readings("produced")[event["node"], event["boot"], event["seq"]][0].t_s  # type: ignore[index]


def test_nothing_is_lost_or_stored_twice(run: Rehearsal) -> None:
    assert run.readings("stored").keys() == run.readings("produced").keys()
    assert not run.all("reading.lost")


def test_the_cloud_misses_the_gateway_and_counts_no_node_as_down(run: Rehearsal) -> None:
    down = run.one("gateway.down", "fleet")
    assert down["gateway"] == "gateway-01"
    assert 150 <= down.t_s - run.one("fault.effective", of="gateway-dies").t_s <= 180 + PROMPT_S
    assert not run.all("node.down")
    assert not run.all("node.unknown")  # all had moved by then


def test_the_old_gateway_is_told_to_let_its_nodes_go_and_says_so(run: Rehearsal) -> None:
    queued = run.all("command.queued", target="gateway-01", action="release")
    done = run.all("command.acknowledged", target="gateway-01", action="release", status="done")
    assert sorted(event["id"] for event in queued) == sorted(event["id"] for event in done)
    assert len(queued) == len(NODES)


def test_when_the_primary_returns_the_nodes_stay_where_they_are(run: Rehearsal) -> None:
    back_s = run.one("fault.cleared", of="gateway-dies").t_s
    assert run.one("gateway.up", "fleet", gateway="gateway-01").t_s - back_s <= BACKOFF_S
    assert not [e for e in run.events if e.t_s > back_s and e.kind in ("node.up", "failover.scan", "failover.joined")]
