"""The connection to the hub: dialled until it is there, and dropped when nothing comes through it any more."""

from typing import TYPE_CHECKING, Any

from firmware.wire.backoff import Backoff
from firmware.wire.outputs import Connect, Disconnect

if TYPE_CHECKING:
    from fleet.core.manager import FleetCore

CONNECT_TIMEOUT_MS = 20_000
# No gateway at all said anything for four of their heartbeats: perhaps the connection is dead and nobody said so.
HUB_SILENT_MS = 120_000


class Connection:
    """Down, connecting or up."""

    def __init__(self, core: "FleetCore", rng: Any, now_ms: int) -> None:
        self._core = core
        self._state = "down"
        self.heard_ms = now_ms  # when any gateway said anything
        self._dial_due_ms = now_ms
        self._backoff = Backoff(rng)

    @property
    def due_ms(self) -> int | None:
        """When to dial (again), or to take the silence for a dead connection."""
        if self._state != "up":
            return self._dial_due_ms
        return self.heard_ms + HUB_SILENT_MS + 1 if self._core.registry.gateways else None

    def up(self, now_ms: int) -> None:
        """Connected to the hub."""
        self._state = "up"
        self.heard_ms = now_ms
        self._backoff.reset()

    def down(self, now_ms: int) -> None:
        """The attempt failed, or the hub is gone."""
        self._state = "down"
        self._dial_due_ms = now_ms + self._backoff.next_ms()
        self._core.health.hub_lost()

    def on_timer(self, now_ms: int) -> None:
        """Dial, give an attempt up, drop a silent connection."""
        if self._state != "up" and now_ms >= self._dial_due_ms:
            self._dial(now_ms)
        elif self._state == "up" and now_ms > self.heard_ms + HUB_SILENT_MS and self._core.registry.gateways:
            self._drop(now_ms)

    def _dial(self, now_ms: int) -> None:
        if self._state == "connecting":
            self._drop(now_ms)
            return
        self._state = "connecting"
        self._dial_due_ms = now_ms + CONNECT_TIMEOUT_MS
        self._core.emit(Connect("hub", None))

    def _drop(self, now_ms: int) -> None:
        self._core.emit(Disconnect("hub"))
        self.down(now_ms)
