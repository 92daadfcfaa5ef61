"""What the sensors of a rehearsed board read: signals that `firmware build` has brought into integers.

`["constant", value]`, `["sine", mean, amplitude, period_ms, phase_ms]`, `["ramp", from, to, at_ms, over_ms]`,
`["series", times_ms, values, loop_ms or null]` and `["noisy", signal, millionths, key]`, in the metric's resolution:
the same values as `firmware.hal.signals` gives, but for a sine on a board whose floating point has 32 bits.
"""

import binascii
import math
import struct

from firmware.hosts.micro.blake2b import digest

_NOISE_TERMS = 12  # see `firmware.hal.signals`


class Signal:
    """A source of values; `due_ms` is when it has something to say by itself, None when it waits to be asked."""

    def __init__(self, spec: list, own_instants: bool, from_ms: int) -> None:
        self._noise: tuple | None = None
        if spec[0] == "noisy":
            self._noise = (spec[2], binascii.unhexlify(spec[3]))
            spec = spec[1]
        self._kind = spec[0]
        self._spec = spec
        self.due_ms: int | None = None
        if own_instants and self._kind == "series":
            self.due_ms = self._next_instant(from_ms)

    def value_at(self, t_ms: int):
        """The value at `t_ms` milliseconds from the start of the run."""
        value = self._plain_at(t_ms)
        return value if self._noise is None else value + _noise(self._noise[0], self._noise[1], t_ms)

    def _plain_at(self, t_ms: int):
        spec = self._spec
        if self._kind == "constant":
            return spec[1]
        if self._kind == "sine":
            turn = (t_ms + spec[4]) % spec[3] / spec[3]
            return round(spec[1] + spec[2] * math.sin(2 * math.pi * turn))
        if self._kind == "ramp":
            elapsed_ms = min(max(t_ms - spec[3], 0), spec[4])
            return spec[1] + _divide_half_even((spec[2] - spec[1]) * elapsed_ms, spec[4])
        return spec[2][self._index_at(t_ms)]

    def take(self, now_ms: int):
        """The value of the instant that was due; the next one is set."""
        value = self.value_at(self.due_ms or 0)
        self.due_ms = self._next_instant((self.due_ms or 0) + 1)
        return value

    def _index_at(self, t_ms: int) -> int:
        times_ms, loop_ms = self._spec[1], self._spec[3]
        if loop_ms and t_ms >= times_ms[0]:
            t_ms = times_ms[0] + (t_ms - times_ms[0]) % loop_ms
        low, high = 0, len(times_ms)
        while low < high:
            middle = (low + high) // 2
            if times_ms[middle] <= t_ms:
                low = middle + 1
            else:
                high = middle
        return max(low - 1, 0)

    def _next_instant(self, from_ms: int) -> "int | None":
        times_ms, loop_ms = self._spec[1], self._spec[3]
        offset_ms = 0
        if loop_ms and from_ms > times_ms[-1]:
            offset_ms = (from_ms - times_ms[0]) // loop_ms * loop_ms
        for _ in range(2):
            for at_ms in times_ms:
                if at_ms + offset_ms >= from_ms:
                    return int(at_ms + offset_ms)
            if not loop_ms:
                return None
            offset_ms += loop_ms
        return None


def _noise(millionths: int, key: bytes, t_ms: int) -> int:
    draws = struct.unpack("<12H", digest(struct.pack("<q", t_ms), 24, key))
    return _divide_half_even((2 * sum(draws) - _NOISE_TERMS * 65535) * millionths, 131072 * 1000000)


def _divide_half_even(numerator: int, denominator: int) -> int:
    quotient, rest = divmod(numerator, denominator)
    if 2 * rest > denominator or (2 * rest == denominator and quotient % 2):
        return quotient + 1
    return quotient
