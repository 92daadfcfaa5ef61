"""Time on air by Semtech's own figures, and a duty cycle that no hour exceeds, wherever it begins."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.wire.airtime import WINDOW_MS, DutyCycle, time_on_air_us

# Semtech's calculator and The Things Network's, 125 kHz, 4/5, 8 symbols of preamble, explicit header, CRC.
KNOWN_US = [(7, 13, 46_336), (7, 51, 102_656), (8, 20, 102_912), (9, 20, 185_344), (10, 20, 370_688),
            (11, 20, 741_376), (12, 20, 1_318_912), (12, 51, 2_465_792)]  # fmt: skip


@pytest.mark.parametrize(("sf", "count", "expected_us"), KNOWN_US)
def test_time_on_air_is_that_of_the_published_calculators(sf: int, count: int, expected_us: int) -> None:
    assert time_on_air_us(count, sf) == expected_us


def test_a_frame_without_crc_is_never_longer() -> None:
    assert all(time_on_air_us(n, sf, crc=False) <= time_on_air_us(n, sf) for n in range(223) for sf in range(7, 13))


def test_an_hour_has_room_for_27_frames_of_twenty_bytes_at_sf12() -> None:
    duty, now_ms, times = DutyCycle(), 0, []
    while now_ms < 10 * WINDOW_MS:
        due_ms = duty.due_ms(1_318_912, now_ms)
        assert due_ms is not None
        if due_ms > now_ms:
            now_ms = due_ms
            continue
        duty.spend(1_318_912, now_ms)
        times.append(now_ms)
    assert len(times) == 10 * (36_000_000 // 1_318_912)  # 27 an hour


@given(st.integers(0, 1 << 32), st.lists(st.tuples(st.integers(1, 3_000_000), st.integers(0, 600_000)), max_size=80))
def test_no_hour_holds_more_than_its_share(start_ms: int, wishes: list[tuple[int, int]]) -> None:
    duty, now_ms, sent = DutyCycle(), start_ms, []
    for air_us, pause_ms in wishes:
        now_ms += pause_ms
        due_ms = duty.due_ms(air_us, now_ms)
        assert due_ms is not None and due_ms - now_ms <= WINDOW_MS + 60_000
        if random.Random(air_us).random() < 0.5:
            now_ms = due_ms
            assert duty.due_ms(air_us, now_ms) == now_ms
        if due_ms <= now_ms:
            duty.spend(air_us, now_ms)
            sent.append((now_ms, air_us))
        assert sum(us for at_ms, us in sent if now_ms - at_ms < WINDOW_MS) <= duty.allowed_us


def test_a_frame_longer_than_the_share_is_never_due_and_slices_stay_few() -> None:
    duty = DutyCycle(ppm=100)
    assert duty.due_ms(360_001, 0) is None
    for second in range(100_000):
        duty.spend(1, 1000 * second)
    assert len(duty._slices) <= WINDOW_MS // 60_000 + 2
