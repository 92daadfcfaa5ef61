"""Whether the cloud is there: the gateway's own view, as a table.

| mode     | becomes  | when                                                                            |
|----------|----------|---------------------------------------------------------------------------------|
| starting | online   | a heartbeat is answered                                                         |
| starting | offline  | 90 s pass without an answer                                                     |
| online   | offline  | the connection drops, or 90 s pass after the last answer (at 90 s is in time)   |
| offline  | online   | a heartbeat is answered                                                         |

Beside it the connection itself is down, connecting or up. Going offline while it is up means that it is stale: it is
dropped and dialled again.
"""

from firmware.wire.backoff import Backoff

STARTING, ONLINE, OFFLINE = "starting", "online", "offline"
DOWN, CONNECTING, UP = "down", "connecting", "up"
CONNECT_TIMEOUT_MS = 20_000


class Uplink:
    """Connection, mode and heartbeat clock."""

    def __init__(self, heartbeat_ms: int, offline_after_ms: int, rng: object, now_ms: int) -> None:
        self.mode = STARTING
        self.connection = DOWN
        self.heartbeat_ms = heartbeat_ms
        self.offline_after_ms = offline_after_ms
        self.answered_ms = now_ms
        self.offline_since_ms = now_ms
        self.heartbeats = 0
        self.heartbeat_due_ms: int | None = None
        self.connect_due_ms = now_ms
        self._backoff = Backoff(rng)
        self.due_ms = now_ms

    def _reschedule(self) -> None:
        """Find when something here is due next."""
        due_ms = self.connect_due_ms
        if self.connection == UP and self.heartbeat_due_ms is not None:
            due_ms = self.heartbeat_due_ms
        self.due_ms = due_ms if self.mode == OFFLINE else min(due_ms, self.silent_ms())

    def silent_ms(self) -> int:
        """When the silence has lasted too long."""
        return self.answered_ms + self.offline_after_ms + 1

    def dial(self, now_ms: int) -> None:
        """An attempt to connect starts."""
        self.connection = CONNECTING
        self.connect_due_ms = now_ms + CONNECT_TIMEOUT_MS
        self._reschedule()

    def up(self, now_ms: int) -> None:
        """Connected: say so to the cloud at once."""
        self.connection = UP
        self.heartbeat_due_ms = now_ms
        self._backoff.reset()
        self._reschedule()

    def down(self, now_ms: int) -> None:
        """Not connected: try again after a while."""
        self.connection = DOWN
        self.heartbeat_due_ms = None
        self.connect_due_ms = now_ms + self._backoff.next_ms()
        self._reschedule()

    def beat(self, now_ms: int) -> int:
        """The number of the heartbeat that is sent now."""
        self.heartbeats += 1
        self.heartbeat_due_ms = now_ms + self.heartbeat_ms
        self._reschedule()
        return self.heartbeats

    def answered(self, now_ms: int) -> bool:
        """The cloud answered; whether that ends an offline time (or the start)."""
        self.answered_ms = now_ms
        was = self.mode
        self.mode = ONLINE
        self._reschedule()
        return was != ONLINE

    def lost(self, now_ms: int) -> bool:
        """The cloud is gone; whether that is news."""
        if self.mode == OFFLINE:
            return False
        self.mode = OFFLINE
        self.offline_since_ms = now_ms
        self._reschedule()
        return True
