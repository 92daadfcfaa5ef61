"""`clawsim compare`: the same story is recognised, and every planted difference is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clawsim.compare import compare
from clawsim.scenario.vocabulary import KINDS
from clawsim.tale import read
from clawsim.timing import TIMINGS, is_milestone
from tests.cli.command import SCENARIOS, assert_refused, clawsim

Event = dict[str, Any]
Change = Callable[[list[Event]], list[Event]]


@pytest.fixture(scope="module")
def outage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _run("cloud-outage", tmp_path_factory)


@pytest.fixture(scope="module")
def failover(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _run("gateway-failover", tmp_path_factory)


def _run(name: str, factory: pytest.TempPathFactory) -> Path:
    out = factory.mktemp(name)
    assert clawsim("run", SCENARIOS / f"{name}.yaml", "--out", out).returncode == 0
    return out


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[Path, Change], Path]:
    """A copy of a run's directory with its events changed, and put in order of time again."""

    def made(original: Path, change: Change) -> Path:
        events = [json.loads(line) for line in (original / "events.jsonl").read_text().splitlines()]
        events = sorted(change(events), key=lambda event: event["t_us"])
        (tmp_path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
        summary = json.loads((original / "summary.json").read_text())
        summary["events_sha256"] = None  # as of a live run, which vouches for no bytes
        (tmp_path / "summary.json").write_text(json.dumps(summary))
        return tmp_path

    return made


def _differences(a: Path, b: Path) -> list[tuple[str, str]]:
    return [(each.what, each.why) for each in compare(read(a), read(b)).differences]


def _without(kind: str, **fields: Any) -> Change:
    def change(events: list[Event]) -> list[Event]:
        dropped = next(e for e in events if e["kind"] == kind and fields.items() <= e.items())
        return [event for event in events if event is not dropped]

    return change


def _later(seconds: float, *kinds: str, **fields: Any) -> Change:
    def change(events: list[Event]) -> list[Event]:
        for event in events:
            if event["kind"] in kinds and fields.items() <= event.items():
                event["t_us"] += int(seconds * 1e6)
        return events

    return change


def _twice(kind: str, after_s: float) -> Change:
    def change(events: list[Event]) -> list[Event]:
        event = next(each for each in events if each["kind"] == kind)
        return [*events, event | {"t_us": event["t_us"] + int(after_s * 1e6)}]

    return change


# --- the same ---------------------------------------------------------------------------------------------------------


def test_a_run_tells_the_same_story_as_itself(outage: Path) -> None:
    done = clawsim("compare", outage, outage)
    assert (done.returncode, done.stderr) == (0, "")
    assert "THE SAME STORY" in done.stdout


def test_other_names_boots_and_measurements_are_no_difference(
    outage: Path, changed: Callable[[Path, Change], Path]
) -> None:
    def rename(events: list[Event]) -> list[Event]:
        for event in events:
            for name in ("boot", "silent_ms", "down_ms", "version"):
                if name in event:
                    event[name] += 1000
            if "id" in event:
                event["id"] = f"x-{event['id']}"
        return events

    assert _differences(outage, changed(outage, rename)) == []


def test_a_phase_shift_of_a_heartbeat_is_no_difference_and_neither_is_all_that_follows_from_it(
    outage: Path, changed: Callable[[Path, Change], Path]
) -> None:
    def shifted(events: list[Event]) -> list[Event]:
        events = _later(30, "gateway.offline", "gateway.down", "node.unknown")(events)
        return _later(30, "notification.sent", subject="gateway gateway-01 is down")(events)

    assert _differences(outage, changed(outage, shifted)) == []


def test_concurrent_things_of_one_speaker_may_change_places(
    failover: Path, changed: Callable[[Path, Change], Path]
) -> None:
    assert _differences(failover, changed(failover, _later(2, "node.up", node="sensor-02"))) == []


# --- different --------------------------------------------------------------------------------------------------------


def test_a_dropped_alarm_is_found(outage: Path, changed: Callable[[Path, Change], Path]) -> None:
    found = _differences(outage, changed(outage, _without("alarm.local", who="sensor-03")))
    assert found == [("alarm.local by=gateway rule=hot", "only in A")]


def test_an_alarm_by_the_wrong_tier_is_found(outage: Path, changed: Callable[[Path, Change], Path]) -> None:
    def by_cloud(events: list[Event]) -> list[Event]:
        next(event for event in events if event["kind"] == "alarm.local")["by"] = "cloud"
        return events

    found = _differences(outage, changed(outage, by_cloud))
    assert sorted(found) == [
        ("alarm.local by=cloud rule=hot", "only in B"),
        ("alarm.local by=gateway rule=hot", "only in A"),
    ]


@pytest.mark.parametrize("late_s", [40, 60, 300])
def test_a_late_failover_is_found(failover: Path, changed: Callable[[Path, Change], Path], late_s: float) -> None:
    late = _later(late_s, "failover.scan", "failover.joined", who="sensor-01")
    found = _differences(failover, changed(failover, late))
    assert ("failover.scan gateway=gateway-01", f"{late_s:.1f} s apart, over 35 s") in found


def test_a_node_that_scans_in_time_and_joins_late_is_found(
    failover: Path, changed: Callable[[Path, Change], Path]
) -> None:
    found = _differences(failover, changed(failover, _later(40, "failover.joined", who="sensor-01")))
    assert any(what.startswith("failover.joined") and "counted from failover.scan" in why for what, why in found)


def test_a_node_that_joins_another_gateway_is_found(failover: Path, changed: Callable[[Path, Change], Path]) -> None:
    def elsewhere(events: list[Event]) -> list[Event]:
        next(event for event in events if event["kind"] == "failover.joined")["gateway"] = "gateway-03"
        return events

    assert len(_differences(failover, changed(failover, elsewhere))) == 2


@pytest.mark.parametrize("after_s", [0, 1, 100])
def test_an_extra_alert_is_found(outage: Path, changed: Callable[[Path, Change], Path], after_s: float) -> None:
    found = _differences(outage, changed(outage, _twice("alert.raised", after_s)))
    assert ("alert.raised node=sensor-04 rule=hot by=gateway", "only in B") in found


def test_an_extra_notification_is_found(outage: Path, changed: Callable[[Path, Change], Path]) -> None:
    found = _differences(outage, changed(outage, _twice("notification.sent", 1)))
    assert found == [("notification.sent subject=gateway gateway-01 is down", "only in B")]


def test_a_notification_that_comes_late_after_its_reason_is_found(
    outage: Path, changed: Callable[[Path, Change], Path]
) -> None:
    late = _later(20, "notification.sent", subject="gateway gateway-01 is down")
    assert [why for _, why in _differences(outage, changed(outage, late))] == [
        "20.0 s apart, over 10 s, counted from gateway.down"
    ]


def test_a_gateway_that_never_catches_up_is_found(outage: Path, changed: Callable[[Path, Change], Path]) -> None:
    assert ("gateway.caught-up", "only in A") in _differences(outage, changed(outage, _without("gateway.caught-up")))


def test_the_steps_of_one_command_in_the_wrong_order_are_found(
    outage: Path, changed: Callable[[Path, Change], Path]
) -> None:
    def backwards(events: list[Event]) -> list[Event]:
        sent = next(event for event in events if event["kind"] == "command.sent")
        done = next(event for event in events if event["kind"] == "command.acknowledged" and event["id"] == sent["id"])
        sent["t_us"], done["t_us"] = done["t_us"], sent["t_us"]
        return events

    found = _differences(outage, changed(outage, backwards))
    assert any("the other way round" in why for _, why in found)


def test_an_episode_that_ends_before_it_began_is_found(outage: Path, changed: Callable[[Path, Change], Path]) -> None:
    early = _later(-500, "alert.cleared", node="sensor-04")
    assert any(what.startswith("alert.cleared") for what, _ in _differences(outage, changed(outage, early)))


def _lose(cause: str, seq: int) -> Change:
    def change(events: list[Event]) -> list[Event]:
        stored = next(e for e in events if e["kind"] == "reading.stored" and e["seq"] == seq)
        lost = {"kind": "reading.lost", "who": stored["node"], "boot": stored["boot"], "seq": seq, "cause": cause}
        return [event for event in events if event is not stored] + [{"t_us": stored["t_us"], **lost}]

    return change


def test_a_lost_reading_is_found(outage: Path, changed: Callable[[Path, Change], Path]) -> None:
    found = _differences(outage, changed(outage, _lose("backlog full", 12)))
    assert [why for _, why in found] == ["only in B"]
    assert "seq 12: backlog full" in found[0][0]


def test_the_same_reading_lost_by_another_cause_is_found(
    outage: Path, changed: Callable[[Path, Change], Path], tmp_path: Path
) -> None:
    one = changed(outage, _lose("backlog full", 12))
    events = (one / "events.jsonl").read_text()
    other = tmp_path / "other"
    other.mkdir()
    (other / "events.jsonl").write_text(events.replace("backlog full", "outbox full"))
    (other / "summary.json").write_text((one / "summary.json").read_text())
    assert sorted(why for _, why in _differences(one, other)) == ["only in A", "only in B"]


def test_a_ledger_that_ends_otherwise_is_found(outage: Path, changed: Callable[[Path, Change], Path]) -> None:
    copy = changed(outage, lambda events: events)
    summary = json.loads((copy / "summary.json").read_text())
    summary["readings"]["buffered"] = {"gateway-01": 55}
    (copy / "summary.json").write_text(json.dumps(summary))
    assert _differences(outage, copy) == [("readings buffered", "none in A, 55 gateway-01 in B")]


def test_two_stories_of_different_scenarios_are_different_and_it_shows_when_and_who(
    outage: Path, failover: Path
) -> None:
    done = clawsim("compare", outage, failover)
    assert done.returncode == 1
    assert "DIFFERENT" in done.stdout
    assert "the scenario is not the same: cloud-outage and gateway-failover" in done.stdout
    assert any("fault.effective of=outage" in line and "05:00.0" in line for line in done.stdout.splitlines())


# --- bad input --------------------------------------------------------------------------------------------------------


def _broken(events: str | None = None, summary: str | None = None) -> dict[str, str]:
    good = {"events.jsonl": '{"t_us":0,"kind":"hub.started","who":"hub"}\n', "summary.json": '{"readings":{}}'}
    return good | {"events.jsonl": events or good["events.jsonl"], "summary.json": summary or good["summary.json"]}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, r"summary\.json: No such file or directory"),
        ({"summary.json": '{"readings":{}}'}, r"events\.jsonl: No such file or directory"),
        (_broken(summary="{"), r"summary\.json: not JSON"),
        (_broken(summary="[]"), r"summary\.json: not the summary of a run"),
        (_broken(events='{"t_us":0,"kind":"x","who":"y"}\n{"t_us":\n'), r"events\.jsonl:2: not an event"),
        (_broken(events="[]\n"), r"events\.jsonl:1: not an event"),
        (_broken(events='{"t_us":"soon","kind":"x","who":"y"}\n'), r"events\.jsonl:1: not an event"),
        (_broken(events="\n"), r"events\.jsonl:1: not an event"),
        (_broken(events='{"t_us":0,"kind":"reading.lost","who":"y","boot":"b","seq":[]}\n'), r"events\.jsonl"),
    ],
)
def test_a_directory_that_holds_no_run_is_refused(
    tmp_path: Path, outage: Path, files: dict[str, str], said: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert_refused(clawsim("compare", outage, tmp_path), 2, said)


def test_a_path_that_is_no_directory_is_refused(outage: Path, tmp_path: Path) -> None:
    assert_refused(clawsim("compare", outage, tmp_path / "none"), 2, "none")
    assert_refused(clawsim("compare", outage / "events.jsonl", outage), 2, "events.jsonl")


def _kinds() -> list[str]:
    return [kind for kind in KINDS if is_milestone(kind)]


def test_every_kind_of_milestone_has_its_tolerance_and_every_cause_is_a_kind() -> None:
    assert set(TIMINGS) == set(_kinds())
    assert all(cause in TIMINGS for timing in TIMINGS.values() for cause in timing.after)


@pytest.mark.parametrize("kind", _kinds())
def test_what_identifies_a_milestone_are_fields_of_its_kind(kind: str) -> None:
    assert set(TIMINGS[kind].says) <= set(KINDS[kind].fields) | {"attach"}


def test_a_summary_beside_the_events_of_another_run_is_no_run(outage: Path, failover: Path, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes((failover / "events.jsonl").read_bytes())
    (tmp_path / "summary.json").write_bytes((outage / "summary.json").read_bytes())
    assert_refused(clawsim("compare", outage, tmp_path), 2, r"events\.jsonl: not the events of .*summary\.json")
