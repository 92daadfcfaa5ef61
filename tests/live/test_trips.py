"""A machine that is too slow for its clock shows in how long messages take, where no fault holds them up."""

from dataclasses import replace

from clawsim.expect import FAIL, PASS, Judgement
from clawsim.ledger import Account
from clawsim.live.trips import RECOVERY_US, trip_lag_ms
from clawsim.trace import TraceEvent
from clawsim.verdict import MOST_LAG_MS, Outcome
from tests.live.plans import plan

PLAN = plan()
LINKS_MS = 2 * (5 + 5)
S = 1_000_000


def batch(number: int, sent_us: int, took_ms: int, who: str = "gateway-01") -> list[TraceEvent]:
    fields = {"batch": f"{who}-{number}"}
    done_us = sent_us + took_ms * 1000
    return [TraceEvent(sent_us, "batch.sent", who, fields), TraceEvent(done_us, "batch.acknowledged", who, fields)]


def story(*parts: list[TraceEvent]) -> list[TraceEvent]:
    return sorted((event for part in parts for event in part), key=lambda event: event.t_us)


def fault(from_s: float, until_s: float | None) -> list[TraceEvent]:
    begun = TraceEvent(int(from_s * S), "fault.requested", "world", {"of": "outage"})
    return [begun] if until_s is None else [begun, TraceEvent(int(until_s * S), "fault.cleared", "world", begun.fields)]


def test_it_is_the_median_of_what_batches_take_longer_than_their_links() -> None:
    took_ms = (1_000, 90_000, 3_000)
    events = story(*(batch(number, number * 100 * S, took) for number, took in enumerate(took_ms)))
    assert trip_lag_ms(PLAN, events) == 3_000 - LINKS_MS


def test_a_batch_as_fast_as_its_links_or_faster_is_not_late() -> None:
    assert trip_lag_ms(PLAN, batch(1, 0, LINKS_MS)) == trip_lag_ms(PLAN, batch(1, 0, 1)) == 0


def test_slow_links_of_the_scenario_are_not_the_machines() -> None:
    slow = {name: replace(link, latency_us=4 * S) for name, link in PLAN.links.items()}
    assert trip_lag_ms(replace(PLAN, links=slow), batch(1, 0, 16_100)) == 100


def test_a_batch_that_is_sent_again_has_been_on_its_way_since_the_first_time() -> None:
    events = story(batch(1, 0, 45_000), batch(1, 30 * S, 15_000)[:1])
    assert trip_lag_ms(PLAN, events) == 45_000 - LINKS_MS


def test_gateways_may_name_their_batches_alike() -> None:
    events = story(batch(1, 0, 9_000, "gateway-01"), batch(1, 1 * S, 2_000, "gateway-02"))
    assert trip_lag_ms(PLAN, events) == 9_000 - LINKS_MS


def test_batches_that_a_fault_may_have_held_up_say_nothing() -> None:
    held = story(batch(1, 95 * S, 10_000), batch(2, 150 * S, 40_000), batch(3, 205 * S, 20_000))
    calm = story(batch(4, 50 * S, 1_000), batch(5, 200 * S + RECOVERY_US + 1, 1_000))
    assert trip_lag_ms(PLAN, story(held, calm, fault(100, 200))) == 1_000 - LINKS_MS
    assert trip_lag_ms(PLAN, story(held, fault(100, 200))) is None
    assert trip_lag_ms(PLAN, story(batch(9, 900 * S, 60_000), fault(100, None))) is None


def test_without_an_answered_batch_there_is_nothing_to_say() -> None:
    assert trip_lag_ms(PLAN, []) is None
    assert trip_lag_ms(PLAN, batch(1, 0, 1_000)[:1]) is None


def outcome(**found: int | None) -> Outcome:
    late = [Judgement("the alarm sounds", FAIL, "only outside that time: +38.4 s")]
    return Outcome("upload", "live", 1, 970, 1, Account(), late, None, **found)  # type: ignore[arg-type]


def test_a_run_whose_messages_were_too_late_is_lagged_and_blames_no_fleet() -> None:
    lagged = outcome(lag_p99_ms=2_298, trip_lag_ms=MOST_LAG_MS + 1)
    assert (lagged.verdict, lagged.exit_code) == ("LAGGED", 5)
    assert (
        "median lag of messages 5.0 simulated seconds, over 5: take a smaller --timescale"
        in lagged.as_json()["reasons"]
    )


def test_a_run_that_kept_its_clock_fails_by_itself() -> None:
    assert outcome(lag_p99_ms=MOST_LAG_MS, trip_lag_ms=MOST_LAG_MS).verdict == FAIL
    assert outcome(lag_p99_ms=0, trip_lag_ms=None).verdict == FAIL
    assert Outcome("upload", "live", 1, 970, 1, Account(), [], None, lag_p99_ms=0, trip_lag_ms=200).verdict == PASS


def test_a_run_that_broke_off_fails_whatever_else_it_could_not_show() -> None:
    broken = Outcome("upload", "live", 1, 970, 1, Account(), [], None, ["outage"], failures=["hub ended unexpectedly"])
    assert (broken.verdict, broken.exit_code) == (FAIL, 1)
    assert broken.reasons[0] == (FAIL, "hub ended unexpectedly")
