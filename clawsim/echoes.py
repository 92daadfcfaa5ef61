"""What two lines of the story say of one thing becomes one line: a rule that fires and the alarm that it sounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clawsim.story import Line

ECHO_US = 10_000_000
"""An echo comes within a command's way to a node, also where that is a real network and time runs fast."""
ANSWER_US = 500_000
"""A call that takes longer is answered on a line of its own: what happens in between is the answer's reason."""


@dataclass(frozen=True)
class _Echo:
    """A line of `kind` goes on with what a line of `of` began, in these `words`; without words it stands for both."""

    kind: str
    of: str
    words: str | None
    belongs: Callable[[Line, Line], bool]
    within_us: int = ECHO_US


def merged(lines: list[Line]) -> list[Line]:
    """`lines` without echoes; what they add is said where it belongs."""
    told: list[Line] = []
    home: dict[int, Line] = {}  # where what a line says stands, by the line's identity
    for at, line in enumerate(lines):
        heard = _heard(line, lines[:at])
        if heard is None:
            told.append(line)
            home[id(line)] = line
            continue
        echo, original = heard
        place = home[id(line)] = home[id(original)]
        if echo.words is None:
            place.text, place.event = line.text, line.event
        else:
            place.text += line.say(echo.words)
    return told


def _heard(line: Line, earlier: list[Line]) -> tuple[_Echo, Line] | None:
    echoes = _BY_KIND.get(line.kind, ())
    for original in reversed(earlier if echoes else []):
        for echo in echoes:
            if original.kind == echo.of and _near(line, original, echo.within_us) and echo.belongs(line, original):
                return echo, original
    return None


def _near(one: Line, other: Line, within_us: int) -> bool:
    return abs(one.first_us - other.first_us) <= within_us and abs(one.last_us - other.last_us) <= within_us


def _same_alert(line: Line, original: Line) -> bool:
    fields, others = line.event.fields, original.event.fields
    return _same_subjects(line, original) and all(fields.get(key) == others.get(key) for key in ("rule", "by"))


def _same_subjects(line: Line, original: Line) -> bool:
    return set(line.names) == set(original.names)


def _same_call(line: Line, original: Line) -> bool:
    return line.event.fields.get("of") == original.event.fields.get("of")


def _same_gateway(line: Line, original: Line) -> bool:
    joined = line.event.fields.get("gateway") or line.event.who
    return _same_subjects(line, original) and joined == original.event.who


def _notice_of(line: Line, original: Line) -> bool:
    subject = _SUBJECTS[original.kind]
    rule, gateway = (original.event.fields.get(key) for key in ("rule", "gateway"))
    return set(line.names) == {subject.format(name=name, rule=rule, gateway=gateway) for name in original.names}


_SUBJECTS = {
    "alert.raised": "{rule} on {name}: raised",
    "alert.cleared": "{rule} on {name}: cleared",
    "gateway.down": "gateway {gateway} is down",
    "gateway.up": "gateway {gateway} is back",
    "node.down": "node {name} is down",
    "node.up": "node {name} is back",
}
"""The subjects of the fleet manager's notifications (`fleet.core`)."""

_ECHOES = (
    _Echo("alarm.local", "alert.raised", ", which sounds [its alarm|their alarms]", _same_alert),
    _Echo("alarm.silenced", "alert.cleared", ", which ends [its alarm|their alarms]", _same_alert),
    _Echo("gateway.catching-up", "gateway.online", ", uploads {readings} kept readings", _same_subjects),
    _Echo("gateway.caught-up", "gateway.catching-up", " and has caught up", _same_subjects),
    _Echo("node.up", "node.started", ", and {who} hears [it|them]", _same_subjects),
    _Echo("node.up", "failover.joined", "", lambda line, original: _same_gateway(original, line)),
    _Echo("failover.joined", "node.up", None, _same_gateway),
    _Echo("call.answered", "call.sent", " is answered {status}", _same_call, ANSWER_US),
    *(_Echo("notification.sent", kind, "; people are told", _notice_of) for kind in _SUBJECTS),
)
_BY_KIND: dict[str, tuple[_Echo, ...]] = {
    kind: tuple(echo for echo in _ECHOES if echo.kind == kind) for kind in {echo.kind for echo in _ECHOES}
}
