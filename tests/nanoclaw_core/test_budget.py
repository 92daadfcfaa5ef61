"""A metered line: what it carries is counted, batches become rarer so that it lasts the day, and nothing is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoclaw.core.budget import DAY_MS, MOST_WINDOWS, Budget, Now, wire_bytes
from tests.nanoclaw_core.rig import BOOT, EPOCH_MS, GATEWAY
from tests.nanoclaw_core.ways import PRIMARY, TwoWays

WINDOW_MS = 60_000


def at(clock_ms: int, is_utc: bool = True) -> Now:
    return Now.of(clock_ms, 0) if is_utc else Now.of(None, clock_ms)


def a_day(budget: Budget, each_batch: int, each_ms: float) -> int:
    """Live through a day that costs `each_batch` bytes a batch and `each_ms` bytes a millisecond; bytes spent."""
    clock_ms = 0
    while clock_ms < DAY_MS:
        window_ms = budget.windows * WINDOW_MS
        clock_ms += window_ms
        if clock_ms >= DAY_MS:
            break
        budget.spend(each_batch + int(each_ms * window_ms), at(clock_ms))
        budget.next_windows(WINDOW_MS, at(clock_ms))
    return budget.spent_bytes


def test_a_budget_that_is_ample_changes_nothing() -> None:
    budget = Budget(100_000_000, None)
    a_day(budget, 2_000, 0.01)
    assert budget.windows == 1


@given(st.integers(1_000, 20_000), st.integers(2, MOST_WINDOWS - 2))
def test_batches_that_are_too_many_become_rarer_until_the_day_is_paid_for(each: int, times_too_many: int) -> None:
    budget = Budget(each * 1440 // times_too_many, None)
    spent = a_day(budget, each, 0.0)
    assert spent <= budget.daily_bytes * 1.05
    assert spent >= budget.daily_bytes * 0.8, "what was paid for is used"


def test_a_budget_below_what_must_go_ends_in_the_rarest_batches_and_says_so_once() -> None:
    budget = Budget(10_000, None)
    said = [budget.spend(3_000, at(1000 * step)) for step in range(10)]
    assert said.count(True) == 1
    for _ in range(8):
        budget.next_windows(WINDOW_MS, at(20_000))
    assert budget.windows == MOST_WINDOWS


def test_a_new_day_begins_at_midnight_utc() -> None:
    budget = Budget(10_000, None)
    budget.spend(9_000, at(DAY_MS - 1))
    budget.spend(1_000, at(DAY_MS))
    assert budget.spent_bytes == 1_000


def test_without_utc_the_day_counts_from_the_start_and_learning_utc_gives_no_second_budget() -> None:
    budget = Budget(10_000, None)
    budget.spend(9_000, at(5_000, is_utc=False))
    budget.spend(500, at(EPOCH_MS))
    assert budget.spent_bytes == 9_500
    budget.spend(500, at(EPOCH_MS + DAY_MS))
    assert budget.spent_bytes == 500


def test_a_clock_that_jumps_back_a_day_gives_no_second_budget() -> None:
    budget = Budget(10_000, None)
    budget.spend(9_000, at(5 * DAY_MS))
    budget.spend(500, at(4 * DAY_MS))
    assert budget.spent_bytes == 9_500
    budget.spend(500, at(5 * DAY_MS))
    assert budget.spent_bytes == 500


@pytest.mark.parametrize("damaged", [None, 5, [], [1], ["x", "y"], {"a": 1}])
def test_what_cannot_be_read_from_disk_is_nothing_spent(damaged: object) -> None:
    assert Budget(10_000, damaged).spent_bytes == 0


def metered(daily_bytes: int) -> TwoWays:
    station = TwoWays(daily_bytes)
    station.cut(PRIMARY)
    station.online()
    station.heartbeat()
    return station


def spent(station: TwoWays) -> int:
    return station.core.status()["uplinks"][1]["spent_bytes"]


def test_what_a_metered_line_carries_is_counted_and_the_heartbeat_tells_it() -> None:
    station = metered(50_000_000)
    station.later(3_600_000)
    heartbeats = station.to_cloud("heartbeat")
    least = sum(len(str(each)) for each in heartbeats)
    assert least < spent(station) < 4 * least
    assert heartbeats[-1]["uplinks"][1] | {"spent_bytes": 0} == {
        "name": "4g", "state": "up", "used": True, "spent_bytes": 0, "daily_bytes": 50_000_000, "batch_ms": 60_000,
    }  # fmt: skip


def test_the_free_line_costs_the_metered_one_nothing() -> None:
    station = TwoWays(1_000_000).online()
    station.later(3_600_000)
    assert spent(station) == 0


def test_a_message_weighs_its_headers_too() -> None:
    assert wire_bytes("t" * 30, b"x" * 100, tls=False) == 214
    assert wire_bytes("t" * 30, b"x" * 100, tls=True) == 243
    assert wire_bytes("t", b"x" * 200_000, tls=False) > 200_000 * 1.04


def test_what_was_spent_survives_a_restart() -> None:
    station = metered(1_000_000)
    station.later(6 * 3_600_000)
    before = spent(station)
    again = TwoWays(1_000_000)
    again.disk, again.now_ms = station.disk, station.now_ms
    again.cut(PRIMARY)
    again.online()
    assert before * 0.97 <= spent(again) <= before * 1.03


def test_on_a_small_budget_batches_are_rarer_and_every_reading_still_arrives() -> None:
    station = metered(2_500_000)
    station.later(10 * 60_000).forget()
    for seq in range(6 * 60):
        station.reading(20.0, seq)
        station.later(60_000)
    assert len(station.batches) < 4 * 60
    station.later(MOST_WINDOWS * WINDOW_MS + 60_000)
    assert set(station.cloud_has) == {("sensor-01", BOOT, seq) for seq in range(6 * 60)}


def test_an_event_does_not_wait_for_a_rare_batch() -> None:
    station = metered(100_000)
    station.later(2 * 3_600_000).forget()
    station.raw("nodes", "clawland/sensor-01/door", b'{"value": true}')
    station.later(10_000)
    assert station.batches, f"{GATEWAY} has told of the door"


def test_a_backlog_on_a_metered_line_stays_below_the_even_spending_of_a_day() -> None:
    station = TwoWays(3_000_000).online()
    station.heartbeat()
    station.cut("hub:4g")
    station.cut(PRIMARY)
    for seq in range(30_000):
        station.reading(20.0, seq)
        if seq % 1000 == 999:
            station.later(10_000)
    station.restore("hub:4g")
    station.later(3_600_000)
    assert spent(station) <= 3_000_000 * station.now_ms / DAY_MS * 1.1 + 200_000
    station.restore(PRIMARY)
    station.later(5 * 60_000)
    assert len(station.cloud_has) == 30_000, "the free line takes the rest at once"
