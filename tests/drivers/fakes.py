"""Parts as their data sheets describe them, down to what a driver can see of the wire."""

from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any

from firmware.drivers.crc import crc8_maxim, crc8_sensirion, crc16_a


class Pin:
    """A pin of the fake `machine`: what drives it, or else what a part (or the pull-up) makes of the line."""

    IN, OUT, OPEN_DRAIN = 0, 1, 2
    PULL_UP, PULL_DOWN = 1, 2

    def __init__(self, number: int = 0, mode: int = IN, pull: int = PULL_UP, value: int = 1) -> None:
        self.number = number
        self.level = value

    def init(self, mode: int, pull: int = PULL_UP) -> None:
        pass

    def value(self, level: int | None = None) -> int:
        if level is not None:
            self.level = level
        return self.level


class Dht22Line(Pin):
    """The line of a DHT22, and the `machine` that measures pulses on it. `frame` is what the part sends.

    Time is in microseconds; every call of `time_pulse_us` costs `overhead_us`, as a slow board's would.
    """

    def __init__(self, frame: bytes, overhead_us: int = 10) -> None:
        super().__init__()
        self.frame = frame
        self.overhead_us = overhead_us
        self.now_us = 0
        self.edges: list[int] = []  # the line changes at these instants, and is high before the first
        self.low_since: int | None = None
        self.irq = True
        self.Pin = Pin
        self.cut_bits = 0

    def init(self, mode: int, pull: int = Pin.PULL_UP) -> None:
        if mode == Pin.IN and self.low_since is not None:
            started = self.now_us - self.low_since >= 1000
            self.low_since = None
            self.edges = list(accumulate([self.now_us + 30, 80, 80, *self._bits(), 50])) if started else []

    def value(self, level: int | None = None) -> int:
        if level == 0:
            self.low_since = self.now_us
        return super().value(level)

    def sleep_us(self, us: int) -> None:
        self.now_us += us

    def disable_irq(self) -> bool:
        self.irq = False
        return True

    def enable_irq(self, state: bool) -> None:
        self.irq = state

    def time_pulse_us(self, pin: Pin, level: int, timeout_us: int) -> int:
        assert pin is self and level == 1 and not self.irq
        self.now_us += self.overhead_us
        begin_us = self._when(high=True)
        if begin_us is None or begin_us - self.now_us > timeout_us:
            self.now_us += timeout_us
            return -2
        self.now_us = begin_us
        end_us = self._when(high=False)
        if end_us is None or end_us - begin_us > timeout_us:
            self.now_us += timeout_us
            return -1
        self.now_us = end_us
        return end_us - begin_us

    def _when(self, high: bool) -> int | None:
        """From now on, when the line is at that level first."""
        passed = sum(edge <= self.now_us for edge in self.edges)
        if (passed % 2 == 0) == high:
            return self.now_us
        return self.edges[passed] if passed < len(self.edges) else None

    def _bits(self) -> Iterator[int]:
        bits = [byte >> (7 - at) & 1 for byte in self.frame for at in range(8)]
        for bit in bits[: len(bits) - self.cut_bits]:
            yield 50
            yield 70 if bit else 27


class Ds18b20Part:
    """A DS18B20: ROM commands, conversion, scratchpad."""

    def __init__(self, serial: int, raw: int = 0x0191) -> None:
        rom = b"\x28" + serial.to_bytes(6, "little")
        self.rom = rom + bytes([crc8_maxim(rom)])
        self.raw = raw
        self.power_on()

    def power_on(self) -> None:
        self.pad = self._pad(0x0550, 0x0C)
        self.bits: list[int] = []
        self.step: Callable[[], None] | None = None
        self.out: list[int] = []
        self.active = False

    def _pad(self, raw: int, remain: int) -> bytes:
        pad = bytes([raw & 0xFF, raw >> 8, 0x4B, 0x46, 0x7F, 0xFF, remain, 0x10])
        return pad + bytes([crc8_maxim(pad)])

    def reset(self) -> None:
        self.active, self.bits, self.out, self.searching, self.matching = True, [], [], -1, False

    def hear(self, bit: int) -> None:
        if not self.active:
            return
        if self.searching >= 0:
            self.active = bit == self._rom_bit(self.searching)
            self.searching = self.searching + 1 if self.searching < 63 else -1
            self._offer()
            return
        self.bits.append(bit)
        if self.matching and len(self.bits) == 64:
            self.active = self.bits == [self._rom_bit(at) for at in range(64)]
            self.bits, self.matching = [], False
        elif not self.matching and len(self.bits) == 8:
            self._command(sum(bit << at for at, bit in enumerate(self.bits)))
            self.bits = []

    def say(self) -> int:
        return self.out.pop(0) if self.active and self.out else 1

    def _offer(self) -> None:
        if self.searching >= 0:
            bit = self._rom_bit(self.searching)
            self.out = [bit, 1 - bit]

    def _rom_bit(self, at: int) -> int:
        return self.rom[at >> 3] >> (at & 7) & 1

    def _command(self, command: int) -> None:
        if command == 0xF0:
            self.searching = 0
            self._offer()
        elif command == 0x55:
            self.matching = True
        elif command == 0x44:
            self.pad = self._pad(self.raw, 0x10 - (self.raw & 0xF))
        elif command == 0xBE:
            self.out = [byte >> at & 1 for byte in self.pad for at in range(8)]


class OneWireSlots:
    """The port's `_onewire`: slots on a wire where a zero wins."""

    def __init__(self, *parts: Ds18b20Part) -> None:
        self.parts = list(parts)

    def reset(self, pin: Pin) -> bool:
        for part in self.parts:
            part.reset()
        return bool(self.parts)

    def writebit(self, pin: Pin, bit: int) -> None:
        for part in self.parts:
            part.hear(bit)

    def readbit(self, pin: Pin) -> int:
        return min([part.say() for part in self.parts], default=1)

    def writebyte(self, pin: Pin, byte: int) -> None:
        for at in range(8):
            self.writebit(pin, byte >> at & 1)

    def readbyte(self, pin: Pin) -> int:
        return sum(self.readbit(pin) << at for at in range(8))


class Scd4xBus:
    """An I²C bus with an SCD4x, on a clock that a test moves: what it refuses it does not acknowledge."""

    def __init__(self, words: tuple[int, int, int] = (0x01F4, 0x6667, 0x5EB9)) -> None:
        self.words = words
        self.now_ms = 0.0
        self.measuring_since: float | None = None
        self.taken_ms = 0.0
        self.answer_at: tuple[float, bytes] | None = None
        self.damage = False
        self.dead = False

    def sleep_ms(self, ms: int) -> None:
        self.now_ms += ms

    def writeto(self, address: int, data: bytes) -> None:
        command = int.from_bytes(data, "big")
        if self.dead or address != 0x62:
            raise OSError(19, "ENODEV")
        if command == 0x3F86:
            self.measuring_since = None
        elif command == 0x21B1:
            if self.measuring_since is not None:
                raise OSError(19, "ENODEV")  # a start while it measures
            self.measuring_since = self.taken_ms = self.now_ms
        elif command == 0xE4B8:
            self.answer_at = (self.now_ms + 1, self._packed(0x8006 if self._fresh() else 0x8000))
        elif command == 0xEC05:
            if not self._fresh():
                raise OSError(19, "ENODEV")
            self.taken_ms = self.now_ms
            self.answer_at = (self.now_ms + 1, self._packed(*self.words))

    def readfrom(self, address: int, size: int) -> bytes:
        if self.dead or self.answer_at is None or self.now_ms < self.answer_at[0]:
            raise OSError(19, "ENODEV")
        data = bytearray(self.answer_at[1][:size])
        self.answer_at = None
        if self.damage:
            data[0] ^= 1
        return bytes(data)

    def _fresh(self) -> bool:
        return self.measuring_since is not None and self.now_ms - self.taken_ms >= 5000

    def _packed(self, *words: int) -> bytes:
        parts = [word.to_bytes(2, "big") for word in words]
        return b"".join(part + bytes([crc8_sensirion(part)]) for part in parts)


class Card:
    """An ISO/IEC 14443 A card with an id of 4, 7 or 10 bytes."""

    def __init__(self, uid: str) -> None:
        self.uid = bytes.fromhex(uid)
        self.level = -1

    def answer(self, frame: bytes, last_bits: int) -> bytes:
        if frame == b"\x52" and last_bits == 7:
            self.level = 0
            return b"\x44\x00"
        if self.level < 0 or last_bits or frame[0] != (0x93, 0x95, 0x97)[self.level]:
            return b""
        part = self._part()
        if frame[1] == 0x20:
            return part
        if frame[1] == 0x70 and frame[2:7] == part and frame[7:] == crc16_a(frame[:7]):
            more = part[0] == 0x88
            self.level += more
            sak = b"\x04" if more else b"\x08"
            return sak + crc16_a(sak)
        return b""

    def _part(self) -> bytes:
        rest = self.uid[3 * self.level :]
        part = rest if len(rest) == 4 else b"\x88" + rest[:3]
        return part + bytes([part[0] ^ part[1] ^ part[2] ^ part[3]])


class Rc522Chip:
    """An MFRC522 behind SPI: registers, FIFO, the transceive command. `cards` are in its field."""

    def __init__(self, *cards: Card) -> None:
        self.cards = list(cards)
        self.select = Pin()
        self.dead = False
        self.hangs = False
        self.noise = 0
        self.power_on()

    def power_on(self) -> None:
        self.registers = [0] * 64
        self.registers[0x37] = 0x92
        self.registers[0x14] = 0x80  # TxControl: the antenna is off
        self.fifo = bytearray()

    def sleep_ms(self, ms: int) -> None:
        pass

    def write(self, data: bytes) -> None:
        assert self.select.level == 0 and not data[0] & 0x81
        register, value = data[0] >> 1, data[1]
        if register == 0x09:
            self.fifo.append(value)
        elif register == 0x0A and value & 0x80:
            self.fifo.clear()
        elif register == 0x04:
            self.registers[4] &= ~value if not value & 0x80 else 0xFF
        elif register == 0x01 and value == 0x0F:
            self.power_on()
        else:
            self.registers[register] = value
            if register == 0x0D and value & 0x80 and self.registers[1] == 0x0C and not self.hangs:
                self._transceive(value & 7)

    def write_readinto(self, data: bytes, answer: bytearray) -> None:
        assert self.select.level == 0 and data[0] & 0x80 and len(data) == len(answer)
        register = (data[0] & 0x7E) >> 1
        if self.dead:
            answer[1] = 0xFF
        elif register == 0x09:
            answer[1] = self.fifo.pop(0) if self.fifo else 0
        elif register == 0x0A:
            answer[1] = len(self.fifo)
        else:
            answer[1] = self.registers[register]

    def _transceive(self, last_bits: int) -> None:
        frame = bytes(self.fifo)
        self.fifo.clear()
        powered = self.registers[0x14] & 3 == 3
        answers = [found for card in self.cards if powered and (found := card.answer(frame, last_bits))]
        self.registers[6] = self.noise | (0x08 if len(set(answers)) > 1 else 0)
        if answers:
            self.fifo += answers[0]
            self.registers[4] |= 0x30
        else:
            self.registers[4] |= 0x01  # the timer ran out


class Adc:
    """An ADC that gives these raw values in turn."""

    def __init__(self, *raw: int) -> None:
        self.raw = list(raw)

    def read_u16(self) -> int:
        self.raw.append(self.raw.pop(0))
        return self.raw[-1]


class Uart:
    """A UART at which `data` has come; None when nothing has."""

    def __init__(self) -> None:
        self.data = b""

    def read(self, size: int) -> bytes | None:
        found, self.data = self.data[:size], self.data[size:]
        return found or None


class Board:
    """A `machine` with one bus of each kind, for the wiring."""

    def __init__(self, **buses: Any) -> None:
        board = self
        self.pins: dict[int, Pin] = {}
        self._buses = buses

        class BoardPin(Pin):
            def __init__(self, number: int, mode: int = Pin.IN, pull: int = Pin.PULL_UP, value: int = 1) -> None:
                super().__init__(number, mode, pull, value)
                board.pins[number] = self

        self.Pin = BoardPin

    def unique_id(self) -> bytes:
        return b"\xe6\x61\x41\x04\x03\x1a\x2b\x3c"

    def ADC(self, pin: Pin) -> Any:
        return self._buses["adc"]

    def I2C(self, bus: int, **options: Any) -> Any:
        return self._buses["i2c"]

    def SPI(self, bus: int, **options: Any) -> Any:
        return self._buses["spi"]

    def UART(self, bus: int, baud: int, **options: Any) -> Any:
        return self._buses["uart"]
