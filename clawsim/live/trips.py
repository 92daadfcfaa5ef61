"""How long messages took on their way, beside what their links took: late timers are not all that lateness is.

A run whose clock is too fast has timers that are hardly late and messages that are: each hop costs a process some
milliseconds of the wall, which at timescale 1000 are as many simulated seconds. Every gateway's batch goes through
three processes and two databases and is answered at once, so the time from `batch.sent` to `batch.acknowledged`, less
the latency of its links, is the machine's. A batch that a fault may have held up says nothing of it.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from clawsim.scenario.plan import DATACENTER, UPLINK, Plan
from clawsim.trace import TraceEvent

RECOVERY_US = 60_000_000
"""After a fault processes start and connections are made again, for so long at most."""

Span = tuple[int, int]
"""From and until, in microseconds of core time."""


def trip_lag_ms(plan: Plan, events: Sequence[TraceEvent]) -> int | None:
    """The median over all batches outside of faults, in core milliseconds; ``None`` when there was none."""
    disturbed = _disturbances(events)
    calm = [span for span in _trips(events) if not any(_overlap(span, fault) for fault in disturbed)]
    if not calm:
        return None
    links_us = 2 * (plan.links[UPLINK].latency_us + plan.links[DATACENTER].latency_us)
    took_us = statistics.median_high(until_us - from_us for from_us, until_us in calm)
    return max(0, took_us - links_us) // 1000


def _trips(events: Iterable[TraceEvent]) -> Iterable[Span]:
    """From when a batch was first sent until it was acknowledged; ``events`` are in the order of time."""
    sent_us: dict[tuple[str, str], int] = {}
    for event in events:
        if event.kind == "batch.sent":
            sent_us.setdefault((event.who, event.fields["batch"]), event.t_us)
        elif event.kind == "batch.acknowledged":
            since_us = sent_us.pop((event.who, event.fields["batch"]), None)
            if since_us is not None:
                yield since_us, event.t_us


def _disturbances(events: Sequence[TraceEvent]) -> list[Span]:
    """The time of each fault, and what it takes to recover from it; a fault may outlast the run."""
    ends_us = {event.fields["of"]: event.t_us + RECOVERY_US for event in events if event.kind == "fault.cleared"}
    requested = [event for event in events if event.kind == "fault.requested"]
    return [(event.t_us, ends_us.get(event.fields["of"], 1 << 62)) for event in requested]


def _overlap(one: Span, other: Span) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]
