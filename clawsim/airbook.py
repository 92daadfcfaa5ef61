"""Who was on the air for how long: counted from what nodes say that they sent, and by the worst hour of each."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from clawsim.trace import EventLog, TraceEvent
from firmware.wire.airtime import DUTY_PPM, WINDOW_MS

HOUR_US = WINDOW_MS * 1000
ALLOWED_US = HOUR_US * DUTY_PPM // 1_000_000


@dataclass
class AirUse:
    """One node's use of the air."""

    sf: int
    frames: int = 0
    air_us: int = 0
    worst_hour_us: int = 0
    """The most in any hour; the duty cycle is this by an hour."""
    heartbeats: int = 0
    merged: int = 0
    """Heartbeats that shared their frame with readings."""
    asked: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    """Frames that a gateway did not hear, by cause; each gateway counts."""

    @property
    def duty_percent(self) -> float:
        """The share of the worst hour."""
        return round(100 * self.worst_hour_us / HOUR_US, 3)

    def as_json(self) -> dict[str, Any]:
        """What the summary says."""
        return {
            "sf": self.sf,
            "frames": self.frames,
            "air_ms": self.air_us // 1000,
            "duty_percent": self.duty_percent,
            "heartbeats": self.heartbeats,
            "merged": self.merged,
            "asked": self.asked,
            "lost": dict(sorted(self.lost.items())),
        }


class AirBook:
    """Keeps the book while a run goes on."""

    def __init__(self, log: EventLog) -> None:
        self.nodes: dict[str, AirUse] = {}
        self._hours: dict[str, deque[tuple[int, int]]] = {}
        log.listen(self._on_sent, "frame.sent")
        log.listen(self._on_lost, "frame.lost")

    def _on_sent(self, event: TraceEvent) -> None:
        fields = event.fields
        use = self.nodes.setdefault(event.who, AirUse(fields["sf"]))
        use.frames += 1
        use.air_us += fields["air_us"]
        use.heartbeats += fields["heartbeat"]
        use.merged += fields["heartbeat"] and fields["readings"] > 0
        use.asked += fields["asks"]
        hour = self._hours.setdefault(event.who, deque())
        hour.append((event.t_us, fields["air_us"]))
        while hour[0][0] <= event.t_us - HOUR_US:
            hour.popleft()
        use.worst_hour_us = max(use.worst_hour_us, sum(air_us for _, air_us in hour))

    def _on_lost(self, event: TraceEvent) -> None:
        lost = self.nodes[event.fields["node"]].lost
        lost[event.fields["cause"]] = lost.get(event.fields["cause"], 0) + 1
