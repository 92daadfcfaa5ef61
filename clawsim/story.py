"""The story of a run as people read it: what mattered, in order, alike things together, each thing said once."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from clawsim.echoes import merged
from clawsim.enumeration import listed
from clawsim.trace import TraceEvent
from clawsim.wording import filled, in_number, template

GROUP_US = 60_000_000
_STARTS = ("node.started", "gateway.started", "fleet.started", "hub.started")
_ROUTINE = (*_STARTS, "node.up", "gateway.online", "gateway.up")
_SIGNS = {
    "fault.effective": "⚡",
    "fault.cleared": "⚡",
    "gateway.offline": "▼",
    "gateway.down": "▼",
    "node.down": "▼",
    "node.unknown": "▼",
    "gateway.online": "▲",
    "gateway.up": "▲",
    "node.up": "▲",
    "failover.joined": "▲",
    "alarm.local": "!",
    "alert.raised": "!",
}


@dataclass
class Line:
    """One line of the story: alike events, from the first to the last."""

    event: TraceEvent
    """The first of them."""
    last_us: int
    text: str
    names: list[str] = field(default_factory=list)
    count: int = 1

    @property
    def kind(self) -> str:
        """What sort of events these are."""
        return self.event.kind

    @property
    def first_us(self) -> int:
        """When the first happened."""
        return self.event.t_us

    @property
    def sign(self) -> str:
        """A sign for the eye."""
        return _SIGNS.get(self.kind, "·")

    def say(self, words: str) -> str:
        """`words` about the subjects of this line."""
        return in_number(filled(words, self.event), len(set(self.names)))


def tell(events: list[TraceEvent]) -> list[Line]:
    """The story of `events`, which are in order of time."""
    return merged(_lines(events))


def _lines(events: list[TraceEvent]) -> list[Line]:
    lines: list[Line] = []
    open_lines: dict[tuple[Any, ...], Line] = {}
    for event, words in _told(events):
        key = (event.kind, *_group(event))
        line = open_lines.get(key)
        if line is not None and event.t_us - line.last_us <= GROUP_US:
            line.last_us = event.t_us
            line.count += 1
            line.names.append(_subject(event))
        else:
            line = open_lines[key] = Line(event, event.t_us, filled(words, event), [_subject(event)])
            lines.append(line)
    for line in lines:
        line.text = in_number(_together(line) if line.count > 1 else line.text, len(set(line.names)))
    return lines


def _told(events: list[TraceEvent]) -> Iterable[tuple[TraceEvent, str]]:
    """The events that belong to the story, with the words for them."""
    calm = _first_disturbance(events)
    for event in events:
        words = template(event)
        if words is not None and not (event.kind in _ROUTINE and event.t_us < calm):
            yield event, words


def _first_disturbance(events: list[TraceEvent]) -> int:
    """Before anything of the timeline happens, that things come up is no news."""
    return next((e.t_us for e in events if e.kind in ("fault.requested", "call.sent", "inject.sent")), 1 << 62)


def _group(event: TraceEvent) -> tuple[Any, ...]:
    """What events must share to stand on one line."""
    if event.kind.startswith("notification."):
        return (event.fields.get("subject", "").split(":")[-1].split(" ")[-1],)
    return tuple(event.fields.get(name) for name in ("of", "rule", "by", "status", "gateway", "reason", "action"))


def _subject(event: TraceEvent) -> str:
    if event.kind.startswith("notification."):
        return str(event.fields.get("subject"))
    return str(event.fields.get("node") or event.fields.get("target") or event.who)


def _together(line: Line) -> str:
    names = sorted(set(line.names))
    shown = listed(names)
    one = line.names[0]
    if len(names) == 1:
        return f"{line.text} ({line.count}×)"
    if one in line.text:
        return line.text.replace(one, shown, 1)
    return f"{line.text} ({shown})"
