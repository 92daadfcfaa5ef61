"""The uplink: heartbeat clock and mode (`nanoclaw.core.mode`), over the lines (`nanoclaw.core.lines`).

Each line is down, connecting or up. Going offline while one is up means that it is stale: it is dropped and dialled
again.
"""

from nanoclaw.core.lines import DOWN, UP, Line, LineConfig, Lines
from nanoclaw.core.mode import ANSWERED, CATCHING_UP, OFFLINE, ONLINE, PROBING, Row, step

SUSPECT_HEARTBEATS = 2
SUSPECT_MORE_MS = 5_000
LATE_MORE_MS = 10_000


class Uplink:
    """Mode and heartbeat clock, over the lines."""

    def __init__(
        self,
        configs: tuple[LineConfig, ...],
        heartbeat_ms: int,
        offline_after_ms: int,
        rng: object,
        kept: dict[str, object],
        now_ms: int,
    ) -> None:
        """`kept`: of metered lines, by name, what they had spent before a restart."""
        self.mode = PROBING
        self._new = True  # the cloud has not answered since the start
        self.heartbeat_ms = heartbeat_ms
        self.offline_after_ms = offline_after_ms
        self.answered_ms = now_ms
        self.offline_since_ms = now_ms
        self.heartbeats = 0
        self.heartbeat_due_ms: int | None = None
        self._suspect_ms = SUSPECT_HEARTBEATS * heartbeat_ms + SUSPECT_MORE_MS
        self.lines = Lines(configs, self._suspect_ms, rng, kept, now_ms)
        self.due_ms = now_ms

    @property
    def connection(self) -> str:
        """The state of the line in use: down, connecting or up."""
        return self.lines.used.state

    @property
    def port(self) -> str:
        """The core's port of the line in use."""
        return self.lines.used.port

    def _reschedule(self) -> None:
        """Find when something here is due next."""
        due = [self.lines.due_ms(self.answered_ms)]
        if self.connection == UP:
            due.append(self.heartbeat_due_ms)
        if self.mode != OFFLINE:
            due.append(self.silent_ms())
        if self.mode in (ONLINE, CATCHING_UP):
            due.append(self.late_ms())
        # With a line there is always something: an attempt, a pause, or the next heartbeat.
        self.due_ms = min(due_ms for due_ms in due if due_ms is not None)

    def silent_ms(self) -> int:
        """When the silence has lasted too long."""
        return self.answered_ms + self.offline_after_ms + 1

    def late_ms(self) -> int:
        """When an answer is late: when another line, if there is one, has had its chance."""
        return self.answered_ms + self._suspect_ms + LATE_MORE_MS

    @property
    def alone(self) -> bool:
        """Whether the gateway decides by itself."""
        return self.mode == OFFLINE

    @property
    def talking(self) -> bool:
        """Whether readings and reports go up; that the cloud is in doubt does not stop them."""
        return self.mode != OFFLINE and not self._new

    def dial(self, line: Line, now_ms: int) -> None:
        """An attempt to connect starts."""
        line.dial(now_ms)
        self._reschedule()

    def up(self, line: Line, now_ms: int) -> Line | None:
        """Connected: say so to the cloud at once. The line that this one replaces, if it does."""
        before = self.lines.rise(line, now_ms)
        self.heartbeat_due_ms = now_ms
        self._reschedule()
        return before

    def down(self, line: Line, now_ms: int) -> None:
        """Not connected: try again after a while."""
        self.lines.fall(line, now_ms)
        if self.connection == DOWN:
            self.heartbeat_due_ms = None
        self._reschedule()

    def beat(self, now_ms: int) -> int:
        """The number of the heartbeat that is sent now."""
        self.heartbeats += 1
        self.heartbeat_due_ms = now_ms + self.heartbeat_ms
        self._reschedule()
        return self.heartbeats

    def happens(self, cause: str, behind: bool, now_ms: int) -> Row | None:
        """What `cause` changes, which is done; `behind`: kept readings wait."""
        if cause == ANSWERED:
            self.answered_ms = now_ms
        row = step(self.mode, cause, self._new, self.lines.hope(now_ms), behind)
        if row is not None:
            if row.becomes == OFFLINE:
                self.offline_since_ms = now_ms
            self.mode = row.becomes
        self._new = self._new and cause != ANSWERED
        self._reschedule()
        return row

    def view(self, window_ms: int) -> list[dict[str, object]]:
        """The lines for people: name, state, whether in use, and of metered ones what was spent today."""
        return [self._line_view(line, window_ms) for line in self.lines.all]

    def _line_view(self, line: Line, window_ms: int) -> dict[str, object]:
        view: dict[str, object] = {"name": line.name, "state": line.state, "used": line is self.lines.used}
        if line.budget is not None:
            budget = line.budget
            view |= {"spent_bytes": budget.spent_bytes, "daily_bytes": budget.daily_bytes}
            view["batch_ms"] = budget.windows * window_ms
        return view
