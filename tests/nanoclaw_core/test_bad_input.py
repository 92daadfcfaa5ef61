"""What should not happen to a gateway and does: a rule that it cannot read, a clock that is set back by a day."""

import pytest

from fleet.wire import snapshot
from tests.nanoclaw_core.rig import EPOCH_MS, GATEWAY, HOT, KEY, NODE_KEYS, Station

DAY_MS = 86_400_000


@pytest.mark.parametrize(
    "bad",
    [
        HOT | {"name": "odd", "when": {"metric": "temp", "op": "about", "value": 30}},
        HOT | {"name": "odd", "action": "explode"},
        HOT | {"name": "odd", "when": "temp > 30"},
        HOT | {"name": "odd", "when": {"median": "temp", "over_ms": 60_000}, "clear": None},
    ],
    ids=["operator", "action", "text", "more than it can do"],
)
def test_a_rule_that_it_cannot_read_is_refused_and_the_last_good_rules_stay(bad: dict[str, object]) -> None:
    station = Station().online()
    station.heartbeat()
    station.from_cloud("config", snapshot.build(2, [HOT, bad], NODE_KEYS, GATEWAY, KEY, bytes(12)))
    assert "rule" in station.events("message.rejected")[-1]["reason"]
    assert station.core.configuration.version == 1
    station.power_on()
    station.heartbeat(n=2)
    station.later(91_000)
    station.lose_uplink()
    station.reading(35.0, 0)
    station.later(6_000)
    assert [event["rule"] for event in station.events("alert.raised")] == ["hot"]


def test_a_clock_that_is_set_back_by_a_day_loses_nothing_and_stops_no_rule() -> None:
    station = Station().online()
    station.heartbeat()
    station.lose_uplink()
    station.reading(20.0, 0)
    station.later(6_000)
    station.core.learn_utc(EPOCH_MS + station.now_ms - DAY_MS, station.now_ms)
    station.reading(35.0, 1)
    station.later(6_000)
    assert "alert.raised" in station.kinds()
    station.regain_uplink()
    station.later(120_000)
    read = {r["seq"]: r["utc_ms"] - EPOCH_MS for batch in station.batches for r in batch["readings"]}
    assert read == {0: 0, 1: 6_000 - DAY_MS}


def test_latest_values_of_tomorrow_do_not_silence_today() -> None:
    """They were kept before a restart by a clock that was a day ahead: a stamp from the future is none of the past."""
    station = Station().online()
    station.core.learn_utc(EPOCH_MS + DAY_MS, station.now_ms)
    station.reading(20.0, 0)
    station.later(61_000)
    station.power_on().regain_uplink()
    station.heartbeat(n=2)
    station.lose_uplink()
    station.reading(35.0, 1)
    station.later(6_000)
    assert "alert.raised" in station.kinds()
