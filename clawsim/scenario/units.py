"""Quantities as people write them, with their unit, and as exact integers: ``90 s`` is 90,000,000 µs."""

from __future__ import annotations

import re
from decimal import Decimal

DURATION_PATTERN = r"^[0-9]{1,14}(\.[0-9]{1,6})? ?(us|ms|s|min|h|d)$"
PERCENT_PATTERN = r"^[0-9]{1,3}(\.[0-9]{1,6})? ?%$"
LONGEST_US = 366 * 86_400_000_000
"""No duration of a scenario exceeds a leap year: beyond it a slip of the pen is likelier than a plan."""

_UNIT_US = {"us": 1, "ms": 1_000, "s": 1_000_000, "min": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_OTHER_SPELLINGS = {
    "µs": "us", "sec": "s", "secs": "s", "second": "s", "seconds": "s", "m": "min", "mins": "min", "minute": "min",
    "minutes": "min", "hr": "h", "hrs": "h", "hour": "h", "hours": "h", "day": "d", "days": "d",
}  # fmt: skip
_QUANTITY = re.compile(r"([0-9]{1,14}(?:\.[0-9]{1,6})?) ?([^\W\d_]+|%)")


def duration_us(text: object) -> int:
    """The microseconds of a text such as ``250 ms`` or ``1.5 h``.

    Raises :class:`ValueError`, with what would be right, for anything else: no unit, an unknown one, a sign, more than
    a year, or a fraction of a microsecond.
    """
    number, unit = _quantity(text, "a duration", "s, ms, min, h, d", "30 s")
    if unit not in _UNIT_US:
        hint = _OTHER_SPELLINGS.get(unit.lower())
        raise ValueError(f"unknown unit '{unit}' in '{text}'" + (f"; did you mean '{number} {hint}'?" if hint else
                         "; a duration needs one of: us, ms, s, min, h, d"))  # fmt: skip
    exact_us = Decimal(number) * _UNIT_US[unit]
    if exact_us > LONGEST_US:
        raise ValueError(f"'{text}' is more than 366 d")
    if exact_us != exact_us.to_integral_value():
        raise ValueError(f"'{text}' is finer than a microsecond")
    return int(exact_us)


def share(text: object) -> float:
    """The fraction (0..1) of a text such as ``20 %``. Raises :class:`ValueError` like :func:`duration_us`."""
    number, unit = _quantity(text, "a share", "%", "20 %")
    if unit != "%":
        raise ValueError(f"unknown unit '{unit}' in '{text}'; a share is given in %, for example '20 %'")
    if Decimal(number) > 100:
        raise ValueError(f"'{text}' is more than 100 %")
    return float(Decimal(number) / 100)


def _quantity(text: object, what: str, units: str, example: str) -> tuple[str, str]:
    if isinstance(text, int | float) and not isinstance(text, bool):
        raise ValueError(f"{what} needs a unit: {units} (for example '{example}')")
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        shown = f"'{text}'" if isinstance(text, str) else type(text).__name__
        raise ValueError(f"{shown} is not {what}; write a number and a unit ({units}), for example '{example}'")
    return match[1], match[2]


def spoken(us: int) -> str:
    """The shortest exact way to write a duration: ``90 s``, ``10 min``, ``1.5 ms`` as ``1500 us``."""
    for unit, size_us in reversed(_UNIT_US.items()):
        if us and us % size_us == 0 and not (unit == "min" and us < 2 * size_us):
            return f"{us // size_us} {unit}"
    return f"{us // 1_000_000} s"


def clock(us: int) -> str:
    """An instant of the run as hours, minutes and seconds: ``0:05:00`` or ``0:05:00.250``."""
    seconds, rest_us = divmod(us, 1_000_000)
    text = f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{text}.{rest_us:06d}".rstrip("0") if rest_us else text


def instant(us: int) -> str:
    """The same with one decimal, whatever it is, so that instants stand below each other: ``0:05:00.2``."""
    tenths = us // 100_000
    return f"{clock(tenths // 10 * 1_000_000)}.{tenths % 10}"
