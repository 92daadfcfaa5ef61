"""A day of a real office room through the whole stack, against the same day computed straight from the file."""

import csv
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from clawsim.scenario import Plan
from tests.virtual.scenes import ROOT, Seen, fault, run, scene

RECORDING = ROOT.parent / "shared" / "data" / "office-room.csv"
MOST_SKEW_MS = 60
"""A gateway reckons a reading's time from its arrival: late by what the way from the node takes."""

pytestmark = pytest.mark.skipif(
    not RECORDING.parent.parent.exists(),
    reason=f"the recording is not on this machine: {RECORDING.parent.parent} is absent",
)
Row = tuple[int, float]


def day_of(date: str) -> list[Row]:
    """(UTC in milliseconds, ppm) of one day, read with nothing of ours."""
    begin = datetime.fromisoformat(f"{date}T00:00:00+00:00")
    with Path(RECORDING).open(encoding="utf-8", newline="") as file:
        rows = [(datetime.fromisoformat(row["time"]), float(row["co2_ppm"])) for row in csv.DictReader(file)]
    return [(int(at.timestamp() * 1000), ppm) for at, ppm in rows if begin <= at < begin + timedelta(days=1)]


def episodes_of(rows: list[Row], above: float, below: float | None) -> list[tuple[int, int | None]]:
    """When it rose above one limit and fell below the other, or no longer was above the first."""
    found: list[tuple[int, int | None]] = []
    raised_ms: int | None = None
    for at_ms, ppm in rows:
        if raised_ms is None:
            raised_ms = at_ms if ppm > above else None
        elif ppm < below if below is not None else not ppm > above:
            found.append((raised_ms, at_ms))
            raised_ms = None
    return found if raised_ms is None else [*found, (raised_ms, None)]


def plan_of(date: str, clear: str | None, timeline: list[dict[str, Any]]) -> Plan:
    sensor = {
        "metric": "co2",
        "signal": {"csv": str(RECORDING), "column": "co2_ppm", "time": "time", "start": f"{date}T00:00:00Z"},
    }
    rule = {"name": "stuffy", "when": "co2 > 1000", "action": "alert"} | ({"clear": clear} if clear else {})
    nodes = [{"id": "office", "gateway": "gateway-01", "sensors": [sensor]}]
    return scene(
        epoch=f"{date}T00:00:00Z", duration="24 h", settle="15 min", nodes=nodes, rules=[rule], timeline=timeline
    )


def near(found_ms: int | None, wanted_ms: int | None) -> bool:
    if found_ms is None or wanted_ms is None:
        return found_ms == wanted_ms
    return 0 <= found_ms - wanted_ms <= MOST_SKEW_MS


def assert_same_values(seen: Seen, wanted: list[Row]) -> None:
    assert seen.world is not None
    stored = sorted((row.utc_ms, row.value, row.metric, row.unit) for row in seen.world.fleet.database.rows())
    assert len(stored) == len(wanted) > 1400
    for (utc_ms, value, metric, unit), (wanted_ms, ppm) in zip(stored, wanted, strict=True):
        assert near(utc_ms, wanted_ms) and value == ppm and (metric, unit) == ("co2", "ppm")


def assert_same_episodes(seen: Seen, wanted: list[tuple[int, int | None]]) -> None:
    assert seen.world is not None
    rows = seen.world.fleet.database.tables.get("alerts", {}).values()
    found = sorted((row["raised_utc_ms"], row["cleared_utc_ms"]) for row in rows)
    assert len(found) == len(wanted)
    for (raised_ms, cleared_ms), (wanted_raised_ms, wanted_cleared_ms) in zip(found, wanted, strict=True):
        assert near(raised_ms, wanted_raised_ms) and near(cleared_ms, wanted_cleared_ms)
    for kind, count in (("alert.raised", len(wanted)), ("alert.cleared", sum(end is not None for _, end in wanted))):
        said = [event.fields["id"] for event in seen.of(kind)]
        assert len(said) == len(set(said)) == count, kind


@pytest.mark.parametrize("clear", [None, "co2 < 900"])
@pytest.mark.parametrize("date", ["2015-02-05", "2015-02-09"])
def test_a_real_day_arrives_as_it_was_and_raises_what_the_file_says(date: str, clear: str | None) -> None:
    day = day_of(date)
    seen = run(plan_of(date, clear, []))
    assert seen.outcome.verdict == "PASS", seen.outcome.reasons
    assert_same_values(seen, day)
    wanted = episodes_of(day, 1000, 900 if clear else None)
    assert len(wanted) >= 1
    assert_same_episodes(seen, wanted)


@pytest.mark.parametrize("clear", [None, "co2 < 900"])
@pytest.mark.parametrize(("date", "at"), [("2015-02-05", "9 h"), ("2015-02-09", "1110 min")])
def test_the_same_day_with_hours_without_the_cloud_is_the_same_day(date: str, at: str, clear: str | None) -> None:
    """The gateway decides alone in between; together the two decide what one of them would have."""
    day = day_of(date)
    seen = run(plan_of(date, clear, [fault("cut", "gateway-01 <-> cloud", at=at, for_="3 h")]))
    assert seen.outcome.verdict == "PASS", seen.outcome.reasons
    assert_same_values(seen, day)
    assert {event.fields["by"] for event in seen.of("alert.raised", "alert.cleared")} >= {"gateway"}
    assert_same_episodes(seen, episodes_of(day, 1000, 900 if clear else None))


def test_the_independent_computation_is_right_about_a_small_case() -> None:
    rows = [(0, 990.0), (1, 1000.0), (2, 1000.1), (3, 950.0), (4, 1001.0), (5, 899.9), (6, 2000.0)]
    assert episodes_of(rows, 1000, None) == [(2, 3), (4, 5), (6, None)]
    assert episodes_of(rows, 1000, 900) == [(2, 5), (6, None)]
