"""SCD40 and SCD41: CO₂, temperature and humidity over I²C (Sensirion, SCD4x data sheet, version 1.4).

It measures by itself every 5 s. A board that restarts may find it measuring, when it takes no start: it is stopped
first.
"""

from firmware.drivers import Fault
from firmware.drivers.crc import crc8_sensirion

ADDRESS = 0x62
PERIOD_MS = 5000
STOP_MS = 500
_START, _STOP, _IS_READY, _READ = 0x21B1, 0x3F86, 0xE4B8, 0xEC05
_EXECUTION_MS = 1
_AGAIN_MS = 500
_MOST_LOOKS = 20

_OFF, _STOPPING, _MEASURING = 0, 1, 2


class Scd4x:
    """The part on `i2c` (`writeto`, `readfrom`, as MicroPython's `machine.I2C`)."""

    exp = {"co2": 0, "temp": 2, "humidity": 2}

    def __init__(self, i2c, sleep_ms) -> None:
        self._i2c = i2c
        self._sleep_ms = sleep_ms
        self._state = _OFF
        self._looks = 0
        self.ready_ms = 0

    def begin(self, now_ms: int) -> None:
        """Have it measure, if it does not. Raises OSError."""
        self._looks = 0
        self.ready_ms = now_ms
        if self._state == _OFF:
            self._command(_STOP)
            self._state = _STOPPING
            self.ready_ms = now_ms + STOP_MS

    def read(self, now_ms: int) -> "dict | None":
        """CO₂ in ppm, temperature in 0.01 °C, relative humidity in 0.01 %. Raises `Fault` and OSError."""
        try:
            return self._read(now_ms)
        except (Fault, OSError):
            self._state = _OFF  # perhaps it lost its power: begin from the beginning
            raise

    def _read(self, now_ms: int) -> "dict | None":
        if self._state == _STOPPING:
            self._command(_START)
            self._state = _MEASURING
            self.ready_ms = now_ms + PERIOD_MS
            return None
        if not self._words(_IS_READY, 1)[0] & 0x07FF:
            self._looks += 1
            if self._looks >= _MOST_LOOKS:
                raise Fault("it does not measure")
            self.ready_ms = now_ms + _AGAIN_MS
            return None
        co2, temp, humidity = self._words(_READ, 3)
        if not co2:
            raise Fault("0 ppm: the measurement failed")
        return {
            "co2": co2,
            "temp": (2 * 17500 * temp + 65535) // (2 * 65535) - 4500,
            "humidity": (2 * 10000 * humidity + 65535) // (2 * 65535),
        }

    def _command(self, command: int) -> None:
        self._i2c.writeto(ADDRESS, bytes([command >> 8, command & 0xFF]))

    def _words(self, command: int, count: int) -> "list[int]":
        self._command(command)
        self._sleep_ms(_EXECUTION_MS)
        data = self._i2c.readfrom(ADDRESS, 3 * count)
        for at in range(0, 3 * count, 3):
            if crc8_sensirion(data[at : at + 2]) != data[at + 2]:
                raise Fault("wrong checksum")
        return [data[at] << 8 | data[at + 1] for at in range(0, 3 * count, 3)]
