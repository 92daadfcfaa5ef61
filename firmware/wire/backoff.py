"""How every tier retries a connection: exponential back-off with jitter, so that a fleet does not knock in step."""

FIRST_MS = 1000
MOST_MS = 30000


class Backoff:
    """Delays of 1, 2, 4 … 30 s, each drawn from its upper half, until `reset`."""

    def __init__(self, rng) -> None:
        """`rng`: anything with `randrange`."""
        self._rng = rng
        self._delay_ms = FIRST_MS

    def next_ms(self) -> int:
        """How long to wait before the next attempt, in milliseconds."""
        half_ms = self._delay_ms // 2
        self._delay_ms = min(2 * self._delay_ms, MOST_MS)
        return half_ms + self._rng.randrange(half_ms + 1)

    def reset(self) -> None:
        """The connection came up: start from the shortest delay again."""
        self._delay_ms = FIRST_MS
