"""The clock: calls at instants and SimPy's own events share one queue, in the order in which they are due."""

from collections.abc import Iterator

import pytest
from simpy import Event
from simpy.core import EmptySchedule

from clawsim.virtual.clock import Clock


def test_calls_and_a_process_of_simpy_take_turns_in_the_order_of_time() -> None:
    clock = Clock()
    said: list[tuple[int, str]] = []

    def process() -> Iterator[Event]:
        for word in ("first", "third"):
            said.append((clock.now_us, word))
            yield clock.timeout(2_000)

    clock.process(process())
    clock.call_at(1_000, lambda word: said.append((clock.now_us, word)), "second")
    clock.run_until(10_000)
    assert said == [(0, "first"), (1_000, "second"), (2_000, "third")]
    assert clock.now_us == 10_000


def test_what_is_due_at_the_end_waits_for_the_next_run() -> None:
    clock = Clock()
    said: list[int] = []
    clock.call_at(500, said.append, 1)
    clock.run_until(500)
    assert said == []
    clock.run_until(501)
    assert said == [1]


def test_calls_of_one_instant_come_in_the_order_in_which_they_were_asked_for() -> None:
    clock = Clock()
    said: list[int] = []
    for number in range(5):
        clock.call_at(700, said.append, number)
    while clock.peek() <= 700:
        clock.step()
    assert said == [0, 1, 2, 3, 4]
    with pytest.raises(EmptySchedule):
        clock.step()


def test_a_process_that_fails_ends_the_run_with_its_own_error() -> None:
    clock = Clock()

    def process() -> Iterator[Event]:
        yield clock.timeout(10)
        raise LookupError("a sensor that is not there")

    clock.process(process())
    with pytest.raises(LookupError, match="not there"):
        clock.run_until(100)
