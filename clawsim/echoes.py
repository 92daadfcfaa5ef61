"""What two lines of the story say of one thing becomes one line: a rule that fires and the alarm that it sounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clawsim.story import Line

ECHO_US = 10_000_000
"""An echo comes within a command's way to a node, also where that is a real network and time runs fast."""


@dataclass(frozen=True)
class _Echo:
    """A line of `kind` goes on with what a line of `of` began, in these `words`; without words it stands for both.

    `unless_interrupted` by a line about something else, which may be the reason.
    """

    kind: str
    of: str
    words: str | None
    belongs: Callable[[Line, Line], bool]
    unless_interrupted: bool = False


def merged(lines: list[Line]) -> list[Line]:
    """`lines` without echoes; what they add is said where it belongs."""
    told: list[Line] = []
    home: dict[int, Line] = {}  # where what a line says stands, by the line's identity
    said: dict[int, list[tuple[int, str]]] = {}  # what such a place says besides, by the order of `_ECHOES`
    for at, line in enumerate(lines):
        heard = _heard(line, (lines[before] for before in range(at - 1, -1, -1)))
        if heard is None:
            told.append(line)
            home[id(line)] = line
            continue
        echo, original = heard
        place = home[id(line)] = home[id(original)]
        if echo.words is None:
            place.text, place.event = line.text, line.event
        else:
            said.setdefault(id(place), []).append((_ECHOES.index(echo), line.say(echo.words)))
    for line in told:
        line.text += "".join(words for _, words in sorted(said.get(id(line), [])))
    return told


def _heard(line: Line, earlier: Iterable[Line]) -> tuple[_Echo, Line] | None:
    """What `line` echoes; `earlier` are the lines before it, the latest first."""
    echoes = _BY_KIND.get(line.kind, ())
    interrupted = False
    for original in earlier if echoes else ():
        if line.first_us - original.first_us > ECHO_US:
            return None
        for echo in echoes:
            if original.kind == echo.of and _near(line, original) and echo.belongs(line, original):
                return None if echo.unless_interrupted and interrupted else (echo, original)
        interrupted = interrupted or original.kind.partition(".")[0] != line.kind.partition(".")[0]
    return None


def _near(one: Line, other: Line) -> bool:
    return abs(one.first_us - other.first_us) <= ECHO_US and abs(one.last_us - other.last_us) <= ECHO_US


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

# What comes first here is said first.
_ECHOES = (
    _Echo("alarm.local", "alert.raised", ", which sounds [its alarm|their alarms]", _same_alert),
    _Echo("alarm.silenced", "alert.cleared", ", which ends [its alarm|their alarms]", _same_alert),
    _Echo("gateway.catching-up", "gateway.online", ", uploads {readings} kept readings", _same_subjects),
    _Echo("gateway.caught-up", "gateway.catching-up", " and has caught up", _same_subjects),
    _Echo("node.up", "node.started", ", and {who} hears [it|them]", _same_subjects),
    _Echo("node.up", "failover.joined", "", lambda line, original: _same_gateway(original, line)),
    _Echo("failover.joined", "node.up", None, _same_gateway),
    _Echo("call.answered", "call.sent", " is answered {status}", _same_call, unless_interrupted=True),
    *(_Echo("notification.sent", kind, "; people are told", _notice_of) for kind in _SUBJECTS),
)
_BY_KIND: dict[str, tuple[_Echo, ...]] = {
    kind: tuple(echo for echo in _ECHOES if echo.kind == kind) for kind in {echo.kind for echo in _ECHOES}
}
