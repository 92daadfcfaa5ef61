"""The parts that speak for themselves, debounced: a door, a detector of motion, cards at a reader."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.drivers import Fault
from firmware.drivers.debounce import Debounce
from firmware.drivers.digital import Digital
from firmware.drivers.rc522 import AWAY_MS, CHECK_MS, POLL_MS, Rc522
from tests.drivers.fakes import Card, Pin, Rc522Chip


def spoken(part: Any, now_ms: int, until_ms: int) -> list[tuple[int, Any]]:
    """What the part says when it is polled as it wants."""
    said = []
    while now_ms <= until_ms:
        value = part.poll(now_ms)
        if value is not None:
            said.append((now_ms, value))
        now_ms = max(now_ms + 1, part.due_ms)
    return said


def contact(edges: list[int], **wiring: Any) -> list[tuple[int, bool]]:
    """A contact that opens at 0 and changes at these instants, polled for ten seconds."""

    class Contact(Pin):
        now_ms = 0

        def value(self, level: int | None = None) -> int:
            return sum(edge <= self.now_ms for edge in edges) % 2

    pin = Contact()
    part = Digital(pin, **{"active_low": False, "rise_ms": 50, "fall_ms": 50} | wiring)
    said = []
    for now_ms in range(0, 10_000, 5):
        pin.now_ms = now_ms
        value = part.poll(now_ms)
        if value is not None:
            said.append((now_ms, value))
    return said


def test_a_door_says_how_it_stands_at_first_and_then_each_change_once_however_it_bounces() -> None:
    bounces = [1000, 1003, 1011, 1018, 1022, 5000, 5009, 5014]
    assert contact(bounces) == [(50, False), (1075, True), (5065, False)]


def test_a_pulse_shorter_than_the_debounce_is_no_event() -> None:
    assert contact([1000, 1040, 2000, 2020]) == [(50, False)]


def test_motion_lasts_until_nothing_has_moved_for_its_hold() -> None:
    moves = [1000, 1500, 2500, 3000]
    assert contact(moves, rise_ms=0, fall_ms=3000) == [(1000, True), (6000, False)]


def test_a_contact_to_ground_is_active_when_it_is_low() -> None:
    assert contact([1000], active_low=True) == [(50, True), (1050, False)]


@given(st.lists(st.tuples(st.integers(0, 200), st.booleans()), max_size=60))
def test_two_events_of_a_debounced_contact_always_differ_and_lasted(steps: list[tuple[int, bool]]) -> None:
    debounce, now_ms, events = Debounce(30, 70), 0, []
    since, level = 0, None
    for wait_ms, seen in steps:
        now_ms += wait_ms
        if seen != level:
            since, level = now_ms, seen
        if debounce.push(seen, now_ms):
            events.append(seen)
            assert now_ms - since >= (30 if seen else 70)
    assert all(a != b for a, b in pairwise(events))


def reader(*cards: Card) -> tuple[Rc522Chip, Rc522]:
    chip = Rc522Chip(*cards)
    return chip, Rc522(chip, chip.select, chip.sleep_ms)


@pytest.mark.parametrize("uid", ["deadbeef", "04a1b2c3d4e5f6", "04112233445566778899"])
def test_a_card_is_read_by_its_whole_id_of_4_7_or_10_bytes(uid: str) -> None:
    _, part = reader(Card(uid))
    assert part.poll(0) == uid


def test_a_card_that_stays_is_one_event_and_one_that_was_away_is_another() -> None:
    card = Card("deadbeef")
    chip, part = reader(card)
    assert spoken(part, 0, 2000) == [(0, "deadbeef")]
    chip.cards = []
    assert spoken(part, 2100, 2100 + AWAY_MS // 2) == []
    chip.cards = [card]
    assert spoken(part, 2700, 3000) == []  # it was hardly away
    chip.cards = []
    assert spoken(part, 3100, 3100 + 2 * AWAY_MS) == []
    chip.cards = [card]
    assert [value for _, value in spoken(part, 6000, 6500)] == ["deadbeef"]


def test_another_card_is_news_at_once() -> None:
    chip, part = reader(Card("deadbeef"))
    part.poll(0)
    chip.cards = [Card("01020304")]
    assert part.poll(POLL_MS) == "01020304"


def test_two_cards_at_once_and_noise_are_no_card() -> None:
    chip, part = reader(Card("deadbeef"), Card("01020304"))
    assert part.poll(0) is None
    chip.cards.pop()
    chip.noise = 0x02
    assert part.poll(100) is None
    chip.noise = 0
    assert part.poll(200) == "deadbeef"


def test_a_reader_that_is_unplugged_is_a_fault_and_found_again() -> None:
    chip, part = reader(Card("deadbeef"))
    part.poll(0)
    chip.dead = True
    with pytest.raises(Fault, match="no reader"):
        spoken(part, POLL_MS, 2 * CHECK_MS)
    chip.dead = False
    chip.power_on()
    chip.cards = [Card("01020304")]
    assert part.poll(part.due_ms) == "01020304"


def test_a_reader_that_lost_its_power_for_a_moment_is_set_up_again() -> None:
    chip, part = reader()
    part.poll(0)
    chip.power_on()
    chip.cards = [Card("deadbeef")]
    assert [value for _, value in spoken(part, POLL_MS, CHECK_MS + POLL_MS)] == ["deadbeef"]


def test_a_reader_that_hangs_is_a_fault_and_no_hang() -> None:
    chip, part = reader()
    part.poll(0)
    chip.hangs = True
    with pytest.raises(Fault, match="hangs"):
        part.poll(100)
