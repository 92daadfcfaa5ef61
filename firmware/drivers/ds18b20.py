"""DS18B20: temperature over 1-Wire (Maxim data sheet 19-7487)."""

from firmware.drivers import Fault
from firmware.drivers.crc import crc8_maxim

FAMILY = 0x28
CONVERSION_MS = 750  # 12 bits
_CONVERT, _READ = 0x44, 0xBE
_POWER_ON = 0x0550  # 85 °C, until the first conversion


class Ds18b20:
    """The part with the ROM code `rom` on a `firmware.drivers.onewire.OneWire`."""

    exp = {"temp": 4}

    def __init__(self, wire, rom: bytes) -> None:
        """Raises ValueError for a ROM code of another kind of part."""
        if len(rom) != 8 or rom[0] != FAMILY:
            raise ValueError("no DS18B20 has such a ROM code")
        self._wire = wire
        self._rom = rom
        self.ready_ms = 0

    def begin(self, now_ms: int) -> None:
        """Start a conversion. Raises `Fault`."""
        self._wire.select(self._rom)
        self._wire.write(bytes([_CONVERT]))
        self.ready_ms = now_ms + CONVERSION_MS

    def read(self, now_ms: int) -> dict:
        """The temperature in 0.0001 °C (steps of 0.0625 °C). Raises `Fault`."""
        self._wire.select(self._rom)
        self._wire.write(bytes([_READ]))
        pad = self._wire.read(9)
        if pad == b"\xff" * 9:
            raise Fault("no answer")
        if crc8_maxim(pad) or pad[4] & 0x9F != 0x1F:  # a short circuit reads as zeros, whose checksum is right
            raise Fault("wrong checksum")
        raw = pad[0] | pad[1] << 8
        if raw == _POWER_ON and pad[6] == 0x0C:  # the register's state before any conversion
            raise Fault("it lost its power during the conversion")
        return {"temp": (raw - 0x10000 if raw & 0x8000 else raw) * 625}


def find(wire) -> "list[bytes]":
    """The ROM codes of all DS18B20 on the wire. Raises `Fault`."""
    return [rom for rom in wire.search() if rom[0] == FAMILY]
