"""What a live run is told besides its plan, and what it brings back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from clawsim.live.collect import Identity
from clawsim.trace import TraceEvent
from clawsim.verdict import MOST_LAG_MS

Broker = Literal["embedded", "mosquitto"]
NodesAs = Literal["cpython", "micropython"]


def _ignore(_: Any) -> None:
    """For whoever does not want to be told."""


@dataclass(frozen=True)
class LiveOptions:
    """``run_dir`` must be empty or not exist; ``timescale`` is core seconds a wall second.

    ``real`` are the ids of what is real (see :mod:`clawsim.live.selection`), ``None`` for everything. ``sink`` is given
    each event as it becomes known, not quite in order; ``progress`` the core time reached, in microseconds, a few times
    a wall second.
    """

    run_dir: Path
    timescale: float = 30.0
    broker: Broker = "embedded"
    nodes_as: NodesAs = "cpython"
    real: frozenset[str] | None = None
    sink: Callable[[TraceEvent], None] = _ignore
    progress: Callable[[int], None] = _ignore


@dataclass(frozen=True)
class LiveResult:
    """The evidence of a run, in the terms of the virtual world; its events are in the log that `run_live` was given.

    ``delivered`` are identities in the order of storage, as often as they are stored; ``rows`` the same readings as the
    API gave them back (empty where the fleet manager is virtual).
    """

    delivered: list[Identity]
    buffered: list[tuple[Identity, str]]
    rows: list[dict[str, Any]]
    answers: dict[str, dict[str, Any]]
    without_effect: list[str]
    impossible: list[str]
    messages: int
    end_us: int
    wall_s: float
    lag_p99_ms: int
    """How late timers were."""
    trip_lag_ms: int | None = None
    """How late messages were (see :mod:`clawsim.live.trips`)."""
    failures: list[str] = field(default_factory=list)
    """What broke the run off."""
    complaint: str = ""
    """The same at more length, with the last words of the process that died."""
    remarks: list[str] = field(default_factory=list)
    """What is worth knowing about the evidence."""
    broken_lines: int = 0
    """Lines of traces that were no event."""
    strangers: dict[str, int] = field(default_factory=dict)
    """Connections to a broker from nobody's address, by broker."""

    @property
    def lagged(self) -> bool:
        """Whether the processes kept the clock too badly for the run to mean anything."""
        return max(self.lag_p99_ms, self.trip_lag_ms or 0) > MOST_LAG_MS
