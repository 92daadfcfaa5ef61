"""Expectations: whom and what they mean, from where they count, and a readable name for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from clawsim.scenario.context import Context
from clawsim.scenario.errors import Mark, did_you_mean
from clawsim.scenario.models import After, CallExpect, Counted, EventExpect, ReadingsExpect, Scenario
from clawsim.scenario.naming import call_name, event_name, readings_name, unique
from clawsim.scenario.plan import Anchor, CallExpectation, EventExpectation, Expectation, ReadingsExpectation
from clawsim.scenario.source import plain
from clawsim.scenario.values import check_cause, check_where
from clawsim.scenario.vocabulary import ANY, FLEET, GATEWAY, HUB, KINDS, NODE, OF_ENTRY, SAME, WORLD, EventKind

_OPENING = {"fault": "fault.effective", "call": "call.sent", "inject": "inject.sent"}
"""What ``after: NAME`` counts from, by the kind of the entry of that name."""
_ABOUT = {"node": (NODE,), "gateway": (GATEWAY,), "target": (NODE, GATEWAY), "from": (NODE, GATEWAY)}
"""Which sorts of entity the field that an event is about can hold."""


def resolve_expectations(scenario: Scenario, context: Context) -> list[Expectation]:
    """The expectations in the order of the file, with names that are all different."""
    found: list[Expectation] = []
    for expect in scenario.expect:
        _check_counts(expect, context)
        found.extend(_resolve(expect, scenario, context))
    return unique(found)


def _resolve(
    expect: EventExpect | ReadingsExpect | CallExpect, scenario: Scenario, context: Context
) -> Iterator[Expectation]:
    if isinstance(expect, EventExpect):
        yield from _events(expect, scenario, context)
    elif isinstance(expect, ReadingsExpect):
        check_cause(expect, context)
        counts = (expect.equals, expect.at_least, expect.at_most)
        yield ReadingsExpectation(expect.name or readings_name(expect), expect.readings, expect.cause, *counts)
    else:
        yield _call(expect, context)


def _check_counts(expect: EventExpect | ReadingsExpect | CallExpect, context: Context) -> None:
    if not isinstance(expect, Counted):
        return
    if expect.equals is not None and (expect.at_least is not None or expect.at_most is not None):
        context.complain(expect.mark("equals"), "equals: says it all; leave out at_least and at_most")
    if expect.at_least is not None and expect.at_most is not None and expect.at_least > expect.at_most:
        context.complain(expect.mark("at_least"), "at_least: is more than at_most")
    if isinstance(expect, ReadingsExpect) and not _counts(expect):
        context.complain(expect.mark(), f"readings {expect.readings}: needs equals, at_least or at_most")


def _counts(expect: Counted) -> bool:
    return any(count is not None for count in (expect.equals, expect.at_least, expect.at_most))


def _call(expect: CallExpect, context: Context) -> CallExpectation:
    calls = context.names.of_kind("call")
    if expect.call not in calls:
        message = f"call: the timeline has no call '{expect.call}'{did_you_mean(expect.call, calls)}"
        context.complain(expect.mark("call"), message)
    if expect.status is None and not expect.body and expect.within is None:
        context.complain(expect.mark(), "the expectation of a call needs status, body or within")
    name = expect.name or call_name(expect)
    return CallExpectation(name, expect.call, expect.status, plain(expect.body), expect.within)


def _events(expect: EventExpect, scenario: Scenario, context: Context) -> Iterator[EventExpectation]:
    """One expectation for each entity that ``who`` means, or a single one for anyone."""
    kind = _known_kind(expect.event, expect.mark("event"), context)
    if kind is None:
        return
    check_where(expect.where, kind, expect.mark("where"), scenario, context)
    anchor = _anchor(expect, scenario, context)
    _check_window(expect, scenario, context)
    where = {**plain(expect.where), **_of_entry(expect, kind, context)}
    during = _during(expect, context)
    for who, about in _speakers(expect, kind, context):
        yield _event(expect, who, {**where, **about}, _anchored(anchor, who, about, context), during)


def _anchored(anchor: Anchor | None, who: str | None, about: dict[str, str], context: Context) -> Anchor | None:
    """``anchor`` with ``who: same`` put right for the entity that the expectation is about."""
    if anchor is None or anchor.who != SAME:
        return anchor
    entity = who or next(iter(about.values()), "")
    role = _role(entity, KINDS[anchor.kind], context) if entity else None
    return replace(anchor, who=role[0], where={**anchor.where, **role[1]}) if role else None


def _event(
    expect: EventExpect, who: str | None, where: Mapping[str, Any], after: Anchor | None, during: str | None
) -> EventExpectation:
    plan = EventExpectation(
        name="",
        kind=expect.event,
        who=who,
        where=where,
        after=after,
        no_sooner_than_us=expect.not_before,
        within_us=expect.within,
        during=during,
        at_least=expect.at_least if _counts(expect) else 1,
        at_most=expect.at_most,
        equals=expect.equals,
    )
    return event_name(plan, expect.name)


def _known_kind(name: str, mark: Mark, context: Context) -> EventKind | None:
    if name not in KINDS:
        context.complain(mark, f"unknown event '{name}'{did_you_mean(name, KINDS)}")
    return KINDS.get(name)


def _check_window(expect: EventExpect, scenario: Scenario, context: Context) -> None:
    if expect.not_before is not None and expect.within is not None and expect.not_before > expect.within:
        context.complain(expect.mark("not_before"), "not_before: is later than within")
    if expect.not_before is not None and expect.not_before >= scenario.duration + scenario.settle:
        context.complain(expect.mark("not_before"), "not_before: is later than the run's end, duration and settle")


def _speakers(expect: EventExpect, kind: EventKind, context: Context) -> list[tuple[str | None, dict[str, str]]]:
    """The (speaker, further fields) pairs that ``who`` means."""
    if expect.who is None:
        return [(None, {})]
    found: dict[str, tuple[str | None, dict[str, str]]] = {}
    for index, pattern in enumerate(expect.who):
        for entity in _entities(pattern, expect.mark("who", index), context):
            role = _role(entity, kind, context)
            if role is not None:
                found[entity] = role
            elif entity == pattern:
                context.complain(expect.mark("who", index), f"who: {_not_concerned(entity, kind)}")
    return list(found.values())


def _entities(pattern: str, mark: Mark, context: Context) -> list[str]:
    known = context.names.entities()
    if any(character in pattern for character in "*?["):
        matched = context.names.matching(pattern)
        if not matched:
            context.complain(mark, f"who: nobody matches '{pattern}'{did_you_mean(pattern.strip('*'), known)}")
        return matched
    if pattern not in (*known, WORLD):
        context.complain(mark, f"who: unknown id '{pattern}'{did_you_mean(pattern, known)}")
        return []
    return [pattern]


def _role(entity: str, kind: EventKind, context: Context) -> tuple[str | None, dict[str, str]] | None:
    """How ``entity`` takes part in an event: as its speaker, in the field it is about, or (``None``) not at all."""
    sort = _sort(entity, context)
    if sort == kind.speaker:
        return entity, {}
    concerned = _ABOUT.get(kind.about or "", ())
    if kind.about and sort in concerned and not (kind.speaker == ANY and sort == GATEWAY):
        return None, {kind.about: entity}
    return (entity, {}) if kind.speaker == ANY else None


def _sort(entity: str, context: Context) -> str:
    if entity in context.names.nodes:
        return NODE
    return {HUB: HUB, FLEET: FLEET, WORLD: WORLD}.get(entity, GATEWAY)


def _not_concerned(entity: str, kind: EventKind) -> str:
    about = f", about a {kind.about}" if kind.about else ""
    return f"'{entity}' has no part in {kind.name}, which is said by a {kind.speaker}{about}"


def _is_of_entry(kind: str) -> bool:
    return kind.startswith(OF_ENTRY)


def _of_entry(expect: EventExpect, kind: EventKind, context: Context) -> dict[str, str]:
    """The entry that the event itself is about, where its kind is about one."""
    if not _is_of_entry(kind.name):
        return {}
    name = _entry(kind.name, expect.of, expect.mark("of"), context)
    return {"of": name} if name else {}


def _entry(kind: str, of: str | None, mark: Mark, context: Context) -> str | None:
    """The timeline entry meant by ``of``, or the only one of its sort."""
    sort = kind.partition(".")[0]
    names = context.names.of_kind(sort)
    if of is not None:
        if of not in names:
            context.complain(mark, f"of: the timeline has no {sort} '{of}'{did_you_mean(of, names)}")
        return of
    if len(names) != 1:
        several = f"several ({', '.join(names)}): say which with `of`" if names else "none"
        context.complain(mark, f"{kind}: which {sort}? The timeline has {several}")
        return None
    return names[0]


def _anchor(expect: EventExpect, scenario: Scenario, context: Context) -> Anchor | None:
    if isinstance(expect.after, After):
        return _detailed_anchor(expect.after, expect, scenario, context)
    if expect.after is None:
        if expect.of is not None and not _is_of_entry(expect.event):
            context.complain(expect.mark("of"), "of: neither the event nor `after` is about an entry of the timeline")
        return None
    entries = context.names.entries
    if expect.after in entries:
        return Anchor(_OPENING[entries[expect.after]], of=expect.after)
    if expect.after not in KINDS:
        known = [*KINDS, *entries]
        context.complain(
            expect.mark("after"),
            f"after: '{expect.after}' is neither an event nor an entry of the timeline"
            + did_you_mean(expect.after, known),
        )
        return None
    of = _entry(expect.after, expect.of, expect.mark("of"), context) if _is_of_entry(expect.after) else None
    return Anchor(expect.after, of=of)


def _detailed_anchor(after: After, expect: EventExpect, scenario: Scenario, context: Context) -> Anchor | None:
    kind = _known_kind(after.event, after.mark("event"), context)
    if kind is None:
        return None
    check_where(after.where, kind, after.mark("where"), scenario, context)
    of = _entry(kind.name, after.of, after.mark("of"), context) if _is_of_entry(kind.name) else None
    who, about = _anchor_role(after, expect, kind, context)
    return Anchor(kind.name, who, of, {**plain(after.where), **about})


def _anchor_role(
    after: After, expect: EventExpect, kind: EventKind, context: Context
) -> tuple[str | None, dict[str, str]]:
    if after.who is None:
        return None, {}
    if after.who == SAME:
        return _same(after, expect, kind, context)
    if after.who not in (*context.names.entities(), WORLD):
        hint = did_you_mean(after.who, context.names.entities())
        context.complain(after.mark("who"), f"who: unknown id '{after.who}'{hint}")
        return None, {}
    role = _role(after.who, kind, context)
    if role is None:
        context.complain(after.mark("who"), f"who: {_not_concerned(after.who, kind)}")
    return role or (None, {})


def _same(after: After, expect: EventExpect, kind: EventKind, context: Context) -> tuple[str | None, dict[str, str]]:
    """The placeholder that :func:`_anchored` replaces, once everyone it can stand for has a part in the event."""
    if expect.who is None:
        context.complain(after.mark("who"), "who: 'same' needs a `who` in the expectation itself")
    for pattern in expect.who or ():
        for entity in context.names.matching(pattern):
            if _role(entity, kind, context) is None and entity == pattern:
                context.complain(after.mark("who"), f"who: {_not_concerned(entity, kind)}")
    return SAME, {}


def _during(expect: EventExpect, context: Context) -> str | None:
    faults = context.names.of_kind("fault")
    if expect.during is None or expect.during in faults:
        return expect.during
    if expect.during == "fault" and len(faults) == 1:
        return faults[0]
    hint = f"; say which: {', '.join(faults)}" if expect.during == "fault" else did_you_mean(expect.during, faults)
    context.complain(expect.mark("during"), f"during: the timeline has no single fault '{expect.during}'{hint}")
    return None
