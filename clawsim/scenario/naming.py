"""Readable names for expectations that the file does not name: what the verdict, JUnit and the summary call them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from clawsim.scenario.models import CallExpect, ReadingsExpect
from clawsim.scenario.plan import Anchor, EventExpectation, Expectation
from clawsim.scenario.units import spoken
from clawsim.scenario.vocabulary import KINDS

_PHASES = {"fault.requested": " is requested", "fault.cleared": " clears", "call.answered": " is answered"}
"""What is said of a timeline entry besides that it began."""


def event_name(plan: EventExpectation, given: str | None) -> EventExpectation:
    """``plan`` with its name: ``given``, told apart by whom it is about, or else one made of what it says."""
    if given is not None:
        return replace(plan, name=given)
    parts = [plan.kind, *_whom(plan), *_window(plan), *_count(plan.equals, plan.at_least, plan.at_most)]
    return replace(plan, name=" ".join(parts))


def _whom(plan: EventExpectation) -> list[str]:
    about = KINDS[plan.kind].about or ""
    ids = [plan.who] if plan.who else []
    fields = [f"{key}={_shown(value)}" for key, value in plan.where.items() if key != about]
    ids += [_shown(plan.where[about])] if about in plan.where else []
    return [*ids, *([f"[{', '.join(fields)}]"] if fields else [])]


def _window(plan: EventExpectation) -> list[str]:
    parts = []
    if plan.no_sooner_than_us is not None:
        parts.append(f"not before {spoken(plan.no_sooner_than_us)}")
    if plan.within_us is not None:
        parts.append(f"within {spoken(plan.within_us)}")
    if plan.after is not None:
        parts.append(f"after {_anchor(plan.after)}")
    if plan.during is not None:
        parts.append(f"during {plan.during}")
    return parts


def _anchor(anchor: Anchor) -> str:
    if anchor.of is not None:
        return anchor.of + _PHASES.get(anchor.kind, "")
    whom = anchor.who or ", ".join(str(value) for value in anchor.where.values())
    return f"{anchor.kind} of {whom}" if whom else anchor.kind


def _count(equals: int | None, at_least: int | None, at_most: int | None) -> list[str]:
    if equals is not None:
        return [{0: "never", 1: "once"}.get(equals, f"{equals} times")]
    low = [f"at least {at_least} times"] if at_least is not None and (at_least != 1 or at_most is not None) else []
    return low + ([f"at most {at_most} times"] if at_most is not None else [])


def readings_name(expect: ReadingsExpect) -> str:
    """``readings lost = 0``, ``readings lost by overflow <= 10``."""
    by = f" ({expect.cause})" if expect.cause else ""
    low = [f">= {expect.at_least}"] if expect.at_least is not None else []
    counts = [f"= {expect.equals}"] if expect.equals is not None else low
    high = [f"<= {expect.at_most}"] if expect.at_most is not None else []
    return " ".join([f"readings {expect.readings}{by}", *counts, *high])


def call_name(expect: CallExpect) -> str:
    """``call restart: 202 within 5 s``."""
    parts = [f"call {expect.call}:"]
    parts += [str(expect.status)] if expect.status is not None else []
    parts += [f"[{_fields(expect.body)}]"] if expect.body else []
    parts += [f"within {spoken(expect.within)}"] if expect.within is not None else []
    return " ".join(parts)


def _fields(body: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={_shown(value)}" for key, value in body.items())


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def unique(found: list[Expectation]) -> list[Expectation]:
    """The expectations with names that are all different: a repeated one tells whom it is about, or its number."""
    times = Counter(plan.name for plan in found)
    taken: set[str] = set()
    renamed: list[Expectation] = []
    for plan in found:
        name = plan.name
        if times[name] > 1 and isinstance(plan, EventExpectation) and _whom(plan):
            name = f"{name} ({' '.join(_whom(plan))})" if not name.startswith(plan.kind) else name
        number = 2
        while name in taken:
            name, number = f"{plan.name} ({number})", number + 1
        taken.add(name)
        renamed.append(replace(plan, name=name))
    return renamed
