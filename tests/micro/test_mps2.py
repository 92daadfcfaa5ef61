"""The devices of the emulated board: a clock that wraps, a UART that never blocks, a memory that stays."""

from collections.abc import Callable
from typing import Any

import pytest

from firmware.hosts.micro import memory
from firmware.hosts.micro.clock import Uptime
from firmware.hosts.micro.line import SEND_AGAIN_MS, SerialLink
from firmware.hosts.micro.mps2 import (
    CLOCK_KHZ,
    LONGEST_MS,
    READ_BYTES,
    TICKS_PERIOD_MS,
    TIMER0,
    TIMER1,
    UARTS,
    MemoryFlash,
    Timers,
    Uart,
    ticks_diff,
)
from firmware.hosts.micro.ring import Ring

UART = UARTS[0]
DATA, STATE, STATUS = UART, UART + 4, UART + 12
VALUE0, CTRL1, VALUE1 = TIMER0 + 4, TIMER1, TIMER1 + 4


class Mem32(dict[int, int]):
    """The board's words; the UART's have a life of their own, as DDI 0479C tells."""

    def __init__(self, received: bytes = b"", takes: int = 10**6) -> None:
        super().__init__()
        self.received = bytearray(received)
        self.sent = bytearray()
        self.takes = takes

    def __getitem__(self, at: int) -> int:
        if at == STATE:
            return (2 if self.received else 0) | (self.takes <= len(self.sent))
        if at == DATA:
            return self.received.pop(0)
        value = super().__getitem__(at)
        return value - (1 << 32) if value >> 31 else value  # MicroPython reads words as signed

    def __setitem__(self, at: int, value: int) -> None:
        assert 0 <= value < 1 << 32
        if at == DATA:
            self.sent.append(value)
        else:
            super().__setitem__(at, value)


@pytest.fixture
def mem32() -> Mem32:
    return Mem32()


def counting(mem32: Mem32, elapsed_ms: int) -> None:
    """Let the first timer, which counts down and around, have counted so long since it was started."""
    mem32[VALUE0] = (TICKS_PERIOD_MS - elapsed_ms % TICKS_PERIOD_MS) * CLOCK_KHZ - 1


def test_the_clock_goes_on_where_the_counter_wraps(mem32: Mem32) -> None:
    timers = Timers(mem32, lambda: None)
    uptime = Uptime(timers.ticks_ms, ticks_diff)
    for now_ms in (0, 1, 999, *range(0, 10 * TICKS_PERIOD_MS, LONGEST_MS // 7)):
        counting(mem32, now_ms)
        if now_ms >= uptime.now_ms():
            assert uptime.now_ms() == now_ms


@pytest.mark.parametrize(("wanted_ms", "slept_ms"), [(1, 1), (5000, 5000), (-1, LONGEST_MS), (10**9, LONGEST_MS)])
def test_the_board_stands_still_as_long_as_it_may_and_never_longer_than_the_clock_bears(
    mem32: Mem32, wanted_ms: int, slept_ms: int
) -> None:
    slept: list[tuple[int, int]] = []
    timers = Timers(mem32, lambda: slept.append((mem32[VALUE1] & 0xFFFFFFFF, mem32[CTRL1])))
    timers.idle(wanted_ms, Uart(mem32, 0))
    assert slept == [(slept_ms * CLOCK_KHZ, 9)]
    assert mem32[CTRL1] == 0
    assert LONGEST_MS < TICKS_PERIOD_MS // 2


def test_a_board_with_something_to_do_does_not_stand_still_and_still_lets_go_of_the_interrupt(mem32: Mem32) -> None:
    def never() -> None:
        raise AssertionError

    Timers(mem32, never).idle(0, Uart(mem32, 0))
    assert mem32[STATUS] == 2


def test_a_uart_gives_what_has_come_and_takes_what_it_can() -> None:
    mem32 = Mem32(bytes(range(256)) * 3, takes=5)
    uart = Uart(mem32, 0)
    assert uart.read() == (bytes(range(256)) * 3)[:READ_BYTES]
    assert uart.read() == bytes(range(256))
    assert uart.read() == b""
    assert uart.write(b"seven more") == 5
    assert mem32.sent == b"seven"
    assert uart.write(b" more") == 0


def flash_in(whole: bytearray, at: int, sectors: int) -> MemoryFlash:
    """The flash that begins at `at` of a memory."""
    return MemoryFlash(lambda begin, size: memoryview(whole)[at + begin : at + begin + size], sectors)


def test_what_a_ring_keeps_in_the_memory_is_there_after_a_loss_of_power() -> None:
    chip = bytearray(5 * 8192)  # zeros: no flash was ever here
    ring = Ring(flash_in(chip, 0, 5))
    assert ring.mount() == {}
    ring.write([("put", "boot", 7), ("keep", 7, 0, ["temp", "1", '"C"', 5, False])])
    found = Ring(flash_in(chip, 0, 5)).mount()
    assert found == {"slots": {"boot": 7}, "readings": [(7, 0, ["temp", "1", '"C"', 5, False])]}


def spoilt(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_a_board_believes_what_it_is_told_only_when_it_is_whole() -> None:
    told = {"core": {"id": "sensor-01"}, "seed": 5}
    encoded = memory.encode(told)
    assert memory.decode(encoded + bytes(100)) == told
    assert memory.decode(bytes(memory.FLASH_AT)) is None
    assert memory.decode(b"") is None
    assert not [at for at in range(len(encoded)) if memory.decode(spoilt(encoded, at)) is not None]
    with pytest.raises(ValueError, match="too many to tell a board"):
        memory.encode({"series": "x" * memory.FLASH_AT})


class Port:
    """A port that takes `takes` bytes at a time."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.takes = 10

    def read(self) -> bytes:
        return b""

    def write(self, data: bytes) -> int:
        self.sent += data[: self.takes]
        return min(len(data), self.takes)


class Draws:
    def getrandbits(self, bits: int) -> int:
        return 5


def link_on(port: Any) -> SerialLink:
    return SerialLink(port, "sensor-01", bytes(32), Draws())


def served_until(link: SerialLink, holds: Callable[[list[Any]], bool]) -> int:
    """Serve the link at its own deadlines; when it held."""
    now_ms = 0
    while not holds(link.serve(now_ms)):
        due_ms = link.next_deadline()
        assert due_ms is not None
        assert now_ms < 60_000
        now_ms = max(due_ms, now_ms)
    return now_ms


def test_a_line_that_takes_little_at_a_time_gets_all_of_it_without_a_busy_wait() -> None:
    port = Port()
    link = link_on(port)
    link.connect("the serial line", 0)
    ended_ms = served_until(link, lambda events: port.sent.endswith(b"\n"))
    assert port.sent.startswith(b"sensor-01/hello {")
    assert ended_ms == (len(port.sent) - 1) // port.takes * SEND_AGAIN_MS


def test_an_attempt_that_nobody_answers_ends_and_says_so_once() -> None:
    port = Port()
    port.takes = 1000
    link = link_on(port)
    assert link.next_deadline() is None
    link.connect("the serial line", 0)
    said: list[Any] = []
    served_until(link, lambda events: said.extend(events) or bool(said))
    assert said == [("down", "no answer to 6 tries")]
    assert (link.serve(10**6), link.next_deadline(), link.send("clawland/sensor-01/temp", b"{}", 10**6)) == (
        [],
        None,
        False,
    )
