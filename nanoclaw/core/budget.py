"""What a metered line may carry in a day, and how batches become rarer so that it lasts.

The day is UTC's, or counts from the start while UTC is unknown. An even day would spend along a straight line. After
each batch interval the next one is chosen: below that line half as many windows as before; above it as many as would
have spent what is left of the budget in what is left of the day, twice as many at most. It is from one window to
`MOST_WINDOWS`. A backlog goes only below the line. Events, alerts and heartbeats never wait. So a budget that is spent
costs freshness, and no reading.
"""

from dataclasses import dataclass

DAY_MS = 86_400_000
MOST_WINDOWS = 15
# IP and TCP headers of a packet and of its acknowledgement, MQTT's own header; a full segment has that much again.
MESSAGE_OVERHEAD_BYTES = 84
SEGMENT_BYTES = 1448
SEGMENT_OVERHEAD_BYTES = 60
TLS_RECORD_BYTES = 29
CONNECT_BYTES = 700
"""TCP's handshake, CONNECT, SUBSCRIBE and their answers."""
TLS_CONNECT_BYTES = 5_000
"""Certificates both ways on top."""


def wire_bytes(topic: str, payload: bytes, tls: bool) -> int:
    """What a message weighs on the wire with the headers around it."""
    size = len(topic) + len(payload)
    around = MESSAGE_OVERHEAD_BYTES + SEGMENT_OVERHEAD_BYTES * (size // SEGMENT_BYTES)
    return size + around + (TLS_RECORD_BYTES if tls else 0)


@dataclass(frozen=True, slots=True)
class Now:
    """An instant of a budget's day: which day, whether that is UTC's, and how much of it is left."""

    day: int
    is_utc: bool
    left_ms: int

    @classmethod
    def of(cls, utc_ms: int | None, uptime_ms: int) -> "Now":
        """By UTC, or by the time since the start while that is unknown."""
        clock_ms = uptime_ms if utc_ms is None else utc_ms
        return cls(clock_ms // DAY_MS, utc_ms is not None, DAY_MS - clock_ms % DAY_MS)


class Budget:
    """Bytes of one line and one day."""

    def __init__(self, daily_bytes: int, kept: object) -> None:
        """`kept`: what `to_keep` said before the restart, or None."""
        self.daily_bytes = daily_bytes
        self.windows = 1
        self.spent_bytes = 0
        self._day: int | None = None
        self._is_utc = False
        self._in_window_bytes = 0
        self._kept_bytes = 0
        if isinstance(kept, list) and len(kept) == 2 and type(kept[1]) is int:
            self._day, self._is_utc = kept[0], kept[0] is not None
            self.spent_bytes = self._kept_bytes = kept[1]

    @property
    def left_bytes(self) -> int:
        """What may still go today."""
        return max(0, self.daily_bytes - self.spent_bytes)

    def spend(self, count: int, now: Now) -> bool:
        """So many bytes went or came; whether that was the last of the budget."""
        self._turn(now)
        had = self.left_bytes
        self.spent_bytes += count
        self._in_window_bytes += count
        return had > 0 and self.left_bytes == 0

    def _turn(self, now: Now) -> None:
        """Begin a new day. A clock that was set back does not: it would give the budget twice."""
        if self._day is None or now.is_utc != self._is_utc:
            self._day, self._is_utc = now.day, now.is_utc
        elif now.day != self._day:
            if now.day > self._day:
                self.spent_bytes = self._in_window_bytes = 0
            self._day = now.day

    def next_windows(self, window_ms: int, now: Now) -> int:
        """The batch interval that follows now, in windows of `window_ms`."""
        ahead_ms = self.ahead_ms(now)
        spent, self._in_window_bytes = self._in_window_bytes, 0
        affordable = self.left_bytes * self.windows * window_ms // now.left_ms
        wanted = self.windows // 2
        if ahead_ms:
            wanted = -(-self.windows * spent // affordable) if affordable else MOST_WINDOWS
        self.windows = min(max(wanted, self.windows // 2, 1), 2 * self.windows, MOST_WINDOWS)
        return self.windows

    def ahead_ms(self, now: Now) -> int:
        """How long to spend nothing until an even day would have spent as much; 0 when it would have spent more."""
        self._turn(now)
        return max(0, self.spent_bytes * DAY_MS // self.daily_bytes - (DAY_MS - now.left_ms))

    def to_keep(self) -> list[int | None] | None:
        """What is to be on disk, once another hundredth of the budget is spent; None when that is not so."""
        if abs(self.spent_bytes - self._kept_bytes) * 100 < self.daily_bytes:
            return None
        self._kept_bytes = self.spent_bytes
        return [self._day if self._is_utc else None, self.spent_bytes]
