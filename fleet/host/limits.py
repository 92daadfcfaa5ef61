"""How many requests one caller may make: a token bucket each, in bounded memory."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MOST_BUCKETS = 10_000


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_s` requests a second in the long run, `burst` at once."""

    per_s: float
    burst: float


@dataclass(frozen=True, slots=True)
class Rates:
    """What a caller with a token may do, what an address without one, and how often one may try a password."""

    caller: Rate = Rate(100, 1_000)
    address: Rate = Rate(5, 50)
    login: Rate = Rate(0.2, 10)


def rates_of(per_s: float) -> Rates:
    """With `per_s` requests a second for a caller, the rest in proportion."""
    share = per_s / Rates().caller.per_s

    def scaled(rate: Rate) -> Rate:
        return Rate(rate.per_s * share, max(1.0, rate.burst * share))

    return Rates(*(scaled(rate) for rate in (Rates().caller, Rates().address, Rates().login)))


class Limits:
    """One bucket a key; the one that was used longest ago makes room, and is full again when it comes back."""

    def __init__(self, now_s: Callable[[], float], most: int = MOST_BUCKETS) -> None:
        self._now_s, self._most = now_s, most
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and at what time

    def take(self, key: str, rate: Rate) -> float:
        """Takes one request out of the bucket: 0, or the seconds after which there is one again."""
        now_s = self._now_s()
        left, at_s = self._buckets.pop(key, (rate.burst, now_s))
        left = min(rate.burst, left + (now_s - at_s) * rate.per_s)
        wait_s = 0.0 if left >= 1 else (1 - left) / rate.per_s
        self._buckets[key] = (left if wait_s else left - 1, now_s)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return wait_s

    def __len__(self) -> int:
        return len(self._buckets)
