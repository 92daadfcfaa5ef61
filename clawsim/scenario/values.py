"""Values that an expectation looks for: one that no event can hold would match nothing, and `equals: 0` always pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from clawsim.scenario.context import Context
from clawsim.scenario.errors import Mark, did_you_mean
from clawsim.scenario.models import ReadingsExpect, Scenario
from clawsim.scenario.vocabulary import LOST_CAUSES, EventKind, words_for

_IDS = ("node", "gateway", "target")
MOST_LISTED = 6


def check_where(where: Mapping[str, Any], kind: EventKind, mark: Mark, scenario: Scenario, context: Context) -> None:
    """Complains about fields that events of ``kind`` do not have, and values that these cannot hold."""
    for name, value in where.items():
        if name not in kind.fields:
            context.complain(mark, f"where: {kind.name} has no field '{name}'{did_you_mean(name, kind.fields)}")
            continue
        known = _known_values(name, kind, scenario, context)
        if known is not None and value not in known:
            context.complain(mark, f"where: {name} of {kind.name} is never '{value}'{_instead(str(value), known)}")


def check_cause(expect: ReadingsExpect, context: Context) -> None:
    """Complains about a cause of loss, or a place where readings wait, that there is not."""
    cause = expect.cause
    if cause is None:
        return
    if expect.readings == "lost":
        words, _, place = cause.partition(" at ")
        _expect_among(words, LOST_CAUSES, "cause: nothing is lost by", expect, context)
        if place:
            _expect_among(place, context.names.entities(), "cause: unknown place", expect, context)
    elif expect.readings == "buffered":
        _expect_among(cause, context.names.entities(), "cause: unknown place", expect, context)
    else:
        context.complain(expect.mark("cause"), f"cause: goes with lost and buffered, not with {expect.readings}")


def _expect_among(word: str, known: Iterable[str], problem: str, expect: ReadingsExpect, context: Context) -> None:
    known = list(known)
    if word not in known:
        context.complain(expect.mark("cause"), f"{problem} '{word}'{_instead(word, known)}")


def _instead(word: str, known: list[str]) -> str:
    """What it may be, as far as that can be listed."""
    if len(known) > MOST_LISTED:
        return did_you_mean(word, known)
    return f"; it is one of {', '.join(known)}" if known else "; there is none"


def _known_values(name: str, kind: EventKind, scenario: Scenario, context: Context) -> list[str] | None:
    if name in _IDS:
        return context.names.entities()
    if name == "rule":
        return [rule.name for rule in scenario.rules]
    words = words_for(kind.name, name)
    return None if words is None else list(words)
