"""How the report tells a story: many at once by name, and each thing once."""

from __future__ import annotations

from typing import Any

import pytest

from clawsim.alike import together
from clawsim.enumeration import listed
from clawsim.expect import FAIL, PASS, Judgement
from clawsim.story import tell
from clawsim.trace import TraceEvent


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["sensor-01"], "sensor-01"),
        (["sensor-01", "sensor-02"], "sensor-01, sensor-02"),
        (["sensor-01", "sensor-02", "sensor-03"], "sensor-01 … sensor-03"),
        (["sensor-09", "sensor-10", "sensor-11"], "sensor-09 … sensor-11"),
        (["sensor-01", "sensor-02", "sensor-04"], "sensor-01, sensor-02, sensor-04"),
        (["a-1", "b-1", "c-1", "d-1", "e-1"], "a-1, b-1, c-1, d-1, e-1"),
        (["a", "b", "c", "d", "e", "f"], "a, b, c, d and 2 more"),
        ([f"hot on sensor-0{n}: raised" for n in (1, 2, 3)], "hot on sensor-01 … sensor-03: raised"),
        (["hot on node-1: raised", "wet on node-2: raised"], "hot on node-1: raised, wet on node-2: raised"),
    ],
)
def test_names_that_count_up_are_one_range_and_a_long_list_is_cut(names: list[str], said: str) -> None:
    assert listed(names) == said


def test_what_is_cut_is_counted_by_name_not_by_range() -> None:
    names = ["a", "b", "c", "d", *(f"sensor-{n:02d}" for n in range(10)), "x", "y"]
    assert listed(names) == "a, b, c, d and 12 more"


def happened(at_s: float, kind: str, who: str, **fields: Any) -> TraceEvent:
    return TraceEvent(int(at_s * 1e6), kind, who, fields)


def story(*events: TraceEvent) -> list[str]:
    return [line.text for line in tell(sorted(events, key=lambda event: event.t_us))]


def hot(at_s: float, node: str, by: str = "cloud", who: str = "fleet") -> TraceEvent:
    return happened(at_s, "alert.raised", who, node=node, rule="hot", by=by, id=f"a-{node}")


def alarm(at_s: float, node: str, by: str = "cloud") -> TraceEvent:
    return happened(at_s, "alarm.local", node, rule="hot", by=by, id=f"a-{node}")


def told(at_s: float, subject: str) -> TraceEvent:
    return happened(at_s, "notification.sent", "fleet", subject=subject, id="m-1")


def test_an_alert_its_alarm_and_its_notice_are_one_line() -> None:
    one_line = ["hot is raised on sensor-01 by the cloud, which sounds its alarm; people are told"]
    assert story(hot(60, "sensor-01"), alarm(60.2, "sensor-01"), told(60.3, "hot on sensor-01: raised")) == one_line
    assert story(hot(60, "sensor-01"), told(60.1, "hot on sensor-01: raised"), alarm(60.4, "sensor-01")) == one_line


def test_an_alarm_that_does_not_sound_everywhere_is_told_apart() -> None:
    assert story(hot(60, "sensor-01"), hot(60, "sensor-02"), alarm(60.2, "sensor-02")) == [
        "hot is raised on sensor-01, sensor-02 by the cloud",
        "sensor-02 sounds its alarm, told by the cloud",
    ]


def test_an_alarm_that_comes_much_later_or_from_somebody_else_is_told_apart() -> None:
    assert len(story(hot(60, "sensor-01"), alarm(75, "sensor-01"))) == 2
    assert len(story(hot(60, "sensor-01"), alarm(60, "sensor-01", by="gateway"))) == 2


def test_a_notice_that_comes_after_an_outage_is_told_when_it_comes() -> None:
    offline = hot(60, "sensor-01", by="gateway", who="gateway-01")
    assert story(offline, told(600, "hot on sensor-01: raised"))[1] == "people are told: hot on sensor-01: raised"


def test_that_an_alarm_is_acknowledged_goes_without_saying_and_that_it_fails_does_not() -> None:
    command = {"id": "c-1", "target": "sensor-01"}
    assert story(happened(1, "command.acknowledged", "fleet", **command, action="alert", status="done")) == []
    assert story(happened(1, "command.failed", "fleet", **command, action="alert", reason="x")) == [
        "alert fails on sensor-01"
    ]
    assert story(happened(1, "command.acknowledged", "fleet", **command, action="restart", status="restarted")) == [
        "sensor-01 answers restart: restarted"
    ]


def test_a_gateway_that_is_back_reaches_uploads_and_catches_up_in_one_line() -> None:
    assert story(
        happened(1, "fault.requested", "world", of="outage", fault="cut", on="x"),
        happened(60, "gateway.online", "gateway-01", offline_ms=1),
        happened(60.1, "gateway.catching-up", "gateway-01", readings=55),
        happened(61, "gateway.caught-up", "gateway-01", readings=55, batches=3),
    ) == ["gateway-01 reaches the cloud, uploads 55 kept readings and has caught up"]


def test_a_call_that_takes_its_time_is_answered_after_what_happened_meanwhile() -> None:
    sent = happened(60, "call.sent", "world", of="restart", method="POST", path="/x")
    other = happened(60, "call.sent", "world", of="other", method="POST", path="/y")
    slow = happened(62, "call.answered", "world", of="restart", status=200)
    assert story(sent, other, slow) == ["restart: POST /x is answered 200", "other: POST /y"]
    assert story(sent, happened(61, "node.started", "sensor-01"), slow) == [
        "restart: POST /x",
        "sensor-01 starts",
        "restart is answered 200",
    ]


def test_expectations_that_were_met_alike_are_one_and_what_failed_stands_alone() -> None:
    def of(node: str, verdict: str = PASS, seen: str = "1× at +4.0 s") -> Judgement:
        return Judgement(f"node.up {node} within 60 s after node.started of {node} once", verdict, seen)

    found = together(
        [of("sensor-01"), of("sensor-02", seen="1× at +11.0 s"), of("sensor-03"), of("sensor-04", FAIL, "none")]
    )
    assert [(each.name, each.seen) for each in found] == [
        (
            "node.up each of sensor-01 … sensor-03 within 60 s after node.started of the same once",
            "1× each, +4.0 s … +11.0 s",
        ),
        ("node.up sensor-04 within 60 s after node.started of sensor-04 once", "none"),
    ]


def test_expectations_that_differ_in_more_than_whom_they_are_about_stay_apart() -> None:
    names = ["readings lost = 0", "readings buffered = 0", "node.up sensor-01 once", "node.down sensor-01 once"]
    judgements = [Judgement(name, PASS, "0") for name in names]
    assert together(judgements) == judgements
