"""The ways to the cloud, best first: which one is in use, which one is dialled, and when to go back.

| the line in use is        | then                                                                                    |
|---------------------------|-----------------------------------------------------------------------------------------|
| down                      | the best line whose pause after its last failure is over is dialled                     |
| up, silent for 65 s       | another is dialled beside it and takes over once it is up                               |
| up, but not the best one  | after a minute a better one is dialled beside it, every minute, and takes over once up  |

A line that takes over does so by being up, so going back interrupts nothing. A best line that falls again within ten
minutes is waited for twice as long the next time, up to an hour: an uplink that flaps is left alone.
"""

from dataclasses import dataclass

from firmware.wire.backoff import Backoff
from nanoclaw.core.budget import Budget

DOWN, CONNECTING, UP = "down", "connecting", "up"
CONNECT_TIMEOUT_MS = 20_000
STABLE_MS = 600_000
RETURN_MS = 60_000
LONGEST_RETURN_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class LineConfig:
    """A way to the cloud as it is configured; the host knows its address."""

    name: str
    daily_bytes: int | None = None
    """What a metered line may carry in a day, both ways; None: it costs nothing."""
    tls: bool = False
    """Whether it is TLS, which weighs more."""


class Line:
    """One way, and the state of its connection."""

    def __init__(self, config: LineConfig, rank: int, rng: object, kept: object, now_ms: int) -> None:
        self.name = config.name
        self.tls = config.tls
        self.rank = rank
        self.port = "hub" if rank == 0 else f"hub:{config.name}"
        self.state = DOWN
        self.due_ms = now_ms
        """Down: not to be dialled before. Connecting: the attempt is over then."""
        self.up_ms = now_ms
        self.budget = None if config.daily_bytes is None else Budget(config.daily_bytes, kept)
        self.uncounted_bytes = 0
        """Of a metered line: carried, and not in its budget yet."""
        self._backoff = Backoff(rng)

    def dial(self, now_ms: int) -> None:
        """An attempt starts."""
        self.state = CONNECTING
        self.due_ms = now_ms + CONNECT_TIMEOUT_MS

    def rise(self, now_ms: int) -> None:
        """It is connected."""
        self.state = UP
        self.up_ms = now_ms
        self._backoff.reset()

    def fall(self, now_ms: int) -> None:
        """An attempt failed, or the connection is gone: a pause."""
        self.state = DOWN
        self.due_ms = now_ms + self._backoff.next_ms()


class Lines:
    """All lines, and the one in use."""

    def __init__(
        self, configs: tuple[LineConfig, ...], suspect_ms: int, rng: object, kept: dict[str, object], now_ms: int
    ) -> None:
        """`suspect_ms`: a line that is up and silent for so long is doubted, where there is another."""
        self.all = [Line(config, rank, rng, kept.get(config.name), now_ms) for rank, config in enumerate(configs)]
        self.used = self.all[0]
        self._suspect_ms = suspect_ms
        self._return_ms = RETURN_MS
        self._return_due_ms = now_ms

    def by_port(self, port: str) -> Line | None:
        """The line whose port of the core this is."""
        return next((line for line in self.all if line.port == port), None)

    def rise(self, line: Line, now_ms: int) -> Line | None:
        """`line` is up and in use from now on; the line that it replaces, if it does."""
        line.rise(now_ms)
        before, self.used = self.used, line
        self._return_due_ms = now_ms + self._return_ms
        return None if before is line else before

    def fall(self, line: Line, now_ms: int) -> None:
        """An attempt failed, or the connection is gone."""
        if line is self.all[0] and line.state == UP:
            longer_ms = min(2 * self._return_ms, LONGEST_RETURN_MS)
            self._return_ms = RETURN_MS if now_ms - line.up_ms >= STABLE_MS else longer_ms
        elif line is not self.used:
            self._return_due_ms = now_ms + self._return_ms
        line.fall(now_ms)

    def hope(self, now_ms: int) -> bool:
        """Whether a connection is there, or may come about without a pause."""
        return any(line.state != DOWN or line.due_ms <= now_ms for line in self.all)

    def overdue(self, now_ms: int) -> list[Line]:
        """Attempts that have lasted too long."""
        return [line for line in self.all if line.state == CONNECTING and now_ms >= line.due_ms]

    def to_dial(self, answered_ms: int, now_ms: int) -> Line | None:
        """The line to dial now; `answered_ms`: when the cloud was last heard. One attempt at a time."""
        if any(line.state == CONNECTING for line in self.all):
            return None
        ready = (line for line, from_ms in self._candidates(answered_ms) if now_ms >= from_ms)
        return next(ready, None)

    def due_ms(self, answered_ms: int) -> int | None:
        """When an attempt is over or the next one begins; None: not before something happens."""
        attempts = [line.due_ms for line in self.all if line.state == CONNECTING]
        due_ms = attempts or [from_ms for _, from_ms in self._candidates(answered_ms)]
        return min(due_ms) if due_ms else None

    def _candidates(self, answered_ms: int) -> list[tuple[Line, int]]:
        """Lines that may be dialled, best first, each with the time from which on."""
        used = self.used
        if used.state != UP:
            return [(line, line.due_ms) for line in self.all]
        doubted_ms = max(answered_ms, used.up_ms) + self._suspect_ms
        return [
            (line, max(line.due_ms, min(doubted_ms, self._return_due_ms) if line.rank < used.rank else doubted_ms))
            for line in self.all
            if line is not used
        ]
