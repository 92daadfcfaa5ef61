"""What a metered uplink is spared: summaries, and readings that say nothing new."""

from typing import Any

import pytest

from tests.nanoclaw_core.rig import BOOT, EPOCH_MS, HOT, Station


def metered(mode: str, **config: Any) -> Station:
    return Station(modes={"temp": mode}, **config).online()


def summaries(station: Station) -> list[dict[str, Any]]:
    return [stat for told in station.to_cloud("status") if told["status"] == "summary" for stat in told["stats"]]


def ends(station: Station, fate: str) -> list[int]:
    return [o.fields["seq"] for o in station.outputs if getattr(o, "kind", "") == f"reading.{fate}"]


def test_of_a_summarised_metric_each_window_goes_up_as_count_min_mean_and_max() -> None:
    station = metered("summary")
    for seq, value in enumerate((20.0, 23.0, 21.5)):
        station.reading(value, seq)
        station.later(10_000)
    station.at(61_000)
    assert summaries(station) == [
        {"sensor": "sensor-01", "metric": "temp", "count": 3, "min": 20.0, "mean": 21.5, "max": 23.0}
        | {"from_utc_ms": EPOCH_MS, "to_utc_ms": EPOCH_MS + 20_000}
    ]
    assert not station.batches
    assert ends(station, "summarised") == [0, 1, 2]
    assert station.acknowledged() == {("sensor-01", BOOT, seq) for seq in range(3)}


def test_windows_are_those_of_the_time_of_reading() -> None:
    station = metered("summary").at(125_000)
    station.reading(10.0, 0, age_ms=70_000)
    station.reading(20.0, 1, age_ms=1_000)
    station.at(181_000)
    assert [(stat["mean"], stat["from_utc_ms"] - EPOCH_MS) for stat in summaries(station)] == [
        (10.0, 55_000),
        (20.0, 124_000),
    ]


def test_what_has_no_date_yet_waits_for_it_and_is_summarised_by_its_own_windows() -> None:
    station = metered("summary")
    station.lose_uplink()
    station.power_on(utc=False)
    for seq, value in enumerate((20.0, 21.0)):
        station.reading(value, seq)
        station.later(61_000)
    assert summaries(station) == [] and "reading.summarised" not in station.kinds()
    station.power_on(utc=False).core.learn_utc(EPOCH_MS + station.now_ms, station.now_ms)
    station.reading(22.0, 2)
    station.regain_uplink()
    station.later(66_000)
    assert sum(stat["count"] for stat in summaries(station)) == 3
    assert all(stat["from_utc_ms"] for stat in summaries(station))


def test_a_summary_and_the_removal_of_its_readings_are_one_transaction() -> None:
    station = metered("summary")
    station.reading(20.0, 0)
    station.lose_uplink()
    station.later(61_000)
    assert station.on_disk() == []
    assert [kind for kind, _ in station.disk.items.values() if kind != "report"] == []
    assert [told["status"] for told in station.reports_on_disk()] == ["summary"]


@pytest.mark.parametrize("restart_at_ms", [6_000, 62_000])
def test_a_copy_after_a_restart_is_not_counted_again(restart_at_ms: int) -> None:
    station = metered("summary")
    station.reading(20.0, 0)
    station.at(restart_at_ms).power_on().regain_uplink()
    station.reading(20.0, 0, age_ms=restart_at_ms)
    station.later(130_000)
    counts = {(told["item"], stat["count"]) for told in station.reports.values() for stat in told.get("stats", ())}
    assert sum(count for _, count in counts) == 1
    assert ("sensor-01", BOOT, 0) in station.acknowledged()


def test_what_is_no_number_and_what_is_an_event_goes_up_as_it_is() -> None:
    station = metered("summary")
    station.reading("open", 0)
    station.reading(True, 1)
    station.at(61_000)
    assert not summaries(station)
    assert {identity[2] for identity in station.cloud_has} == {0, 1}


def test_a_disk_that_refuses_delays_a_summary_and_loses_none() -> None:
    station = metered("summary")
    station.reading(20.0, 0)
    station.at(6_000)
    station.refuse_stores = True
    station.at(66_000)
    station.refuse_stores = False
    station.later(70_000)
    assert sum(stat["count"] for stat in summaries(station)) == 1
    assert not station.disk.items


def test_rules_about_a_summarised_metric_are_decided_here_also_online() -> None:
    station = metered("summary").configured(rules=(HOT,))
    station.heartbeat()
    station.reading(35.0, 0)
    station.later(6_000)
    assert [told["status"] for told in station.to_cloud("status")] == ["up", "alert-raised"]
    assert [said["state"] for said in station.to_node("cmd")] == ["on"]


def test_of_a_metric_that_is_told_on_change_what_is_unchanged_stays_here() -> None:
    station = metered("on_change")
    for seq, value in enumerate((20.0, 20.0, 21.0, 21.0, 20.0)):
        station.reading(value, seq)
        station.later(6_000)
    station.at(61_000)
    assert {identity[2] for identity in station.cloud_has} == {0, 2, 4}
    assert ends(station, "suppressed") == [1, 3]
    assert station.acknowledged() == {("sensor-01", BOOT, seq) for seq in range(5)}


def test_a_value_that_never_changes_goes_up_every_quarter_of_an_hour() -> None:
    station = metered("on_change")
    for seq in range(32):
        station.reading(20.0, seq)
        station.later(60_000)
    assert {identity[2] for identity in station.cloud_has} == {0, 15, 30}


def test_true_is_not_one_and_a_late_reading_is_told_as_it_is() -> None:
    station = metered("on_change").at(30_000)
    station.reading(1.0, 0)
    station.reading(True, 1)
    station.reading(True, 2, age_ms=20_000)
    station.at(61_000)
    assert {identity[2] for identity in station.cloud_has} == {0, 1, 2}


def test_a_suppressed_reading_is_still_seen_by_the_rules() -> None:
    station = metered("on_change")
    station.heartbeat()
    station.reading(35.0, 0)
    station.later(61_000)
    station.lose_uplink()
    station.reading(35.0, 1)
    assert [told["state"] for told in station.to_node("cmd")] == ["on"]
