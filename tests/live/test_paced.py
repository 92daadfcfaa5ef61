"""A SimPy environment keeps time with the wall, and takes inputs from outside in between."""

import asyncio
import time
from typing import Any

import pytest
from simpy import Environment
from simpy.events import Timeout

from clawsim.live.pace import Pace, Standstill, lag_p99_ms
from clawsim.live.paced import Pacer
from clawsim.trace import TraceEvent
from clawsim.verdict import MOST_LAG_MS
from firmware.hosting.clock import ScaledClock

SCALE = 1000.0  # a core second is a millisecond


def paced(scale: float = SCALE) -> tuple[Environment, Pace, Pacer]:
    env = Environment()
    pace = Pace(ScaledClock(time.monotonic_ns(), scale, 0))
    return env, pace, Pacer(env, pace)


def at(env: Environment, t_us: int, call: Any) -> None:
    Timeout(env, t_us).callbacks.append(lambda _: call())  # type: ignore[union-attr]


async def test_events_happen_when_they_are_due_and_not_before() -> None:
    env, pace, pacer = paced()
    seen: list[tuple[float, int]] = []
    for t_us in (10_000_000, 30_000_000, 20_000_000):
        at(env, t_us, lambda: seen.append((env.now, pace.now_us())))
    await pacer.run(40_000_000)
    assert [due for due, _ in seen] == [10_000_000, 20_000_000, 30_000_000]
    assert all(real_us >= due for due, real_us in seen)
    assert env.now == 40_000_000


async def test_an_input_happens_after_all_that_was_due_before_it() -> None:
    env, _, pacer = paced()
    seen: list[str] = []
    at(env, 10_000_000, lambda: seen.append("due at 10 s"))
    at(env, 10_000_000_000, lambda: seen.append("due much later"))
    running = asyncio.create_task(pacer.run(60_000_000))
    await asyncio.sleep(0.02)
    pacer.feed(lambda: seen.append(f"input at {'more than 10 s' if env.now > 10_000_000 else 'too early'}"))
    await running
    assert seen == ["due at 10 s", "input at more than 10 s"]


async def test_what_an_input_causes_is_not_slept_through() -> None:
    env, _, pacer = paced(1.0)
    done = asyncio.Event()
    running = asyncio.create_task(pacer.run(60_000_000))
    await asyncio.sleep(0)
    pacer.feed(lambda: at(env, 1000, done.set))
    await asyncio.wait_for(done.wait(), 0.15)  # without the input the next look at the clock is 0.2 s away
    running.cancel()


async def test_nothing_goes_beyond_the_end_of_a_phase() -> None:
    env, _, pacer = paced()
    at(env, 10_000_000, lambda: None)
    at(env, 5_000_000, lambda: time.sleep(0.05))  # the wall passes the end meanwhile
    await pacer.run(10_000_000)
    assert env.now == 10_000_000 and env.peek() == 10_000_000


class ByHand(Pace):
    """A clock that is set."""

    at_us = 0

    def now_us(self) -> int:
        return self.at_us


def test_lateness_is_the_worst_of_each_30_s_of_core_time() -> None:
    env = Environment()
    pace = ByHand(ScaledClock(0, 1.0, 0))
    pacer = Pacer(env, pace)
    for due_us, now_us in [
        (1_000_000, 1_004_000),
        (2_000_000, 2_700_000),
        (3_000_000, 3_001_000),
        (40_000_000, 52_000_000),
    ]:
        at(env, due_us - int(env.now), lambda: None)
        pace.at_us = now_us
        pacer.advance()
    assert pace.reports_ms() == [700, 12_000]


async def test_it_sleeps_while_nothing_is_due() -> None:
    env, _, pacer = paced()
    at(env, 190_000_000, lambda: None)
    looks = 0

    def look(*_: object) -> float:
        nonlocal looks
        looks += 1
        return 190_000_000.0

    env.peek = look  # type: ignore[method-assign]
    await pacer.run(180_000_000)
    assert looks < 10


async def test_a_failure_outside_ends_the_run() -> None:
    _, _, pacer = paced(1.0)
    running = asyncio.create_task(pacer.run(60_000_000))
    await asyncio.sleep(0)
    pacer.fail(RuntimeError("the hub fell over"))
    with pytest.raises(RuntimeError, match="the hub fell over"):
        await running


async def test_a_failure_inside_an_input_ends_the_run_and_not_its_caller() -> None:
    _, _, pacer = paced(1.0)
    pacer.feed(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await pacer.run(60_000_000)


async def test_nobody_inside_hears_anything_once_the_run_is_over() -> None:
    _, _, pacer = paced()
    heard: list[int] = []
    pacer.close()
    pacer.feed(heard.append, 1)
    assert not heard


async def test_while_time_stands_still_only_what_is_due_at_once_happens() -> None:
    env, _, pacer = paced(0.001)
    seen: list[str] = []
    at(
        env,
        0,
        lambda: (
            seen.append("now"),
            at(env, 0, lambda: seen.append("and now")),
            at(env, 1, lambda: seen.append("later")),
        ),
    )
    pacer.at_once()
    assert seen == ["now", "and now"] and env.now == 0


def lag(t_s: float, who: str, worst_ms: int) -> TraceEvent:
    return TraceEvent(int(t_s * 1e6), "host.lag", who, {"worst_ms": worst_ms, "timers": 3})


def test_the_lag_is_the_99th_percentile_of_all_reports() -> None:
    reports = [lag(i, "sensor-01", i) for i in range(1, 201)]
    assert lag_p99_ms(reports, [], []) == 198
    assert lag_p99_ms([*reports, lag(1, "fleet", 99_000)], [], []) == 199
    assert lag_p99_ms([], [MOST_LAG_MS + 1], []) > MOST_LAG_MS
    assert lag_p99_ms([], [], []) == 0


def test_a_process_that_stood_still_on_purpose_is_not_called_late() -> None:
    stop = Standstill("gateway-01", 60_000_000, 120_000_000)
    assert lag_p99_ms([lag(121, "gateway-01", 60_000)], [1], [stop]) == 1
    assert lag_p99_ms([lag(121, "fleet", 60_000)], [1], [stop]) == 60_000
    assert lag_p99_ms([lag(200, "gateway-01", 60_000)], [1], [stop]) == 60_000
