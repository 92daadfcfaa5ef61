"""Failure scenario 3: a sensor node fails."""

from __future__ import annotations

from clawsim.timing import BACKOFF_S, PROMPT_S, TOLD_S
from tests.conformance.runs import Rehearsal

SCENARIO = "node-failure"


def test_the_gateway_counts_the_node_as_down_120_to_180_s_after_its_power_went(run: Rehearsal) -> None:
    dark, down = run.one("fault.effective", of="dark"), run.one("node.down")
    assert (down.who, down["node"]) == ("gateway-01", "sensor-02")
    assert 120 <= down.t_s - dark.t_s <= 180 + PROMPT_S
    assert down["silent_ms"] > 180_000


def test_people_are_told_that_it_is_down_and_that_it_is_back(run: Rehearsal) -> None:
    told = {event["subject"]: event.t_s for event in run.all("notification.sent", node="sensor-02")}
    assert list(told) == ["node sensor-02 is down", "node sensor-02 is back"]
    assert 0 < told["node sensor-02 is down"] - run.one("node.down").t_s <= TOLD_S
    assert 0 < told["node sensor-02 is back"] - run.all("node.up", node="sensor-02")[-1].t_s <= TOLD_S


def test_with_its_power_it_is_up_again_under_the_next_boot_number(run: Rehearsal) -> None:
    first, second = run.all("node.up", "gateway-01", node="sensor-02")
    assert second["boot"] == first["boot"] + 1
    assert 0 < second.t_s - run.one("fault.cleared", of="dark").t_s <= BACKOFF_S
    assert second["down_ms"] > 0


def test_without_power_it_reads_nothing(run: Rehearsal) -> None:
    assert not [e for e in run.during("dark") if e.kind == "reading.produced" and e.who == "sensor-02"]


def test_the_backlog_of_the_earlier_boot_survives_the_power_loss_and_is_delivered_after_it(run: Rehearsal) -> None:
    before, after = run.all("node.started", "sensor-03")
    assert after["boot"] == before["boot"] + 1
    assert after["backlog"] >= 3  # 70 s without radio, one reading in 20 s
    late = [e for e in run.all("reading.stored", node="sensor-03", boot=before["boot"]) if e.t_s > after.t_s]
    assert len(late) >= 3
    assert [event["seq"] for event in late] == sorted(event["seq"] for event in late)


def test_a_short_blink_is_no_failure(run: Rehearsal) -> None:
    assert {event["node"] for event in run.all("node.down")} == {"sensor-02"}
    assert not run.all("alert.raised")


def test_nothing_that_was_read_is_lost(run: Rehearsal) -> None:
    assert run.readings("stored").keys() == run.readings("produced").keys()
