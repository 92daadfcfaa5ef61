"""What a sensor would read, as a pure function of time: the same values in a simulated node and in a node's process.

CPython only, standard library only. A signal is made from a specification of plain JSON values (no nulls, so that it
also fits a TOML file), in which durations are milliseconds, values are in the metric's unit, and ``exp`` is the
resolution: values come out as integers in units of ``10 ** -exp``. The kinds, each with ``kind``, ``exp`` and ``type``
(``number``, ``bool`` or ``text``):

=============  =========================================================================================
``constant``   ``value``
``sine``       ``mean``, ``amplitude``, ``period_ms``, ``phase_ms``
``steps``      ``steps``: list of ``{"at_ms", "value"}``, ordered; before the first its value holds
``ramp``       ``from``, ``to``, ``at_ms``, ``over_ms``
``recording``  ``path``, ``column``, ``time``, ``gaps``, ``loop``, perhaps ``start`` (see ``firmware.hal.recording``)
=============  =========================================================================================

Numbers may also have ``noise`` (a standard deviation) and its ``seed``. Noise is a hash of (seed, time), so it depends
on no order of calls, and a sum of integers, so it depends on no mathematics library.

Rounding is half to even everywhere: exact decimal arithmetic for values that people wrote, integers for ramps. Only
``sine`` computes in floating point. Platforms' ``sin`` differ in the last bit, which changes a rounded value only where
it lies within about 1e-12 of a tie: less than one reading in 10^11.
"""

from __future__ import annotations

import math
import struct
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator
from decimal import ROUND_HALF_EVEN, Decimal
from hashlib import blake2b
from itertools import pairwise
from typing import Any

from firmware.hal.recording import RecordingError, read_recording

Value = int | bool | str

MAX_BOARD_VALUES = 200
"""Of a series on a board: some kilobytes."""
_NOISE_TERMS = 12
"""Irwin-Hall: the sum of 12 uniform draws of variance 1/12 has variance 1, and never leaves ±6."""
_NOISE_FORMAT = struct.Struct(f"<{_NOISE_TERMS}H")
_TIME_FORMAT = struct.Struct("<q")


class SignalError(ValueError):
    """The specification of a signal makes no sense; the message says why."""


class Signal(ABC):
    """A source of values. Times are milliseconds from the start of the run."""

    @abstractmethod
    def value_at(self, t_ms: int) -> Value:
        """The value at ``t_ms``: an integer in the metric's resolution, a boolean, or a text."""

    def instants(self, from_ms: int = 0) -> Iterator[tuple[int, Value]]:
        """The (time, value) pairs at which the signal itself has something to say, from ``from_ms`` on, in order.

        Empty for signals that are there at any time; without end for a recording that loops.
        """
        del from_ms
        return iter(())

    @abstractmethod
    def portable(self) -> list[Any]:
        """The signal for a board (``firmware.hosts.micro.signals``). Raises :class:`SignalError` where it has none."""


class Constant(Signal):
    """One value for ever."""

    def __init__(self, value: Value) -> None:
        self._value = value

    def value_at(self, t_ms: int) -> Value:
        return self._value

    def portable(self) -> list[Any]:
        return ["constant", self._value]


class Sine(Signal):
    """``mean + amplitude · sin(2π (t + phase) / period)``, rounded to the resolution."""

    def __init__(self, mean: float, amplitude: float, period_ms: int, phase_ms: int, exp: int) -> None:
        scale: int = 10**exp
        self._mean, self._amplitude = mean * scale, amplitude * scale
        self._period_ms, self._phase_ms = period_ms, phase_ms

    def value_at(self, t_ms: int) -> int:
        # Reduced to one period in integers first, so that the argument of sin stays small and exact on long runs.
        turn = (t_ms + self._phase_ms) % self._period_ms / self._period_ms
        return round(self._mean + self._amplitude * math.sin(2 * math.pi * turn))

    def portable(self) -> list[Any]:
        return ["sine", self._mean, self._amplitude, self._period_ms, self._phase_ms]


class Ramp(Signal):
    """Linear from one value to another, level before and after; exact."""

    def __init__(self, start: int, end: int, at_ms: int, over_ms: int) -> None:
        self._start, self._end, self._at_ms, self._over_ms = start, end, at_ms, over_ms

    def value_at(self, t_ms: int) -> int:
        elapsed_ms = min(max(t_ms - self._at_ms, 0), self._over_ms)
        return self._start + _divide_half_even((self._end - self._start) * elapsed_ms, self._over_ms)

    def portable(self) -> list[Any]:
        return ["ramp", self._start, self._end, self._at_ms, self._over_ms]


class Series(Signal):
    """Values at given times, each held until the next; the first also before its time. ``loop_ms`` repeats them."""

    def __init__(self, times_ms: list[int], values: list[Value], loop_ms: int | None = None) -> None:
        self._times_ms, self._values, self._loop_ms = times_ms, values, loop_ms

    def value_at(self, t_ms: int) -> Value:
        if self._loop_ms and t_ms >= self._times_ms[0]:
            t_ms = self._times_ms[0] + (t_ms - self._times_ms[0]) % self._loop_ms
        return self._values[max(bisect_right(self._times_ms, t_ms) - 1, 0)]

    def instants(self, from_ms: int = 0) -> Iterator[tuple[int, Value]]:
        offset_ms = 0
        if self._loop_ms:
            offset_ms = max((from_ms - self._times_ms[-1]) // self._loop_ms, 0) * self._loop_ms
        while True:
            for t_ms, value in zip(self._times_ms, self._values, strict=True):
                if t_ms + offset_ms >= from_ms:
                    yield t_ms + offset_ms, value
            if not self._loop_ms:
                return
            offset_ms += self._loop_ms

    def portable(self) -> list[Any]:
        if len(self._values) > MAX_BOARD_VALUES:
            raise SignalError(f"{len(self._values)} values are more than a board has room for, {MAX_BOARD_VALUES}")
        return ["series", list(self._times_ms), list(self._values), self._loop_ms]


class Noisy(Signal):
    """Another signal of numbers, with noise on top."""

    def __init__(self, under: Signal, noise: float, seed: int, exp: int) -> None:
        self._under = under
        # Millionths of the resolution per standard deviation: all that follows is integer arithmetic.
        self._micro = round(noise * 10**exp * 1_000_000)
        self._key = seed.to_bytes(8, "little", signed=True)

    def value_at(self, t_ms: int) -> int:
        return int(self._under.value_at(t_ms)) + self._noise_at(t_ms)

    def instants(self, from_ms: int = 0) -> Iterator[tuple[int, Value]]:
        for t_ms, value in self._under.instants(from_ms):
            yield t_ms, int(value) + self._noise_at(t_ms)

    def portable(self) -> list[Any]:
        return ["noisy", self._under.portable(), self._micro, self._key.hex()]

    def _noise_at(self, t_ms: int) -> int:
        digest = blake2b(_TIME_FORMAT.pack(t_ms), digest_size=_NOISE_FORMAT.size, key=self._key).digest()
        # Twelve draws of 0..65535 stand for the middles of 65,536 equal slices of -1/2..1/2, in units of 1/131072.
        centred = 2 * sum(_NOISE_FORMAT.unpack(digest)) - _NOISE_TERMS * 65_535
        return _divide_half_even(centred * self._micro, 131_072 * 1_000_000)


def signal_from_spec(spec: dict[str, Any]) -> Signal:
    """The signal that ``spec`` describes (see the module). Reads the file of a recording.

    Raises :class:`SignalError` for a specification that makes no sense and
    :class:`~firmware.hal.recording.RecordingError` for a recording that cannot be used.
    """
    try:
        signal = _MAKERS[spec["kind"]](spec)
        if spec.get("noise"):
            signal = Noisy(signal, float(spec["noise"]), int(spec["seed"]), int(spec["exp"]))
    except RecordingError:
        raise
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise SignalError(f"signal {spec.get('kind')!r} is unusable: {what}") from error
    return signal


def scaled(value: object, exp: int, kind: str = "number") -> Value:
    """``value`` in integer units of ``10 ** -exp`` (rounded half to even) when it is a number, else as it is.

    Raises :class:`ValueError` when ``value`` is not of its ``kind``.
    """
    if kind == "number" and isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        exact = value if isinstance(value, Decimal) else Decimal(repr(value))
        return int(exact.scaleb(exp).to_integral_value(ROUND_HALF_EVEN))
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "text" and isinstance(value, str):
        return value
    raise ValueError(f"{value!r} is not a {kind}")


def _constant(spec: dict[str, Any]) -> Signal:
    return Constant(scaled(spec["value"], spec["exp"], spec["type"]))


def _sine(spec: dict[str, Any]) -> Signal:
    if spec["period_ms"] <= 0:
        raise ValueError("its period must be longer than 0")
    return Sine(spec["mean"], spec["amplitude"], spec["period_ms"], spec["phase_ms"], spec["exp"])


def _steps(spec: dict[str, Any]) -> Signal:
    times_ms = [int(step["at_ms"]) for step in spec["steps"]]
    if not times_ms or any(later <= earlier for earlier, later in pairwise(times_ms)):
        raise ValueError("its steps must be in order of time, and at least one")
    return Series(times_ms, [scaled(step["value"], spec["exp"], spec["type"]) for step in spec["steps"]])


def _ramp(spec: dict[str, Any]) -> Signal:
    if spec["over_ms"] <= 0:
        raise ValueError("it must take longer than 0")
    start, end = (int(scaled(spec[key], spec["exp"])) for key in ("from", "to"))
    return Ramp(start, end, spec["at_ms"], spec["over_ms"])


def _recording(spec: dict[str, Any]) -> Signal:
    found = read_recording(
        spec["path"], spec["column"], spec["time"], spec.get("start"), spec.get("gaps", "error"), spec["type"]
    )
    values = [scaled(value, spec["exp"], spec["type"]) for value in found.values]
    return Series(list(found.times_ms), values, found.loop_ms if spec.get("loop") else None)


_MAKERS = {"constant": _constant, "sine": _sine, "steps": _steps, "ramp": _ramp, "recording": _recording}


def _divide_half_even(numerator: int, denominator: int) -> int:
    quotient, rest = divmod(numerator, denominator)
    if 2 * rest > denominator or (2 * rest == denominator and quotient % 2):
        return quotient + 1
    return quotient
