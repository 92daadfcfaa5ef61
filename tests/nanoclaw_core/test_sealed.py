"""Sealed values at a gateway: passed on as they are, averaged by nobody, and no rule here can judge them."""

import json
from typing import Any

import pytest

from firmware.hosting.aes import aes_block
from firmware.wire import messages
from firmware.wire.sealing import seal
from tests.nanoclaw_core.rig import BOOT, EPOCH_MS, Station

SEALED = [seal(aes_block(bytes(32)), "sensor-01", "temp", BOOT, seq, "35.00") for seq in range(3)]


def says(station: Station, seq: int) -> None:
    payload = messages.encode_reading(SEALED[seq], '"°C"', BOOT, seq, "age_ms", 0)
    station.raw("nodes", "clawland/sensor-01/temp", payload)


def test_a_sealed_reading_is_kept_acknowledged_and_passed_on_as_it_came() -> None:
    station = Station().online()
    says(station, 0)
    station.reading(21.0, 1)
    station.later(66_000)
    batches = station.to_cloud("batch")
    readings = [reading for batch in batches for reading in batch["readings"]]
    assert [reading.get("sealed") for reading in readings] == [SEALED[0][1:], None]
    assert [reading.get("value") for reading in readings] == [None, 21.0]
    assert [stat["count"] for batch in batches for stat in batch["stats"]] == [1], "of numbers only there is a mean"
    assert station.acknowledged() == {("sensor-01", BOOT, 0), ("sensor-01", BOOT, 1)}


def test_a_rule_over_a_sealed_value_decides_nothing_and_that_is_said_once() -> None:
    station = Station().online()
    station.lose_uplink()
    station.later(100_000)
    station.forget()
    for seq in range(2):
        says(station, seq)
    station.later(66_000)
    assert station.events("rule.blind") == [{"rule": "hot", "node": "sensor-01", "metric": "temp"}]
    assert station.events("alert.raised") == []
    station.power_on()
    says(station, 2)
    assert len(station.events("rule.blind")) == 2, "and again by whoever begins anew"


def test_it_outlives_the_gateway_on_its_disk() -> None:
    station = Station().online()
    station.lose_uplink()
    says(station, 0)
    station.later(66_000)
    station.power_on()
    station.regain_uplink()
    station.later(200_000)
    (reading,) = [reading for batch in station.to_cloud("batch") for reading in batch["readings"]][-1:]
    assert reading["sealed"] == SEALED[0][1:]


def test_one_that_came_before_utc_was_known_is_dated_like_any_other() -> None:
    for learned_by_the_next_life in (False, True):
        station = Station().online()
        station.lose_uplink()
        station.power_on(utc=False)
        says(station, 0)
        station.later(6_000)
        if learned_by_the_next_life:
            station.power_on()
        else:
            station.core.learn_utc(EPOCH_MS + station.now_ms, station.now_ms)
            station.pump()
        (found,) = [json.loads(body) for kind, body in station.disk.items.values() if kind == "reading"]
        assert found["sealed"] == SEALED[0][1:] and found["utc_ms"] > 0
        station.power_on().regain_uplink()
        station.later(66_000)
        assert station.on_disk() == []


@pytest.mark.parametrize("mode", ["summary", "on_change"])
def test_on_a_metered_uplink_it_goes_up_as_it_is(mode: str) -> None:
    station = Station(modes={"temp": mode}).online()
    for _ in range(2):
        says(station, 0)
    says(station, 1)
    station.later(66_000)
    readings = [reading for batch in station.to_cloud("batch") for reading in batch["readings"]]
    assert [reading["sealed"] for reading in readings] == [SEALED[0][1:], SEALED[1][1:]]
    assert not {"reading.summarised", "reading.suppressed"} & set(station.kinds())


@pytest.mark.parametrize("wrong", [{"sealed": "?"}, {"value": 3, "sealed": 5, "boot": "x"}, {"boot": None}], ids=str)
def test_what_cannot_be_a_sealed_reading_is_refused_and_counted(wrong: dict[str, Any]) -> None:
    station = Station().online()
    found = {"sealed": SEALED[0][1:], "boot": BOOT, "seq": 0, "age_ms": 0} | wrong
    station.raw("nodes", "clawland/sensor-01/temp", json.dumps(found).encode())
    assert station.kinds().count("message.rejected") == 1 and station.on_disk() == []
