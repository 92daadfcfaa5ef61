"""Readings of a node: checked, kept, sent again until a gateway has them, dropped loudly when there is no room."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.core.backlog import RETRY_MS
from firmware.wire import messages
from firmware.wire.outputs import Event, Send, Store
from tests.firmware_core.rig import NODE, TEMP, Board

TEXT = {"metric": "note", "unit": "", "exp": 0, "low": None, "high": None, "every_ms": None}
DOOR = {"metric": "door", "unit": "", "exp": 0, "low": None, "high": None, "every_ms": None}


def test_a_reading_is_on_flash_before_it_is_sent() -> None:
    board = Board().started()
    board.forget()
    board.sampled(2512)
    kinds = [type(o) for o in board.outputs if isinstance(o, Store | Send)]
    assert kinds == [Store, Send]
    assert board.sent("temp") == [{"value": 25.12, "unit": "°C", "boot": board.boot, "seq": 0, "age_ms": 0}]
    assert list(board.flash.readings) == [(board.boot, 0)]


def test_an_event_sensors_reading_says_so_at_every_transmission() -> None:
    board = Board(sensors=[DOOR | {"event": True}, TEMP]).started()
    board.sampled(True, 0)
    board.sampled(2100, 1)
    board.at(RETRY_MS)
    assert [found.get("event") for found in board.sent("door")] == [True, True]
    assert [found.get("event") for found in board.sent("temp")] == [None, None]


def test_an_event_stays_one_when_it_is_sent_after_a_loss_of_power() -> None:
    board = Board(sensors=[DOOR | {"event": True}, TEMP]).power_on()
    board.sampled("badge-17", 0)
    board.sampled(2100, 1)
    board.power_on(100_000)
    board.link_up()
    board.at(100_000)
    assert [found.get("event") for found in board.sent("door")] == [True]
    assert [found.get("event") for found in board.sent("temp")] == [None]


def test_readings_are_numbered_one_after_another_over_all_sensors() -> None:
    board = Board(sensors=[TEMP, DOOR]).started()
    board.sampled(2512, 0)
    board.sampled(True, 1)
    board.sampled(2513, 0)
    assert [event["seq"] for event in board.events("reading.produced")] == [0, 1, 2]
    assert [found["value"] for found in board.sent("door")] == [True]


@pytest.mark.parametrize(
    ("value", "fault"), [(-4000, ""), (8500, ""), (-4001, "out-of-range"), (8501, "out-of-range"), (None, "failed")]
)
def test_only_what_lies_in_the_sensors_range_becomes_a_reading(value: Any, fault: str) -> None:
    board = Board().started()
    board.sampled(value)
    assert [event["reason"] for event in board.events("sensor.fault")] == [fault] * bool(fault)
    assert len(board.events("reading.produced")) == (not fault)


def test_a_sensor_that_stays_broken_says_so_once_and_its_heartbeat_names_it_until_it_reads_again() -> None:
    board = Board().started()
    for value in (None, None, 9000, None):
        board.sampled(value)
    assert [event["reason"] for event in board.events("sensor.fault")] == ["failed", "out-of-range", "failed"]
    board.at(61_000)
    assert board.sent("heartbeat")[-1]["faults"] == ["temp"]
    board.sampled(2100)
    board.at(121_000)
    assert "faults" not in board.sent("heartbeat")[-1]


@given(st.text(max_size=70) | st.booleans() | st.integers(-(2**50), 2**50) | st.floats())
def test_whatever_becomes_a_reading_fits_a_message_that_a_gateway_can_read(value: Any) -> None:
    """A reading that no gateway can take would be sent again for ever."""
    board = Board(sensors=[TEXT]).started()
    board.sampled(value)
    for send in board.sends():
        if send.topic == f"clawland/{NODE}/note":
            assert messages.decode_reading(send.payload) is not None, send.payload
    assert len(board.sent("note")) == len(board.events("reading.produced"))


def test_the_age_of_a_reading_is_that_of_each_transmission() -> None:
    board = Board().power_on()
    board.at(10_000).sampled(2100)
    board.at(17_000).link_up()
    board.at(17_000)
    board.at(17_000 + RETRY_MS)
    assert [found["age_ms"] for found in board.sent("temp")] == [7_000, 7_000 + RETRY_MS]


def test_an_unacknowledged_reading_is_sent_again_and_again_and_an_acknowledged_one_never() -> None:
    board = Board().started()
    board.sampled(2100)
    board.sampled(2200)
    board.received(0, 0)
    board.forget()
    board.at(10 * RETRY_MS)
    assert set(board.seqs()) == {1}
    assert len(board.seqs()) >= 8
    board.received(1, 1)
    board.forget()
    board.at(20 * RETRY_MS)
    assert board.seqs() == []
    assert board.flash.readings == {}


def test_what_the_gateway_misses_is_sent_at_once_and_the_rest_forgotten() -> None:
    board = Board().started()
    for value in range(2100, 2105):
        board.sampled(value)
    board.at(3_000)
    board.forget()
    board.received(0, 4, missing=(1, 3))
    board.at(3_000)
    assert board.seqs() == [1, 3]
    assert [seq for _, seq in board.flash.readings] == [1, 3]


def test_an_acknowledgement_covers_its_span_and_its_boot_only() -> None:
    board = Board().started()
    for value in range(2100, 2105):
        board.sampled(value)
    board.received(0, 4, boot=board.boot + 1)
    assert len(board.flash.readings) == 5
    board.received(1, 2)
    assert [seq for _, seq in board.flash.readings] == [0, 3, 4]


@pytest.mark.parametrize("how", ["another key", "another node's topic", "no code", "changed", "cut off"])
def test_a_received_that_is_not_authentic_changes_nothing_and_is_counted(how: str) -> None:
    board = Board().started()
    board.sampled(2100)
    body = messages.encode_received(board.boot, (0, 0), [], 0)
    topic = f"clawland/{NODE}/received"
    board.forget()
    if how == "another key":
        board.receive("received", body, key=b"x" * 32)
    elif how == "another node's topic":
        from firmware.wire.auth import Sealer

        board.raw(topic, Sealer(b"k" * 32).seal("clawland/sensor-02/received", body))
    else:
        from firmware.wire.auth import Sealer

        sealed = Sealer(b"k" * 32).seal(topic, body)
        changed = {"no code": body, "changed": sealed.replace(b'"upto":0', b'"upto":9'), "cut off": sealed[:-3]}
        board.raw(topic, changed[how])
    assert len(board.flash.readings) == 1
    assert board.kinds() == ["message.rejected"]
    board.at(RETRY_MS)
    assert board.seqs() == [0]


@given(st.binary(max_size=100), st.sampled_from(["received", "cmd", "heartbeat", "temp", "x/y"]))
def test_garbage_from_the_gateway_is_counted_and_changes_nothing(payload: bytes, verb: str) -> None:
    board = Board().started()
    board.sampled(2100)
    board.forget()
    board.raw(f"clawland/{NODE}/{verb}", payload)
    assert board.kinds() == ["message.rejected"]
    assert board.outputs == board.of(Event)


def test_a_full_backlog_drops_the_oldest_and_names_it() -> None:
    board = Board(backlog_readings=3).power_on()
    for value in range(2100, 2105):
        board.sampled(value)
    lost = board.events("reading.lost")
    assert [(event["boot"], event["seq"], event["cause"]) for event in lost] == [
        (board.boot, 0, "backlog-full"),
        (board.boot, 1, "backlog-full"),
    ]
    assert [seq for _, seq in board.flash.readings] == [2, 3, 4]
    board.link_up()
    assert board.sent("heartbeat")[-1]["dropped"] == 2
    assert board.sent("heartbeat")[-1]["backlog"] == 3


def test_a_backlog_restored_beyond_its_bound_shrinks_as_readings_come() -> None:
    board = Board(backlog_readings=5).power_on()
    for value in range(2100, 2105):
        board.sampled(value)
    smaller = Board(backlog_readings=3, flash=board.flash).power_on(60_000)
    smaller.sampled(2200)
    assert len(smaller.flash.readings) <= 5
    lost = smaller.events("reading.lost")
    assert len(lost) + len(smaller.flash.readings) == 6


def test_the_backlog_drains_oldest_first_and_not_all_at_once() -> None:
    board = Board().power_on()
    for value in range(2100, 2135):
        board.sampled(value)
    board.link_up()
    board.at(board.now_ms)
    assert board.seqs() == list(range(10))
    board.at(board.now_ms + 3_000)
    assert board.seqs() == list(range(35))


def test_live_readings_do_not_wait_for_the_backlog() -> None:
    board = Board().power_on()
    for value in range(2100, 2150):
        board.sampled(value)
    board.link_up()
    board.at(board.now_ms + 500)
    board.sampled(3000)
    assert board.seqs()[-1] == 50


def test_readings_of_an_earlier_boot_say_their_uptime_and_keep_their_identity() -> None:
    board = Board().power_on()
    board.at(5_000).sampled(2100)
    first = board.boot
    board.forget()
    board.power_on(100_000)
    board.link_up()
    board.at(100_000)
    assert board.sent("temp") == [{"value": 21.0, "unit": "°C", "boot": first, "seq": 0, "up_ms": 5_000}]
    board.received(0, 0, boot=first)
    assert board.flash.readings == {}


def test_sampling_keeps_its_grid_and_stops_when_told() -> None:
    board = Board(sensors=[TEMP | {"every_ms": 20_000}]).power_on()
    taken: list[int] = []
    board.on_sample = lambda _, now_ms: taken.append(now_ms) or 2100
    board.at(61_000)
    assert taken == [0, 20_000, 40_000, 60_000]
    board.now_ms = 85_000  # a late timer does not shift what follows
    board.core.on_timer(85_000)
    board.pump()
    board.at(101_000)
    assert taken[-2:] == [85_000, 100_000]
    board.core.stop_sampling(101_000)
    board.at(400_000)
    assert taken[-1] == 100_000


def test_nothing_waits_for_a_timer_in_the_past_for_ever() -> None:
    board = Board(sensors=[TEMP | {"every_ms": 1_000}]).started()
    for step_ms in (7, 1_000, 60_000, 3_600_000):
        board.now_ms += step_ms
        board.core.on_timer(board.now_ms)
        board.pump()
        for _ in range(50):
            due_ms = board.core.next_deadline()
            if due_ms is None or due_ms > board.now_ms:
                break
            board.core.on_timer(board.now_ms)
            board.pump()
        assert board.core.next_deadline() > board.now_ms


def test_a_reading_that_flash_refused_is_on_flash_as_soon_as_it_takes_writes_again() -> None:
    board = Board().power_on()
    board.refuse_stores = True
    board.sampled(2100)
    board.sampled(2200)
    assert board.flash.readings == {} and board.events("store.failed")
    board.refuse_stores = False
    board.at(board.now_ms + 10_000)
    assert [seq for _, seq in board.flash.readings] == [0, 1]
    board.power_on(100_000)
    board.link_up()
    board.at(110_000)
    assert board.seqs() == [0, 1], "they survived the loss of power"


def test_a_reading_that_was_acknowledged_meanwhile_is_not_put_on_flash_any_more() -> None:
    board = Board().started()
    board.refuse_stores = True
    board.sampled(2100)
    board.refuse_stores = False
    board.received(0, 0)
    board.at(board.now_ms + 10_000)
    assert board.flash.readings == {}
