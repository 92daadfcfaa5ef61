"""What a run tells, read back from the directory that `clawsim run --out` wrote: its milestones, and what was lost."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from clawsim.timing import answers_to, is_milestone, timing
from clawsim.trace import TraceEvent

Loss = tuple[str, int, int, str]
"""(node, which of its boots, seq, cause)"""
_LOSS_KINDS = ("reading.lost", "reading.stored", "node.started")


class BadRun(Exception):
    """A directory does not hold a run; the message says what is wrong with which file."""


@dataclass(frozen=True, slots=True)
class Milestone:
    """One milestone of a run, where it stands in the trace, and what it answers to."""

    event: TraceEvent
    place: int
    cause: Milestone | None

    @property
    def t_us(self) -> int:
        """When it happened."""
        return self.event.t_us

    @property
    def tolerance_us(self) -> int:
        """How far its counterpart may be away."""
        return int(timing(self.event).tolerance_s * 1e6)

    @property
    def slack_us(self) -> int:
        """How far its instant may be away: its own tolerance, and those of what it answers to."""
        return self.tolerance_us + (self.cause.slack_us if self.cause is not None else 0)


@dataclass
class Tale:
    """What a run's directory says."""

    directory: Path
    summary: dict[str, Any]
    milestones: list[Milestone] = field(default_factory=list)
    lost: Counter[Loss] = field(default_factory=Counter)
    """What was lost and never stored."""


def read(directory: Path) -> Tale:
    """The run that `directory` holds; :class:`BadRun`."""
    tale = Tale(directory, _summary(directory / "summary.json"))
    _check_pair(directory, tale.summary)
    recent: dict[str, list[Milestone]] = defaultdict(list)
    losses: list[TraceEvent] = []
    for place, event in enumerate(_events(directory / "events.jsonl")):
        if event.kind in _LOSS_KINDS:
            losses.append(event)
        if is_milestone(event.kind):
            milestone = Milestone(event, place, _cause(event, recent))
            tale.milestones.append(milestone)
            recent[event.kind].append(milestone)
    if not tale.milestones:
        raise BadRun(f"{directory / 'events.jsonl'}: holds no milestones, so it is no run's")
    tale.lost = _lost(losses)
    return tale


def _summary(path: Path) -> dict[str, Any]:
    try:
        summary = json.loads(path.read_bytes())
    except OSError as error:
        raise BadRun(f"{path}: {error.strerror}; a directory that `clawsim run --out` wrote is wanted") from None
    except ValueError as error:
        raise BadRun(f"{path}: not JSON: {error}") from None
    if not isinstance(summary, dict) or not isinstance(summary.get("readings"), dict):
        raise BadRun(f"{path}: not the summary of a run: it has no `readings`")
    return summary


def _check_pair(directory: Path, summary: dict[str, Any]) -> None:
    """The summary is that of these events, where it says so: of another run's it would prove nothing."""
    wanted, path = summary.get("events_sha256"), directory / "events.jsonl"
    try:
        with path.open("rb") as lines:
            found = hashlib.file_digest(lines, "sha256").hexdigest()
    except OSError as error:
        raise BadRun(f"{path}: {error.strerror}") from None
    if wanted is not None and wanted != found:
        raise BadRun(f"{path}: not the events of {directory / 'summary.json'}: their SHA-256 is another one")


def _events(path: Path) -> Iterator[TraceEvent]:
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                yield _event(path, number, line)
    except OSError as error:
        raise BadRun(f"{path}: {error.strerror}") from None


def _event(path: Path, number: int, line: bytes) -> TraceEvent:
    try:
        fields = orjson.loads(line)
        t_us, kind, who = fields.pop("t_us"), fields.pop("kind"), fields.pop("who")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise BadRun(f"{path}:{number}: not an event: {error}") from None
    if not (isinstance(t_us, int) and isinstance(kind, str) and isinstance(who, str)):
        raise BadRun(f"{path}:{number}: not an event: t_us must be a number, kind and who texts")
    return TraceEvent(t_us, kind, who, fields)


def _cause(event: TraceEvent, recent: dict[str, list[Milestone]]) -> Milestone | None:
    """The latest milestone so far that `event` answers to."""
    found: Milestone | None = None
    for kind in timing(event).after:
        latest = next((each for each in reversed(recent[kind]) if answers_to(event, each.event)), None)
        if latest is not None and (found is None or latest.place > found.place):
            found = latest
    return found


def _lost(events: list[TraceEvent]) -> Counter[Loss]:
    lost = {_identity(event): f"{event.fields.get('cause')} at {event.who}" for event in events if "lost" in event.kind}
    for event in events:
        if event.kind == "reading.stored":
            lost.pop(_identity(event), None)
    boots = _boots(events)
    return Counter((node, boots[node].get(boot, -1), seq, cause) for (node, boot, seq), cause in lost.items())


def _boots(events: list[TraceEvent]) -> dict[str, dict[int, int]]:
    """Boot numbers are random: what compares is whether it was a node's first, second, third."""
    boots: dict[str, dict[int, int]] = defaultdict(dict)
    for event in events:
        if event.kind == "node.started":
            boots[event.who].setdefault(event.fields.get("boot", 0), len(boots[event.who]) + 1)
    return boots


def _identity(event: TraceEvent) -> tuple[str, int, int]:
    fields = event.fields
    return str(fields.get("node", event.who)), int(fields.get("boot", -1)), int(fields.get("seq", -1))
