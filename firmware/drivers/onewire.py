"""The 1-Wire bus: who is on it, and speaking to one of them (Maxim, DS18B20 data sheet and application note 187).

A bit slot is a matter of microseconds, so slots are the port's own: MicroPython's `_onewire` has them.
"""

from firmware.drivers import Fault
from firmware.drivers.crc import crc8_maxim

MAX_PARTS = 32
_SEARCH, _MATCH = 0xF0, 0x55


class OneWire:
    """The bus on `pin`; `slots` has `reset(pin)`, true when somebody is there, `readbit`, `writebit` and bytes of
    them, as MicroPython's `_onewire`."""

    def __init__(self, slots, pin) -> None:
        self._slots = slots
        self._pin = pin

    def reset(self) -> None:
        """Begin to speak; raises `Fault` when nobody is there."""
        if not self._slots.reset(self._pin):
            raise Fault("nobody on the wire")

    def write(self, data: bytes) -> None:
        """Send `data`."""
        for byte in data:
            self._slots.writebyte(self._pin, byte)

    def read(self, size: int) -> bytes:
        """Fetch `size` bytes; all ones when nobody answers."""
        return bytes([self._slots.readbyte(self._pin) for _ in range(size)])

    def select(self, rom: bytes) -> None:
        """Speak to the part with this ROM code. Raises `Fault`."""
        self.reset()
        self.write(bytes([_MATCH]) + rom)

    def search(self) -> "list[bytes]":
        """The ROM codes of all parts, eight bytes each, in the order of the search. Raises `Fault`: nobody is there, or
        a code is damaged."""
        found: list[bytes] = []
        rom, last_fork = [0] * 64, -1
        while len(found) < MAX_PARTS:
            self.reset()
            self.write(bytes([_SEARCH]))
            last_fork = self._walk(rom, last_fork)
            found.append(_packed(rom))
            if crc8_maxim(found[-1]) or not any(found[-1]):
                raise Fault("a damaged ROM code")
            if last_fork < 0:
                break
        return found

    def _walk(self, rom: "list[int]", last_fork: int) -> int:
        """Follow the bits of `rom` up to the last fork, there take the other branch; the fork to come back to."""
        slots, pin, fork = self._slots, self._pin, -1
        for at in range(64):
            bit, complement = slots.readbit(pin), slots.readbit(pin)
            if bit and complement:
                raise Fault("a part left the wire")
            if bit == complement:  # zeros and ones answer at once
                bit = rom[at] if at < last_fork else int(at == last_fork)
                if not bit:
                    fork = at
            rom[at] = bit
            slots.writebit(pin, bit)
        return fork


def _packed(bits: "list[int]") -> bytes:
    packed = bytearray(8)
    for at in range(64):
        packed[at >> 3] |= bits[at] << (at & 7)
    return bytes(packed)
