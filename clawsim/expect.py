"""Judging a run: each expectation of the scenario against what was seen.

An expectation passes or fails; it is invalid when what it counts from never happened, since then it says nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from clawsim.ledger import Account
from clawsim.scenario.plan import (
    Anchor,
    CallExpectation,
    EventExpectation,
    Expectation,
    Plan,
    ReadingsExpectation,
)
from clawsim.trace import EventLog, TraceEvent

PASS, FAIL, INVALID = "PASS", "FAIL", "INVALID"
MOST_SEEN = 3
_UNTOLD = ("reading.", "batch.", "downlink.", "frame.", "host.")


@dataclass(frozen=True)
class Judgement:
    """One expectation and what was seen of it."""

    name: str
    verdict: str
    seen: str


class Milestones:
    """The events worth keeping: all but readings and batches, and of those what an expectation asks for."""

    def __init__(self, log: EventLog, plan: Plan) -> None:
        self.events: list[TraceEvent] = []
        asked = {e.kind for e in plan.expectations if isinstance(e, EventExpectation)}
        asked |= {e.after.kind for e in plan.expectations if isinstance(e, EventExpectation) and e.after}
        from clawsim.scenario.vocabulary import KINDS

        kinds = [kind for kind in {*KINDS, *asked, *_EXTRA} if kind in asked or not kind.startswith(_UNTOLD)]
        log.listen(self.events.append, *sorted(kinds))

    def of(self, kind: str) -> list[TraceEvent]:
        """All events of `kind`, in order."""
        return [event for event in self.events if event.kind == kind]


_EXTRA = ("store.failed", "store.recovered", "command.executed", "process.died")


def judge(
    plan: Plan, events: list[TraceEvent], account: Account, answers: Mapping[str, Mapping[str, Any]]
) -> list[Judgement]:
    """Every expectation of `plan`, in its order."""
    by_kind: dict[str, list[TraceEvent]] = {}
    for event in events:
        by_kind.setdefault(event.kind, []).append(event)
    return [_judge(expectation, by_kind, account, answers) for expectation in plan.expectations]


def _judge(
    expectation: Expectation,
    by_kind: Mapping[str, list[TraceEvent]],
    account: Account,
    answers: Mapping[str, Mapping[str, Any]],
) -> Judgement:
    if isinstance(expectation, EventExpectation):
        return _judge_event(expectation, by_kind)
    if isinstance(expectation, ReadingsExpectation):
        count = account.of(expectation.fate, expectation.cause)
        return Judgement(expectation.name, _counted(expectation, count), str(count))
    return _judge_call(expectation, answers)


def _judge_event(expectation: EventExpectation, by_kind: Mapping[str, list[TraceEvent]]) -> Judgement:
    from_us, until_us = 0, None
    if expectation.after is not None:
        anchor = _anchor(expectation.after, by_kind)
        if anchor is None:
            return Judgement(expectation.name, INVALID, f"{expectation.after.kind} never happened")
        from_us = anchor.t_us
    if expectation.during is not None:
        window = _window(expectation.during, by_kind)
        if window is None:
            return Judgement(expectation.name, INVALID, f"{expectation.during} never took effect")
        from_us, until_us = max(from_us, window[0]), window[1]
    matching = [e for e in by_kind.get(expectation.kind, ()) if _matches(e, expectation.who, expectation.where)]
    after = [e for e in matching if e.t_us >= from_us and (until_us is None or e.t_us <= until_us)]
    counted = [e for e in after if _in_time(e.t_us - from_us, expectation)]
    return Judgement(expectation.name, _counted(expectation, len(counted)), _seen(counted, after, from_us))


def _judge_call(expectation: CallExpectation, answers: Mapping[str, Mapping[str, Any]]) -> Judgement:
    answer = answers.get(expectation.of)
    if answer is None:
        return Judgement(expectation.name, INVALID, "never answered")
    wrong = expectation.status is not None and answer["status"] != expectation.status
    wrong = wrong or not _contains(answer["body"], expectation.body_contains)
    late = expectation.within_us is not None and answer["took_us"] > expectation.within_us
    said = "no answer" if answer["status"] is None else str(answer["status"])
    seen = f"{said} after {answer['took_us'] / 1e6:.1f} s"
    result = answer["body"].get("result") if isinstance(answer["body"], dict) else None
    return Judgement(expectation.name, FAIL if wrong or late else PASS, seen + (f", {result}" if result else ""))


def _contains(body: Any, part: Any) -> bool:
    if isinstance(part, Mapping):
        return isinstance(body, Mapping) and all(key in body and _contains(body[key], part[key]) for key in part)
    return bool(body == part)


def _anchor(anchor: Anchor, by_kind: Mapping[str, list[TraceEvent]]) -> TraceEvent | None:
    for event in by_kind.get(anchor.kind, ()):
        if _matches(event, anchor.who, anchor.where) and (anchor.of is None or event.fields.get("of") == anchor.of):
            return event
    return None


def _window(fault: str, by_kind: Mapping[str, list[TraceEvent]]) -> tuple[int, int | None] | None:
    begins = [e.t_us for e in by_kind.get("fault.effective", ()) if e.fields.get("of") == fault]
    ends = [e.t_us for e in by_kind.get("fault.cleared", ()) if e.fields.get("of") == fault]
    return (begins[0], ends[0] if ends else None) if begins else None


def _matches(event: TraceEvent, who: str | None, where: Mapping[str, Any]) -> bool:
    if who is not None and event.who != who:
        return False
    return all(event.fields.get(name) == value for name, value in where.items())


def _in_time(after_us: int, expectation: EventExpectation) -> bool:
    if expectation.no_sooner_than_us is not None and after_us < expectation.no_sooner_than_us:
        return False
    return expectation.within_us is None or after_us <= expectation.within_us


def _counted(expectation: EventExpectation | ReadingsExpectation, count: int) -> str:
    if expectation.equals is not None:
        return PASS if count == expectation.equals else FAIL
    low = expectation.at_least is None or count >= expectation.at_least
    high = expectation.at_most is None or count <= expectation.at_most
    return PASS if low and high else FAIL


def _seen(counted: list[TraceEvent], after: Iterable[TraceEvent], from_us: int) -> str:
    if counted:
        shown = ", ".join(f"+{(event.t_us - from_us) / 1e6:.1f} s" for event in counted[:MOST_SEEN])
        more = f" and {len(counted) - MOST_SEEN} more" if len(counted) > MOST_SEEN else ""
        return f"{len(counted)}× at {shown}{more}"
    others = [f"+{(event.t_us - from_us) / 1e6:.1f} s" for event in after][:MOST_SEEN]
    return f"only outside that time: {', '.join(others)}" if others else "none"
