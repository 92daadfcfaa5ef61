"""The clock of a board never goes back where its ticks wrap; its signals are those of a simulated node."""

from itertools import islice
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from firmware.hal.signals import SignalError, signal_from_spec
from firmware.hosts.micro.clock import RunClock, Uptime
from firmware.hosts.micro.signals import Signal

PERIOD = 1 << 30
numbers = st.integers(-4000, 9000)


@given(st.integers(0, PERIOD - 1), st.lists(st.integers(0, PERIOD // 2 - 1), max_size=20))
def test_uptime_is_the_sum_of_its_steps_wherever_the_ticks_wrap(start: int, steps_ms: list[int]) -> None:
    ticks = [start]
    clock = Uptime(lambda: ticks[0] % PERIOD, lambda new, old: (new - old + PERIOD // 2) % PERIOD - PERIOD // 2)
    for step_ms in steps_ms:
        ticks[0] += step_ms
        assert clock.now_ms() == ticks[0] - start
    assert clock.wall_ms(-5) == 0


def test_a_scenarios_clock_is_scaled_and_starts_where_it_is_told() -> None:
    now_ns = [4_000_000_000]
    clock = RunClock(lambda: now_ns[0], {"t0_monotonic_ns": 5_000_000_000, "timescale": 30, "epoch_utc_ms": 0})
    assert (clock.now_ms(), clock.until_start_ms()) == (0, 1001)
    now_ns[0] = 7_000_000_000
    assert (clock.now_ms(), clock.until_start_ms()) == (60_000, 0)
    assert [clock.wall_ms(core_ms) for core_ms in (-1, 0, 1, 30, 31, 60_000)] == [0, 0, 1, 1, 2, 2000]


@pytest.mark.parametrize(
    "found", [[], None, {"timescale": 1}, {"t0_monotonic_ns": 1, "timescale": 0, "epoch_utc_ms": 0}]
)
def test_what_is_no_clock_is_refused(found: object) -> None:
    with pytest.raises(ValueError, match=r"clock|must be"):
        RunClock(lambda: 0, found)


def agree(spec: dict[str, Any], times_ms: list[int]) -> None:
    theirs = signal_from_spec({"exp": 2, "type": "number", **spec})
    ours = Signal(theirs.portable(), False, 0)
    assert [ours.value_at(t_ms) for t_ms in times_ms] == [theirs.value_at(t_ms) for t_ms in times_ms]


times = st.lists(st.integers(0, 2**40), min_size=1, max_size=20)


@given(times, numbers, numbers, st.integers(1, 10**9), st.integers(0, 10**9))
def test_a_sine_is_the_same(at: list[int], mean: int, amplitude: int, period_ms: int, phase_ms: int) -> None:
    agree({"kind": "sine", "mean": mean, "amplitude": amplitude, "period_ms": period_ms, "phase_ms": phase_ms}, at)


@given(times, numbers, numbers, st.integers(0, 2**40), st.integers(1, 2**40))
def test_a_ramp_is_the_same(at: list[int], start: int, end: int, at_ms: int, over_ms: int) -> None:
    agree({"kind": "ramp", "from": start, "to": end, "at_ms": at_ms, "over_ms": over_ms}, at)


@given(times, st.dictionaries(st.integers(0, 2**40), numbers, min_size=1, max_size=8))
def test_steps_are_the_same(at: list[int], steps: dict[int, int]) -> None:
    agree({"kind": "steps", "steps": [{"at_ms": t, "value": steps[t]} for t in sorted(steps)]}, at + sorted(steps))


@given(times, st.sampled_from([0.001, 0.5, 40.0]), st.integers(-(2**63), 2**63 - 1))
@settings(max_examples=10)
def test_noise_is_the_same(at: list[int], noise: float, seed: int) -> None:
    agree({"kind": "ramp", "from": -3, "to": 30, "at_ms": 9, "over_ms": 10**6, "noise": noise, "seed": seed}, at)


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=6, unique=True), st.booleans(), st.integers(0, 5000))
def test_a_series_is_pushed_at_its_own_instants(times_ms: list[int], loop: bool, from_ms: int) -> None:
    from firmware.hal.signals import Series

    times_ms.sort()
    loop_ms = times_ms[-1] - times_ms[0] + 7 if loop else None
    series = Series(times_ms, list(range(len(times_ms))), loop_ms)
    expected = list(islice(series.instants(from_ms), 12))
    assume(expected or not loop)
    board = Signal(series.portable(), True, from_ms)
    found = []
    while board.due_ms is not None and len(found) < 12:
        found.append((board.due_ms, board.take(board.due_ms)))
    assert found == expected


def test_what_a_board_cannot_do_is_said_when_its_configuration_is_built() -> None:
    steps = [{"at_ms": at_ms, "value": 1} for at_ms in range(201)]
    with pytest.raises(SignalError, match="room"):
        signal_from_spec({"kind": "steps", "steps": steps, "exp": 2, "type": "number"}).portable()
