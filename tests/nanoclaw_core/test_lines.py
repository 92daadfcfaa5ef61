"""Two uplinks: one takes over from the other without an outage, goes back without one, and does not flap."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoclaw.core.lines import LONGEST_RETURN_MS, RETURN_MS
from tests.nanoclaw_core.rig import BOOT
from tests.nanoclaw_core.ways import BACKUP, PRIMARY, TwoWays

MINUTE_MS = 60_000


def test_the_primary_is_used_and_the_backup_is_left_alone() -> None:
    station = TwoWays().online()
    station.later(3_600_000)
    assert station.up == PRIMARY
    assert set(station.sent_over) == {PRIMARY}
    assert station.core.status()["mode"] == "online"


def test_when_the_primary_is_cut_the_backup_takes_over_at_once_and_nobody_is_offline() -> None:
    station = TwoWays().online()
    station.later(5 * MINUTE_MS).forget()
    station.cut(PRIMARY)
    assert station.up == BACKUP
    station.later(10 * MINUTE_MS)
    assert "gateway.offline" not in station.kinds()
    assert station.events("uplink.switched") == [{"uplink": "4g", "before": "ethernet", "was": "down"}]


def test_a_primary_that_is_not_there_at_the_start_costs_no_time() -> None:
    station = TwoWays()
    station.cut(PRIMARY)
    station.online()
    assert (station.up, station.core.status()["mode"], station.now_ms) == (BACKUP, "online", 0)


def test_with_both_cut_it_is_offline_at_once_and_the_first_that_is_back_ends_it() -> None:
    station = TwoWays().online()
    station.cut(BACKUP)
    station.cut(PRIMARY)
    assert station.events("gateway.offline")[0]["reason"] == "connection lost"
    station.later(10 * MINUTE_MS)
    station.restore(BACKUP)
    station.later(35_000)
    assert (station.up, station.core.status()["mode"]) == (BACKUP, "online")


def test_a_primary_that_swallows_everything_is_replaced_before_the_gateway_believes_itself_offline() -> None:
    station = TwoWays().online()
    station.later(MINUTE_MS)
    station.hush(PRIMARY)
    station.later(89_000)
    assert station.up == BACKUP
    station.later(10 * MINUTE_MS)
    assert "gateway.offline" not in station.kinds()


def test_a_silent_hub_behind_both_lines_is_an_outage_and_no_storm_of_switches() -> None:
    station = TwoWays().online()
    station.cloud_answers = False
    station.forget()
    station.later(10 * MINUTE_MS)
    assert station.kinds().count("gateway.offline") == 1
    assert len(station.events("uplink.switched")) <= 10
    station.cloud_answers = True
    station.later(2 * MINUTE_MS)
    assert station.core.status()["mode"] == "online"


def test_a_minute_after_the_primary_is_back_it_is_used_again_and_nothing_was_interrupted() -> None:
    station = TwoWays().online()
    station.later(20 * MINUTE_MS)
    station.cut(PRIMARY)
    station.restore(PRIMARY)
    station.later(RETURN_MS - 1)
    assert station.up == BACKUP
    station.later(1)
    assert station.up == PRIMARY
    assert "gateway.offline" not in station.kinds()


def test_a_primary_that_stays_away_is_tried_beside_the_backup_without_disturbing_it() -> None:
    station = TwoWays().online()
    station.cut(PRIMARY)
    station.forget()
    station.later(30 * MINUTE_MS)
    assert station.up == BACKUP
    assert not station.events("uplink.switched", "gateway.offline")


def test_a_primary_that_flaps_is_waited_for_twice_as_long_each_time_up_to_an_hour() -> None:
    station = TwoWays().online()
    waits = []
    for _ in range(9):
        station.cut(PRIMARY)
        station.restore(PRIMARY)
        left_ms = station.now_ms
        while station.up == BACKUP:
            station.later(1000)
        waits.append(station.now_ms - left_ms)
        station.later(30_000)
    assert waits[:4] == [2 * RETURN_MS, 4 * RETURN_MS, 8 * RETURN_MS, 16 * RETURN_MS]
    assert waits[-1] == LONGEST_RETURN_MS


def test_a_primary_that_has_held_for_ten_minutes_is_trusted_again() -> None:
    station = TwoWays().online()
    for _ in range(4):
        station.cut(PRIMARY)
        station.restore(PRIMARY)
        while station.up == BACKUP:
            station.later(1000)
        station.later(1000)
    station.later(11 * MINUTE_MS)
    station.cut(PRIMARY)
    station.restore(PRIMARY)
    station.later(RETURN_MS)
    assert station.up == PRIMARY


def test_a_line_whose_attempt_hears_nothing_gives_way_after_twenty_seconds() -> None:
    station = TwoWays()
    station.hush(PRIMARY)
    station.online()
    assert station.up is None
    station.later(20_000)
    assert station.up == BACKUP


@pytest.mark.parametrize("port", [PRIMARY, BACKUP])
def test_readings_under_way_on_a_line_that_falls_go_over_the_other(port: str) -> None:
    station = TwoWays()
    if port == BACKUP:
        station.cut(PRIMARY)
    station.online()
    station.restore(PRIMARY)
    station.heartbeat()
    station.deaf_to = "batch"
    station.reading(20.0, 0)
    station.later(MINUTE_MS)
    station.cut(port)
    station.deaf_to = ""
    station.later(3 * MINUTE_MS)
    assert station.cloud_has == {("sensor-01", BOOT, 0): 1}


STEPS = st.lists(
    st.tuples(st.sampled_from(["cut", "hush", "restore"]), st.sampled_from([PRIMARY, BACKUP]), st.integers(1, 600)),
    max_size=12,
)


@settings(deadline=None)
@given(STEPS)
def test_whatever_happens_to_the_lines_it_is_online_soon_after_one_of_them_works(
    steps: list[tuple[str, str, int]],
) -> None:
    station = TwoWays().online()
    station.heartbeat()
    for seq, (deed, port, seconds) in enumerate(steps):
        getattr(station, deed)(port)
        station.reading(20.0, seq)
        station.later(1000 * seconds)
    station.restore(BACKUP)
    station.later(5 * MINUTE_MS)
    assert station.core.status()["mode"] == "online"
    assert len(station.cloud_has) == len(steps), "every reading is in the cloud"
    assert [line.state for line in station.core.uplink.lines.all].count("up") == 1, "one connection, not two"
