"""Do two runs tell the same story?

They do when every entity has the same milestones in the same order, at times within the tolerance of their kind
(`clawsim.timing`), and the same readings were lost by the same cause. The entity is the event's speaker; what is said
of a node is also that node's story. Two milestones of one entity may stand in the other order only when they are
concurrent: nearer to each other, in both runs, than one of them may be early or late, and not two steps of one process.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from clawsim.tale import Loss, Milestone, Tale
from clawsim.timing import subject, timing, told
from clawsim.trace import TraceEvent

LOOK_BACK_US = 300_000_000
"""Milestones further apart than this cannot have changed places and still each be in time: no kind's tolerance, with
those of what it answers to, is half as long."""
MOST_ALIGNED = 4_000_000
"""Above so many comparisons of one kind of thing, the n-th of one run is held against the n-th of the other."""
_TERMS = ("lost", "buffered", "duplicated", "unaccounted", "phantom", "conflict")
Pair = tuple[Milestone, Milestone]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same; a time is None in the run where it did not happen."""

    who: str
    what: str
    a_us: int | None
    b_us: int | None
    why: str


@dataclass
class Comparison:
    """What came out."""

    a: Tale
    b: Tale
    differences: list[Difference] = field(default_factory=list)
    matched: int = 0
    widest: tuple[float, Milestone, Milestone] | None = None
    """The pair that used most of its tolerance, and how much of it."""

    @property
    def same(self) -> bool:
        """Whether the two tell the same story."""
        return not self.differences


def compare(a: Tale, b: Tale) -> Comparison:
    """Everything in which the two differ."""
    found = Comparison(a, b)
    pairs = _match(found)
    found.matched = len(pairs)
    for entity in _entities(pairs):
        _check_order(found, entity)
    _compare_losses(found)
    found.differences.sort(key=lambda each: min(t for t in (each.a_us, each.b_us, 1 << 62) if t is not None))
    return found


def _match(found: Comparison) -> list[Pair]:
    """Pairs what both runs tell; the rest is told in one only, or not at the same time."""
    of_a, of_b = _by_what(found.a), _by_what(found.b)
    pairs: list[Pair] = []
    for what in {**of_a, **of_b}:
        ours, theirs = of_a.get(what, []), of_b.get(what, [])
        matched = _align(ours, theirs)
        pairs += matched
        taken = {id(milestone) for pair in matched for milestone in pair}
        left = ([each for each in run if id(each) not in taken] for run in (ours, theirs))
        _blame(found, *left)
    for pair in pairs:
        _note_width(found, pair)
    return pairs


def _by_what(tale: Tale) -> dict[tuple[Any, ...], list[Milestone]]:
    grouped: dict[tuple[Any, ...], list[Milestone]] = {}
    for milestone in tale.milestones:
        grouped.setdefault(told(milestone.event), []).append(milestone)
    return grouped


def _align(ours: list[Milestone], theirs: list[Milestone]) -> list[Pair]:
    """As many pairs as possible that were at the same time, in order (a longest common subsequence)."""
    if len(ours) * len(theirs) > MOST_ALIGNED or len(ours) == len(theirs) == 1:
        return [pair for pair in zip(ours, theirs, strict=False) if _off_us(pair) <= pair[0].tolerance_us]
    best = [[0] * (len(theirs) + 1) for _ in range(len(ours) + 1)]
    for i in range(len(ours) - 1, -1, -1):
        for j in range(len(theirs) - 1, -1, -1):
            here = 1 + best[i + 1][j + 1] if _same_time(ours[i], theirs[j]) else 0
            best[i][j] = max(here, best[i + 1][j], best[i][j + 1])
    return list(_walk(ours, theirs, best))


def _walk(ours: list[Milestone], theirs: list[Milestone], best: list[list[int]]) -> Iterator[Pair]:
    i = j = 0
    while i < len(ours) and j < len(theirs):
        if _same_time(ours[i], theirs[j]) and best[i][j] == 1 + best[i + 1][j + 1]:
            yield ours[i], theirs[j]
            i, j = i + 1, j + 1
        elif best[i + 1][j] >= best[i][j + 1]:
            i += 1
        else:
            j += 1


def _same_time(one: Milestone, other: Milestone) -> bool:
    return _off_us((one, other)) <= one.tolerance_us


def _off_us(pair: Pair) -> int:
    """How far apart the two are: by their delays after the same sort of cause, or else by their instants."""
    one, other = pair
    from_a_us, from_b_us = _counted_from(pair)
    return abs((one.t_us - from_a_us) - (other.t_us - from_b_us))


def _counted_from(pair: Pair) -> tuple[int, int]:
    one, other = pair[0].cause, pair[1].cause
    if one is None or other is None or one.event.kind != other.event.kind:
        return 0, 0
    return one.t_us, other.t_us


def _blame(found: Comparison, ours: list[Milestone], theirs: list[Milestone]) -> None:
    """What is left: paired in order it came at another time, and what remains came in one run only."""
    for pair in zip(ours, theirs, strict=False):
        about = f"{_off_us(pair) / 1e6:.1f} s apart, over {pair[0].tolerance_us / 1e6:g} s"
        cause = pair[0].cause
        if cause is not None and _counted_from(pair) != (0, 0):
            about += f", counted from {cause.event.kind}"
        found.differences.append(_difference(*pair, about))
    common = min(len(ours), len(theirs))
    found.differences += [_difference(each, None, "only in A") for each in ours[common:]]
    found.differences += [_difference(None, each, "only in B") for each in theirs[common:]]


def _difference(one: Milestone | None, other: Milestone | None, why: str) -> Difference:
    event = (one or other or _never()).event
    return Difference(event.who, what(event), one.t_us if one else None, other.t_us if other else None, why)


def _never() -> Milestone:
    raise ValueError("a difference without a milestone")


def what(event: TraceEvent) -> str:
    """An event in a few words: its kind, and the fields that tell it from others of that kind."""
    said = told(event)[2:]
    shown = [f"{name}={value}" for name, value in zip(timing(event).says, said, strict=True) if value]
    return " ".join([event.kind, *shown])


def _note_width(found: Comparison, pair: Pair) -> None:
    share = _off_us(pair) / pair[0].tolerance_us
    if found.widest is None or share > found.widest[0]:
        found.widest = (share, *pair)


def _entities(pairs: list[Pair]) -> Iterable[list[Pair]]:
    """The pairs by speaker, and what is said of a node again by node; each in the order of A."""
    grouped: dict[str, list[Pair]] = defaultdict(list)
    for pair in sorted(pairs, key=lambda each: each[0].place):
        event = pair[0].event
        grouped[event.who].append(pair)
        about = subject(event)
        if event.kind.startswith("node.") and about != event.who:
            grouped[about].append(pair)
    return grouped.values()


def _check_order(found: Comparison, pairs: list[Pair]) -> None:
    """`pairs` are in the order of A: whoever stands before one of them in B as well, or may change places with it?"""
    for at, later in enumerate(pairs):
        for earlier in reversed(pairs[:at]):
            if later[0].t_us - earlier[0].t_us > LOOK_BACK_US:
                break
            if earlier[1].place > later[1].place and not _may_swap(earlier, later):
                why = f"the other way round than {what(earlier[0].event)}"
                difference = _difference(later[0], later[1], why)
                if difference not in found.differences:
                    found.differences.append(difference)


def _may_swap(earlier: Pair, later: Pair) -> bool:
    gaps = abs(later[0].t_us - earlier[0].t_us), abs(earlier[1].t_us - later[1].t_us)
    if max(gaps) == 0:
        return True
    if _one_process(earlier[0], later[0]) and _one_process(earlier[1], later[1]):
        return False
    return max(gaps) <= max(each.slack_us for each in (*earlier, *later))


def _one_process(one: Milestone, other: Milestone) -> bool:
    """Steps of one thing, such as raised and cleared: same speaker, same family, same subject, and the same id."""
    return _process(one.event) == _process(other.event)


def _process(event: TraceEvent) -> tuple[Any, ...]:
    return event.who, event.kind.partition(".")[0], subject(event), event.fields.get("id")


def _compare_losses(found: Comparison) -> None:
    for reading in sorted((found.a.lost - found.b.lost).keys()):
        found.differences.append(_loss(reading, "only in A"))
    for reading in sorted((found.b.lost - found.a.lost).keys()):
        found.differences.append(_loss(reading, "only in B"))
    ours, theirs = found.a.summary["readings"], found.b.summary["readings"]
    for term in _TERMS:
        if ours.get(term) != theirs.get(term):
            why = f"{_shown(ours.get(term))} in A, {_shown(theirs.get(term))} in B"
            found.differences.append(Difference("ledger", f"readings {term}", None, None, why))


def _loss(reading: Loss, why: str) -> Difference:
    node, boot, seq, cause = reading
    return Difference(node, f"reading lost: boot no. {boot}, seq {seq}: {cause}", None, None, why)


def _shown(term: Any) -> str:
    if isinstance(term, dict):
        return ", ".join(f"{count} {name}" for name, count in term.items()) or "none"
    return str(term)
