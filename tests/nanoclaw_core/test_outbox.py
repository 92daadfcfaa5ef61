"""The outbox is bounded, knows when its readings were taken, and gives the backlog up compressed."""

import tracemalloc
from typing import Any

import orjson
import pytest

from fleet.wire import uplink
from tests.nanoclaw_core.rig import BOOT, EPOCH_MS, GATEWAY, HOT, Send, Station

DAY_MS = 86_400_000


def lost(station: Station) -> list[tuple[int, str]]:
    return [(event["seq"], event["cause"]) for event in station.events("reading.lost")]


def bodies(station: Station) -> list[dict[str, Any]]:
    return [orjson.loads(body) for _, (kind, body) in sorted(station.disk.items.items()) if kind == "reading"]


def offline(**config: Any) -> Station:
    station = Station(**config).online()
    station.lose_uplink()
    return station


# --- bounds ---------------------------------------------------------------------------------------------------------


def test_an_outbox_that_is_full_in_bytes_drops_its_oldest_and_names_it() -> None:
    station = offline()
    station.reading(20.0, 0)
    station.later(6_000)
    size = station.core.outbox.bytes
    station = offline(outbox_max_bytes=3 * size + size // 2)
    for seq in range(5):
        station.reading(20.0, seq)
        station.later(6_000)
    assert lost(station) == [(0, "outbox-full"), (1, "outbox-full")]
    assert [seq for _, _, seq in station.on_disk()] == [2, 3, 4]
    assert station.core.outbox.bytes == sum(len(body) for kind, body in station.disk.items.values())


def test_what_is_too_old_goes_and_is_said_to() -> None:
    station = offline(outbox_max_age_ms=DAY_MS)
    station.reading(20.0, 0)
    station.later(DAY_MS // 2)
    station.reading(20.0, 1)
    station.later(DAY_MS // 2 + 60_000)
    station.reading(20.0, 2)
    station.later(6_000)
    assert lost(station) == [(0, "outbox-old")]
    assert [seq for _, _, seq in station.on_disk()] == [1, 2]


def test_what_had_to_go_is_counted_and_the_cloud_is_told_also_after_a_restart() -> None:
    station = offline(outbox_max_readings=1)
    for seq in range(3):
        station.reading(20.0, seq)
        station.later(6_000)
    station.power_on()
    station.forget()
    station.regain_uplink()
    assert station.to_cloud("heartbeat")[0]["outbox_dropped"] == 2


def test_the_bytes_that_are_kept_are_those_on_disk_through_everything() -> None:
    station = offline(outbox_max_readings=40)
    for seq in range(50):
        station.reading(20.0 + seq, seq)
        station.later(3_000)
    station.regain_uplink()
    for seq in range(50, 60):
        station.reading(20.0, seq)
        station.later(20_000)
        kept = sum(len(body) for kind, body in station.disk.items.values() if kind == "reading")
        assert station.core.outbox.bytes == kept
    station.later(120_000)
    assert station.core.outbox.bytes == 0


# --- dates ----------------------------------------------------------------------------------------------------------


def without_utc() -> Station:
    """Booted without UTC in an outage, with a reading of 20 s after the boot, which is on disk."""
    station = Station().online()
    station.lose_uplink()
    station.power_on(utc=False)
    station.later(20_000)
    station.reading(20.0, 0, age_ms=1_000)
    station.later(6_000)
    return station


def learn(station: Station, utc_ms: int) -> None:
    station.core.learn_utc(utc_ms, station.now_ms)
    station.pump()


def test_readings_of_before_utc_was_known_are_dated_on_disk_when_it_is_learned_and_marked() -> None:
    station = without_utc()
    assert "utc_ms" not in bodies(station)[0]
    read_ms = station.given[0][1] - 1_000
    learn(station, EPOCH_MS + station.now_ms)
    (found,) = bodies(station)
    assert (found["utc_ms"], found["time_quality"]) == (EPOCH_MS + read_ms, "corrected")
    assert not {"life", "up_ms"} & found.keys()


def test_a_reading_that_was_on_its_way_to_the_disk_is_dated_too() -> None:
    station = without_utc()
    station.reading(20.0, 1)
    learn(station, EPOCH_MS + station.now_ms)
    station.later(6_000)
    assert [found["time_quality"] for found in bodies(station)] == ["corrected", "corrected"]


def test_of_a_life_that_never_knew_utc_the_next_one_says_before_when() -> None:
    station = without_utc()
    station.power_on()
    (found,) = bodies(station)
    assert (found["utc_ms"], found["time_quality"]) == (EPOCH_MS + station.now_ms, "estimated")


def test_a_disk_that_refuses_the_dates_gets_them_later() -> None:
    station = without_utc()
    station.refuse_stores = True
    learn(station, EPOCH_MS + station.now_ms)
    assert "utc_ms" not in bodies(station)[0]
    station.refuse_stores = False
    station.reading(20.0, 1)
    station.later(6_000)
    assert all("utc_ms" in found for found in bodies(station))


def test_what_the_cloud_has_meanwhile_is_not_written_again() -> None:
    station = without_utc()
    station.refuse_stores = True
    learn(station, EPOCH_MS + station.now_ms)
    station.refuse_stores = False
    station.regain_uplink()
    station.later(30_000)
    station.reading(20.0, 1)
    station.later(90_000)
    assert station.on_disk() == []
    assert station.cloud_has[("sensor-01", BOOT, 0)] == 1


# --- the backlog ----------------------------------------------------------------------------------------------------


def test_the_backlog_goes_up_compressed_and_live_batches_do_not() -> None:
    station = offline()
    for seq in range(200):
        station.reading(20.0, seq)
        station.later(1_000)
    station.regain_uplink()
    station.later(30_000)
    station.reading(20.0, 200)
    station.later(61_000)
    sent = [o for o in station.of(Send) if o.port == "hub" and "/batch" in o.topic]
    packed = [o.payload for o in sent if o.topic == f"clawland/{GATEWAY}/batch/gz"]
    assert len(packed) == 1
    assert len(packed[0]) * 4 < len(uplink.decompress(packed[0]))
    assert {o.topic for o in sent if o.payload not in packed} == {f"clawland/{GATEWAY}/batch"}
    assert len(station.cloud_has) == 201


# --- what else survives ---------------------------------------------------------------------------------------------


def test_the_latest_values_survive_a_restart_so_that_the_past_moves_no_alarm() -> None:
    station = Station().online()
    station.heartbeat()
    station.reading(20.0, 0)
    station.later(61_000)
    station.lose_uplink()
    station.power_on()
    station.reading(35.0, 1, age_ms=80_000)
    station.later(6_000)
    assert "alert.raised" not in station.kinds()


@pytest.mark.parametrize("utc", [True, False])
def test_the_latest_values_are_as_old_as_at_the_last_write_until_utc_says_how_old_they_are(utc: bool) -> None:
    station = Station().online()
    station.reading(20.0, 0)
    station.later(61_000)
    station.power_on(utc=utc)
    node = station.core.nodes["sensor-01"]
    if not utc:
        assert node.latest == {"temp": (1_000, 20.0)}, "read 60 s before the window in which it was written"
        learn(station, EPOCH_MS + station.now_ms)
    assert node.latest == {"temp": (0, 20.0)}


def test_utc_does_not_take_back_what_came_after_the_latest_values_were_assumed() -> None:
    station = Station().online()
    station.reading(20.0, 0)
    station.later(61_000)
    station.power_on(utc=False)
    station.reading(21.0, 1)
    learn(station, EPOCH_MS + station.now_ms)
    assert station.core.nodes["sensor-01"].latest == {"temp": (61_000, 21.0)}


def test_the_latest_values_survive_lives_of_which_none_knows_utc() -> None:
    station = without_utc()
    station.later(60_000)
    station.now_ms += DAY_MS
    station.power_on(utc=False)
    ((read_ms, value),) = station.core.nodes["sensor-01"].latest.values()
    assert value == 20.0 and station.core.start_ms - 60_000 < read_ms < station.core.start_ms


def test_what_went_up_before_a_restart_does_not_go_up_again_unchanged() -> None:
    station = Station(modes={"temp": "on_change"}).online()
    station.reading(20.0, 0)
    station.later(61_000)
    station.power_on().regain_uplink()
    station.reading(20.0, 1)
    station.later(61_000)
    assert {seq for _, _, seq in station.cloud_has} == {0}


def test_an_alarm_that_is_on_survives_a_restart_and_is_ended_by_the_gateway() -> None:
    station = Station().online().configured(rules=(HOT,))
    station.heartbeat()
    station.lose_uplink()
    station.reading(35.0, 0)
    station.later(6_000)
    station.power_on()
    station.heartbeat(n=2)
    station.later(91_000)
    station.reading(20.0, 1)
    station.later(6_000)
    assert [event["id"] for event in station.events("alert.cleared")] == [f"hot:sensor-01:{BOOT}:0"]


def test_a_reading_that_is_kept_takes_little_more_memory_than_its_text() -> None:
    station = offline()
    station.reading(20.0, 0)
    station.later(6_000)
    tracemalloc.start()
    for seq in range(1, 1001):
        station.core.receive("nodes", "clawland/sensor-01/temp", b'{"value":20.5,"boot":700,"seq":%d}' % seq, 6_000)
    taken_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken_bytes < 1_000 * 1_000, "200,000 of them would not fit beside anything else on a small machine"


def test_readings_that_pour_in_go_to_the_disk_before_there_are_too_many_to_wait() -> None:
    station = offline(commit_readings=10)
    for seq in range(25):
        station.reading(20.0, seq)
        station.at(station.now_ms)
    assert len(station.on_disk()) == 20, "two commits, and no wait of five seconds"
    station.later(5_000)
    assert len(station.on_disk()) == 25


def test_a_disk_that_refuses_is_not_asked_again_for_every_reading_that_comes() -> None:
    station = offline(commit_readings=10)
    station.refuse_stores = True
    for seq in range(100):
        station.reading(20.0, seq)
        station.at(station.now_ms)
    assert station.kinds().count("store.failed") == 1
    station.refuse_stores = False
    station.later(10_000)
    assert len(station.on_disk()) == 100
