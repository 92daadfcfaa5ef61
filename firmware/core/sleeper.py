"""A node that sleeps between samples: awake to sample, to hand over what it has and to listen; then asleep.

The heartbeat at each waking announces the interval, so that a gateway waits three of them before it calls the node
down; the node in turn waits as many before it calls the gateway lost. A board that loses its RAM in its sleep begins
anew from flash; one that keeps it goes on here.
"""

from firmware.core.attachment import DOWN, SILENT_MS, UP
from firmware.core.node import NodeCore
from firmware.wire.outputs import Sleep

LISTEN_MS = 11000  # a gateway sends a command again every 10 s
AWAKE_MS = 30000  # at most, when there is no gateway or it does not take what it is sent
SHORTEST_MS = 5000  # a shorter sleep saves less than the next connection costs
SILENT_INTERVALS = 3


def node_core(config: dict, flash: dict, rng, now_ms: int) -> NodeCore:
    """The core that the configuration asks for: with `lora` one on a radio, with `sleep` one that sleeps between
    samples."""
    if config.get("lora"):
        from firmware.core.lora import LoraNode  # memory that a board without a radio has better use for

        return LoraNode(config, flash, rng, now_ms)
    return (SleepingNode if config.get("sleep") else NodeCore)(config, flash, rng, now_ms)


class SleepingNode(NodeCore):
    """A `NodeCore` that asks its host to sleep."""

    def __init__(self, config: dict, flash: dict, rng, now_ms: int) -> None:
        """As a `NodeCore`; also optional: listen_ms, how long to listen for commands at each waking."""
        self._wake_ms: int | None = None  # when asleep
        self._bed_ms = now_ms + AWAKE_MS
        self._listen_until_ms = now_ms + AWAKE_MS
        self._listen_ms: int = config.get("listen_ms", LISTEN_MS)
        self._over = False  # the rehearsal is
        super().__init__(config, flash, rng, now_ms)
        self.presence.heartbeat_ms = self.heartbeat_interval_ms(self.presence.heartbeat_ms)

    def resumed(self, unheard_ms: int, now_ms: int) -> None:
        """RAM was lost in a sleep, and at its end nothing was heard for `unheard_ms`: a lost gateway stays lost."""
        self.link.heard_ms = now_ms - unheard_ms
        self.link.scan_due_ms = max(self.link.heard_ms + self.link.silent_ms + 1, now_ms + self._listen_ms)

    def link_up(self, port: str, now_ms: int) -> None:
        """Connected: tell, hand over, and listen for a while."""
        self._listen_until_ms = now_ms + self._listen_ms
        super().link_up(port, now_ms)
        self.presence.heartbeat_due_ms = now_ms + self.presence.heartbeat_ms

    def sampled(self, index: int, value: object, now_ms: int) -> None:
        """As a `NodeCore`; an event sensor wakes the node."""
        if self._wake_ms is not None and self.sensors[index].event:
            self._wake(now_ms)
        super().sampled(index, value, now_ms)

    def found(self, gateways: "list[dict]", now_ms: int) -> None:
        """As a `NodeCore`, unless the answer comes too late."""
        if self._wake_ms is None:
            super().found(gateways, now_ms)

    def stop_sampling(self, now_ms: int) -> None:
        """The end of a rehearsal: no more samples, and awake until all is handed over."""
        super().stop_sampling(now_ms)
        self._over = True
        if self._wake_ms is not None:
            self._wake(now_ms)

    def on_timer(self, now_ms: int) -> None:
        """Do all that is due: wake up, work, go to sleep."""
        if self._wake_ms is not None:
            if now_ms < self._wake_ms:
                return
            self._wake(now_ms)
        super().on_timer(now_ms)
        if now_ms >= self._tired_ms():
            self._doze(now_ms)

    def next_deadline(self) -> "int | None":
        """When `on_timer` is wanted next, in core milliseconds."""
        if self._wake_ms is not None:
            return self._wake_ms
        due_ms = super().next_deadline()
        tired_ms = self._tired_ms()
        return tired_ms if due_ms is None or tired_ms < due_ms else due_ms

    def heartbeat_interval_ms(self, wanted_ms: int) -> int:
        """Not shorter than the sleep, for nothing is said in between."""
        periods = [sensor.every_ms for sensor in self.sensors if sensor.every_ms is not None]
        interval_ms: int = max(wanted_ms, min(periods) if periods else 0)
        self.link.silent_ms = max(SILENT_MS, SILENT_INTERVALS * interval_ms)
        self.link.scan_due_ms = self.link.heard_ms + self.link.silent_ms + 1
        return interval_ms

    def _connect(self, now_ms: int) -> None:
        if self._wake_ms is None:
            super()._connect(now_ms)

    def _tired_ms(self) -> int:
        """When to go to sleep, as things are."""
        if self.settings.due_ms is not None:
            return self.settings.due_ms + 1
        done = self.link.state == UP and not len(self.backlog)
        return min(self._listen_until_ms, self._bed_ms) if done else self._bed_ms

    def _doze(self, now_ms: int) -> None:
        # With event sensors only it wakes to say that it lives.
        idle_ms = now_ms if self._over else now_ms + self.presence.heartbeat_ms
        wake_ms = min([s.next_ms for s in self.sensors if s.next_ms is not None] or [idle_ms])
        if wake_ms - now_ms < SHORTEST_MS:
            self._bed_ms = max(wake_ms, now_ms) + AWAKE_MS
            self._listen_until_ms = max(wake_ms, now_ms) + self._listen_ms
            return
        if self.link.state != DOWN:
            self._leave(now_ms)
        self.link.rest()
        self._wake_ms = wake_ms
        self.emit(Sleep(wake_ms - now_ms))

    def _wake(self, now_ms: int) -> None:
        self._wake_ms = None
        self._bed_ms = self._listen_until_ms = now_ms + AWAKE_MS
        self.link.connect_due_ms = now_ms
