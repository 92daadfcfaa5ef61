"""Readings at the gateway: on disk before they are acknowledged, kept until the cloud has them, bounded."""

import itertools
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.wire.messages import MAX_MS
from fleet.wire import uplink
from tests.nanoclaw_core.rig import BOOT, EPOCH_MS, GATEWAY, Send, Station
from tests.wire.strategies import ANY_JSON, garbage


def minute(station: Station, first_seq: int, count: int = 1, value: float = 21.0) -> None:
    """`count` readings, and the window in which they came closes."""
    for seq in range(first_seq, first_seq + count):
        station.reading(value, seq)
    station.later(66_000)


def test_a_reading_is_acknowledged_only_after_it_is_on_disk() -> None:
    station = Station().online()
    station.hold_stores = True
    station.reading(21.0, 0)
    station.later(30_000)
    assert station.acknowledged() == set() and station.held
    station.finish_stores()
    station.later(10_000)
    assert station.acknowledged() == {("sensor-01", BOOT, 0)}


def test_a_disk_that_refuses_withholds_the_acknowledgement_until_it_takes_the_reading() -> None:
    station = Station().online()
    station.refuse_stores = True
    station.reading(21.0, 0)
    station.later(300_000)
    assert station.acknowledged() == set()
    assert "store.failed" in station.kinds()
    station.refuse_stores = False
    station.later(20_000)
    assert station.acknowledged() == {("sensor-01", BOOT, 0)}
    assert station.kinds().count("store.recovered") == 1
    station.later(130_000)
    assert ("sensor-01", BOOT, 0) in station.cloud_has


def test_acknowledgements_come_at_most_once_in_five_seconds_and_are_cumulative() -> None:
    station = Station().online()
    station.later(10_000)
    times: list[int] = []
    for seq in range(60):
        station.reading(21.0, seq)
        station.later(500)
        times += [station.now_ms] * (len(station.to_node("received")) - len(times))
    assert len(times) >= 5
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) >= 4_500
    station.later(10_000)
    assert station.acknowledged() == {("sensor-01", BOOT, seq) for seq in range(60)}


def test_a_gap_is_named_so_that_the_node_sends_it_again() -> None:
    station = Station().online()
    for seq in (0, 1, 4, 5):
        station.reading(21.0, seq)
    station.later(10_000)
    said = station.to_node("received")[-1]
    assert (said["from"], said["upto"], said["missing"]) == (0, 5, [2, 3])


def test_a_copy_is_stored_once_and_acknowledged_again() -> None:
    station = Station().online()
    station.reading(21.0, 0)
    station.later(10_000)
    station.forget()
    station.reading(21.0, 0)
    station.later(10_000)
    assert station.on_disk() == [("sensor-01", BOOT, 0)]
    assert station.acknowledged() == {("sensor-01", BOOT, 0)}
    assert len(station.events("reading.redelivered")) == 1


def test_a_minute_of_readings_becomes_one_batch_with_statistics() -> None:
    station = Station().online()
    station.at(61_000)
    station.forget()
    for seq, value in enumerate((20.0, 22.0, 27.0)):
        station.reading(value, seq)
        station.later(10_000)
    station.at(121_000)
    (batch,) = station.to_cloud("batch")
    assert [found["seq"] for found in batch["readings"]] == [0, 1, 2]
    (stat,) = batch["stats"]
    assert (stat["count"], stat["min"], stat["mean"], stat["max"]) == (3, 20.0, 23.0, 27.0)


def test_only_numbers_are_averaged() -> None:
    station = Station().online()
    for seq, value in enumerate((True, "open", False)):
        station.reading(value, seq)
    station.later(66_000)
    batches = station.to_cloud("batch")
    assert sum(len(batch["readings"]) for batch in batches) == 3
    assert all(batch["stats"] == [] for batch in batches)


def test_an_event_reading_goes_at_once_and_the_others_wait_for_their_window() -> None:
    station = Station().online()
    station.reading(21.5, 0)
    station.later(1_000)
    station.reading(True, 1)  # a door: its commit takes the other along, its batch does not
    station.later(100)
    (batch,) = station.to_cloud("batch")
    assert [found["seq"] for found in batch["readings"]] == [1]
    station.later(66_000)
    assert [found["seq"] for batch in station.to_cloud("batch")[1:] for found in batch["readings"]] == [0]


def test_a_batch_is_kept_and_sent_again_until_it_is_acknowledged() -> None:
    station = Station().online()
    station.cloud_answers = False
    minute(station, 0, 3)
    station.later(15_000)
    station.forget()
    station.later(8_000)
    names = {batch["batch"] for batch in station.to_cloud("batch")}
    assert len(station.on_disk()) == 3
    station.from_cloud("batch/ack", {"v": 1, "batch": "gateway-01-0-999"})  # not one of ours
    assert len(station.on_disk()) == 3
    station.cloud_answers = True
    station.later(60_000)
    assert station.on_disk() == [] and names <= {batch["name"] for batch in station.batches} | names
    assert set(station.cloud_has.values()) == {1}


def test_a_second_acknowledgement_changes_nothing() -> None:
    station = Station().online()
    minute(station, 0, 2)
    name = station.batches[-1]["name"]
    station.reading(21.0, 2)
    station.later(6_000)
    before = dict(station.disk.items)
    station.from_cloud("batch/ack", {"v": 1, "batch": name})
    assert station.disk.items == before


def test_a_bare_board_is_numbered_by_the_gateway() -> None:
    station = Station().online()
    for _ in range(3):
        station.raw("nodes", "clawland/sensor-01/temp", b'{"value": 25.0}')
    station.later(66_000)
    identities = list(station.cloud_has)
    assert len(identities) == 3 and len({boot for _, boot, _ in identities}) == 1
    assert {seq for _, _, seq in identities} == {0, 1, 2}


def test_a_restarted_gateway_never_numbers_two_bare_readings_alike() -> None:
    station = Station().online()
    station.raw("nodes", "clawland/sensor-01/temp", b'{"value": 25.0}')
    station.later(6_000)
    station.power_on()
    station.raw("nodes", "clawland/sensor-01/temp", b'{"value": 26.0}')
    station.later(130_000)
    assert len(station.cloud_has) == 2 and set(station.cloud_has.values()) == {1}


def test_a_full_outbox_drops_its_oldest_and_names_it() -> None:
    station = Station(outbox_max_readings=5).online()
    station.lose_uplink()
    for seq in range(9):
        station.reading(21.0, seq)
        station.later(6_000)
    assert [(event["seq"], event["cause"]) for event in station.events("reading.lost")] == [
        (seq, "outbox-full") for seq in range(4)
    ]
    assert [seq for _, _, seq in station.on_disk()] == [4, 5, 6, 7, 8]


def test_what_a_full_outbox_drops_on_a_failing_disk_does_not_lie_there_for_ever() -> None:
    station = Station(outbox_max_readings=5).online()
    station.lose_uplink()
    for seq in range(5):
        station.reading(21.0, seq)
    station.later(6_000)
    station.refuse_stores = True
    station.reading(21.0, 5)
    station.reading(21.0, 6)
    station.later(12_000)
    station.refuse_stores = False
    station.later(12_000)
    lost = {event["seq"] for event in station.events("reading.lost")}
    assert len(station.on_disk()) <= 5
    assert lost | {seq for _, _, seq in station.on_disk()} == set(range(7))
    assert lost.isdisjoint(seq for _, _, seq in station.on_disk())


def test_readings_that_no_disk_takes_are_bounded_also_those_of_bare_boards() -> None:
    """Beyond a bound they are refused (and stay with their node, or are named lost), rather than fill the memory."""
    station = Station().online()
    station.refuse_stores = True
    for _ in range(12_000):
        station.raw("nodes", "clawland/sensor-01/temp", b'{"value": 25.0}')
    station.refuse_stores = False
    station.later(12_000)
    assert 9_000 <= len(station.on_disk()) <= 10_500


@given(
    value=ANY_JSON,
    unit=ANY_JSON,
    boot=st.integers(-1, 2**31),
    seq=st.integers(-1, 2**32),
    clock=st.sampled_from(["age_ms", "up_ms"]),
    ms=st.sampled_from([0, -1, 5, MAX_MS, MAX_MS + 1, 2**70]) | st.integers(),
)
def test_whatever_a_gateway_takes_from_a_node_the_cloud_takes_from_the_gateway(
    value: Any, unit: Any, boot: int, seq: int, clock: str, ms: int
) -> None:
    """What the cloud refuses is lost after the gateway acknowledged it to the node."""
    station = Station().online()
    station.heartbeat(boot=max(0, boot) % 2**30)
    body: dict[str, Any] = {"value": value, "unit": unit, "boot": boot, "seq": seq, clock: ms}
    try:
        payload = orjson.dumps(body)
    except TypeError:  # numbers beyond 64 bits
        return
    station.raw("nodes", "clawland/sensor-01/temp", payload)
    station.later(6_000)
    for kind, stored in station.disk.items.values():
        if kind == "reading":
            _, good, refused = uplink.decode_batch(uplink.encode_batch("b", [stored], []))
            assert good and not refused


def test_uptime_of_a_hundred_centuries_does_not_poison_a_batch() -> None:
    station = Station().online()
    station.heartbeat()
    station.reading(21.0, 0, up_ms=MAX_MS)
    minute(station, 1)
    station.later(130_000)
    assert ("sensor-01", BOOT, 1) in station.cloud_has


@given(
    garbage("value", "boot", "seq", "unit"),
    st.sampled_from(["temp", "heartbeat", "beacon", "ack", "status", "cmd", "x"]),
)
def test_garbage_from_a_node_is_counted_and_nothing_of_it_is_kept(payload: bytes, verb: str) -> None:
    station = Station().online()
    before = station.core.status()["rejected"]
    station.forget()
    station.raw("nodes", f"clawland/sensor-01/{verb}", payload)
    station.later(6_000)
    rejected = station.core.status()["rejected"] - before
    assert rejected == station.kinds().count("message.rejected")
    assert rejected or verb == "cmd" or station.on_disk() or station.reports or verb in ("heartbeat", "beacon")


@pytest.mark.parametrize(
    "topic",
    [
        "clawland/stranger/temp",
        "clawland/sensor-01",
        "other/sensor-01/temp",
        "clawland//temp",
        "clawland/sensor-01/a/b",
        "",
        "clawland/gateway-01/temp",
    ],
)
def test_a_reading_of_nobody_known_is_counted_and_not_kept(topic: str) -> None:
    station = Station().online()
    station.forget()
    station.raw("nodes", topic, b'{"value": 25.0}')
    station.later(6_000)
    assert station.kinds().count("message.rejected") == 1
    assert station.on_disk() == []


def test_oversize_messages_of_a_node_are_refused() -> None:
    station = Station().online()
    station.forget()
    station.raw("nodes", "clawland/sensor-01/temp", b'{"value": 1, "padding": "' + b"x" * 512 + b'"}')
    assert station.kinds() == ["message.rejected"]


def test_a_node_of_another_fleet_is_refused() -> None:
    station = Station().online()
    station.forget()
    station.heartbeat(fleet="other")
    assert station.kinds() == ["message.rejected"]
    assert not station.to_node("received")


def test_when_a_reading_was_taken_is_its_arrival_less_its_age() -> None:
    station = Station().online()
    station.at(100_000)
    station.reading(21.0, 0, age_ms=40_000)
    station.later(70_000)
    assert station.batches[-1]["readings"][0]["utc_ms"] == EPOCH_MS + 60_000


def test_a_reading_of_an_earlier_boot_is_placed_by_that_boots_first_instant() -> None:
    station = Station().online()
    station.at(100_000)
    station.heartbeat(uptime_ms=30_000)  # up since 70 s
    station.at(200_000)
    station.heartbeat(boot=BOOT + 1, uptime_ms=0, n=1)
    station.reading(21.0, 4, up_ms=25_000)
    station.later(70_000)
    (found,) = [r for batch in station.batches for r in batch["readings"]]
    assert found["utc_ms"] == EPOCH_MS + 95_000 and "time_quality" not in found


def test_a_reading_of_an_unknown_boot_is_marked_estimated_and_not_after_the_present_boot() -> None:
    station = Station().online()
    station.at(100_000)
    station.heartbeat(uptime_ms=30_000)
    station.reading(21.0, 4, boot=BOOT - 3, up_ms=25_000)
    station.later(70_000)
    (found,) = [r for batch in station.batches for r in batch["readings"]]
    assert found["time_quality"] == "estimated" and found["utc_ms"] <= EPOCH_MS + 70_000


def test_a_batch_stays_within_its_limits_however_much_waits() -> None:
    station = Station().online()
    station.lose_uplink()
    for seq in range(2_500):
        station.reading("x" * 60, seq)
    station.later(10_000)
    station.regain_uplink()
    station.later(120_000)
    assert station.on_disk() == []
    sizes = [len(o.payload) for o in station.of(Send) if o.topic == f"clawland/{GATEWAY}/batch"]
    assert max(sizes) <= uplink.MAX_BATCH_BYTES
    assert max(len(batch["readings"]) for batch in station.batches) <= uplink.MAX_BATCH_READINGS
