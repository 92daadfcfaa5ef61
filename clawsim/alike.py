"""Expectations that were met and differ in nothing but whom they are about, as one: forty nodes are no forty lines."""

from __future__ import annotations

import re
from collections.abc import Iterable

from clawsim.enumeration import listed
from clawsim.expect import PASS, Judgement

MOST_SEEN = 3
_ID = re.compile(r"[a-z][a-z0-9-]*\d")
_ONCE = re.compile(r"1× at \+(\d+\.\d) s")


def together(judgements: Iterable[Judgement]) -> list[Judgement]:
    """`judgements` in their order; neighbours of one group that passed are one, and what failed stands alone."""
    groups: list[list[Judgement]] = []
    for judgement in judgements:
        if groups and _belongs(judgement, groups[-1]):
            groups[-1].append(judgement)
        else:
            groups.append([judgement])
    return [_one(group) for group in groups]


def _belongs(judgement: Judgement, group: list[Judgement]) -> bool:
    if judgement.verdict != PASS or group[0].verdict != PASS:
        return False
    return _whom(judgement, group[0]) is not None and (len(group) == 1 or _same_place(judgement, group))


def _same_place(judgement: Judgement, group: list[Judgement]) -> bool:
    """Whether it is the id of the first that is another one here, as in the others of the group."""
    here, there = _whom(group[0], judgement), _whom(group[0], group[1])
    return here is not None and there is not None and here[0] == there[0]


def _whom(one: Judgement, other: Judgement) -> tuple[str, str] | None:
    """The one id of each in which the two names differ."""
    words, others = one.name.split(" "), other.name.split(" ")
    differing = {pair for pair in zip(words, others, strict=False) if pair[0] != pair[1]}
    if len(words) != len(others) or len(differing) != 1:
        return None
    [pair] = differing
    return pair if all(_ID.fullmatch(word) for word in pair) else None


def _one(group: list[Judgement]) -> Judgement:
    if len(group) == 1:
        return group[0]
    pairs = [pair for other in group[1:] if (pair := _whom(group[0], other))]
    first = pairs[0][0]
    ids = listed(sorted([first, *(pair[1] for pair in pairs)]))
    words = group[0].name.split(" ")
    at = words.index(first)
    rest = ["the same" if word == first else word for word in words[at + 1 :]]
    return Judgement(" ".join([*words[:at], f"each of {ids}", *rest]), PASS, _seen([each.seen for each in group]))


def _seen(seen: list[str]) -> str:
    distinct = list(dict.fromkeys(seen))
    once = [float(found[1]) for text in distinct if (found := _ONCE.fullmatch(text))]
    if len(distinct) > 1 and len(once) == len(distinct):
        return f"1× each, +{min(once):.1f} s … +{max(once):.1f} s"
    more = [f"… ({len(distinct) - MOST_SEEN} more)"] if len(distinct) > MOST_SEEN else []
    return "; ".join([*distinct[:MOST_SEEN], *more])
