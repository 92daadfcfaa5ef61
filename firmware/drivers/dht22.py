"""DHT22 (AM2302): temperature and humidity over one wire, 40 bits by the length of their high pulses.

The host pulls the line low for 1 ms or more; the part answers 80 µs low, 80 µs high, then for each bit 50 µs low and
26 to 28 µs (0) or 70 µs (1) high (Aosong, "Digital-output relative humidity & temperature sensor AM2303", section 7).
"""

from firmware.drivers import Fault

REST_MS = 2000  # between two measurements
_START_US = 1200
_ONE_US = 48  # half way between the longest 0 and a 1
_TIMEOUT_US = 200
_BITS = 40
_MOST_PULSES = 43  # the release of the line, the answer, the bits, and one too many


class Dht22:
    """The part on `pin`; `machine` has `Pin`, `time_pulse_us`, `disable_irq` and `enable_irq`."""

    exp = {"temp": 1, "humidity": 1}

    def __init__(self, machine, pin, sleep_us) -> None:
        self._machine = machine
        self._pin = pin
        self._sleep_us = sleep_us
        self.ready_ms = 0

    def begin(self, now_ms: int) -> None:
        """The part measures when it is read, and wants a rest in between."""
        self.ready_ms = max(self.ready_ms, now_ms)

    def read(self, now_ms: int) -> dict:
        """Temperature in 0.1 °C and relative humidity in 0.1 %. Raises `Fault`."""
        self.ready_ms = now_ms + REST_MS
        data = _bytes(self._pulses_us())
        if sum(data[:4]) & 0xFF != data[4]:
            raise Fault("wrong checksum")
        temp = (data[2] & 0x7F) << 8 | data[3]
        return {"humidity": data[0] << 8 | data[1], "temp": -temp if data[2] & 0x80 else temp}

    def _pulses_us(self) -> "list[int]":
        """The lengths of the high pulses, the last 40 of which are the bits."""
        machine, pin = self._machine, self._pin
        pin.init(machine.Pin.OUT)
        pin.value(0)
        self._sleep_us(_START_US)
        pulses: list[int] = []
        irq = machine.disable_irq()  # an interrupt lasts longer than a bit
        try:
            pin.init(machine.Pin.IN, machine.Pin.PULL_UP)
            while len(pulses) < _MOST_PULSES:
                pulse_us = machine.time_pulse_us(pin, 1, _TIMEOUT_US)
                if pulse_us < 0:
                    break
                pulses.append(pulse_us)
        finally:
            machine.enable_irq(irq)
        return pulses


def _bytes(pulses: "list[int]") -> "list[int]":
    if len(pulses) < 2:
        raise Fault("no answer")
    if len(pulses) >= _MOST_PULSES:
        raise Fault("the line is noisy")
    if len(pulses) <= _BITS or pulses[-_BITS - 1] <= _ONE_US:  # before the bits comes the answer, 80 µs
        raise Fault("bits are missing")
    data = [0] * 5
    for index, pulse_us in enumerate(pulses[-_BITS:]):
        data[index >> 3] = data[index >> 3] << 1 | (pulse_us > _ONE_US)
    return data
