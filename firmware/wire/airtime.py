"""How long a LoRa frame is on the air, and how much of an hour a transmitter may be.

Integers in microseconds: the same for a board, a gateway and the simulator.
"""

BANDWIDTH_HZ = 125000
PREAMBLE_SYMBOLS = 8  # LoRaWAN's, and every concentrator's
CODING_RATE = 5  # 4/5
WINDOW_MS = 3600000
DUTY_PPM = 10000  # 1 %: EU868, 868.0 to 868.6 MHz (ETSI EN 300 220-2, band M)
_SLOW_SYMBOL_US = 16000  # from here on the modems have to optimise for a low data rate
_SLICE_MS = 60000
_PPM = 1000000


def time_on_air_us(count: int, sf: int, crc: bool = True) -> int:
    """Of a frame of `count` bytes at 125 kHz, with explicit header: Semtech AN1200.13 (and SX1276 data sheet, 4.1.1.7).

    Downlinks of a concentrator have no CRC.
    """
    symbol_us = (1 << sf) * 1000000 // BANDWIDTH_HZ
    slow = symbol_us >= _SLOW_SYMBOL_US
    bits = 8 * count - 4 * sf + 28 + (16 if crc else 0)
    bits_a_block = 4 * (sf - 2 * slow)
    symbols = 8 + max((bits + bits_a_block - 1) // bits_a_block, 0) * CODING_RATE
    return (4 * (PREAMBLE_SYMBOLS + symbols) + 17) * symbol_us // 4  # the preamble ends with 4.25 symbols


class DutyCycle:
    """The airtime of a transmitter in the last hour, in slices of it; a slice counts until all of it is older."""

    def __init__(self, ppm: int = DUTY_PPM, slice_ms: int = _SLICE_MS) -> None:
        """`ppm`: the share of the hour, in millionths. Longer slices need less memory, and waste up to one of them."""
        self.allowed_us = ppm * (WINDOW_MS * 1000 // _PPM)
        self._slice_ms = slice_ms
        self._slices: list[list[int]] = []  # when it ends (ms), what was on the air in it (µs)

    def spend(self, air_us: int, now_ms: int) -> None:
        """A frame starts at `now_ms`."""
        end_ms = now_ms - now_ms % self._slice_ms + self._slice_ms
        if self._slices and self._slices[-1][0] == end_ms:
            self._slices[-1][1] += air_us
        else:
            self._forget(now_ms)
            self._slices.append([end_ms, air_us])

    def as_slot(self, now_ms: int) -> "list[list[int]]":
        """What to keep on flash: how long the slices still count from `now_ms` on (ms), and their airtime (µs)."""
        self._forget(now_ms)
        return [[part[0] + WINDOW_MS - now_ms, part[1]] for part in self._slices]

    def restore(self, slot: "list[list[int]]", now_ms: int) -> None:
        """What `as_slot` gave, at the instant that it was made for or any later one."""
        self._slices = [[now_ms + left_ms - WINDOW_MS, air_us] for left_ms, air_us in slot]

    def used_us(self, now_ms: int) -> int:
        """What counts at `now_ms`."""
        self._forget(now_ms)
        return sum([part[1] for part in self._slices])

    def due_ms(self, air_us: int, now_ms: int) -> "int | None":
        """When a frame of that airtime may start, at the earliest now; None if it is longer than the hour's share."""
        if air_us > self.allowed_us:
            return None
        over_us = self.used_us(now_ms) + air_us - self.allowed_us
        due_ms = now_ms
        for end_ms, used_us in self._slices:
            if over_us <= 0:
                break
            over_us -= used_us
            due_ms = end_ms + WINDOW_MS
        return due_ms

    def _forget(self, now_ms: int) -> None:
        while self._slices and self._slices[0][0] + WINDOW_MS <= now_ms:
            self._slices.pop(0)
