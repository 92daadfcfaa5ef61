"""How fast counters grow: what a running server says of its last minute."""

from collections import deque
from collections.abc import Callable, Mapping

SAMPLE_S = 5.0
SPAN_S = 60.0

Counts = Mapping[str, int]


class Pace:
    """Samples of counters; the time is handed in."""

    def __init__(self, counts: Callable[[], Counts], now_s: float) -> None:
        self._counts = counts
        self._samples: deque[tuple[float, Counts]] = deque([(now_s, dict(counts()))])

    def sample(self, now_s: float) -> None:
        """To be called every `SAMPLE_S`."""
        self._samples.append((now_s, dict(self._counts())))
        while len(self._samples) > 2 and self._samples[1][0] <= now_s - SPAN_S:
            self._samples.popleft()

    def per_s(self, now_s: float) -> dict[str, float]:
        """How much each counter has grown a second, over the last minute or since the start."""
        begun_s, before = self._samples[0]
        passed_s = max(now_s - begun_s, 0.001)
        return {name: round((count - before.get(name, 0)) / passed_s, 2) for name, count in self._counts().items()}
