"""The story of a run as people read it: what mattered, in order, alike things together."""

import re
from dataclasses import dataclass, field
from typing import Any

from clawsim.trace import TraceEvent

GROUP_US = 60_000_000
MOST_NAMES = 4

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
    "alarm.local": "!",
    "alert.raised": "!",
}
_TOLD = {
    "gateway.offline": "{who} loses the cloud ({reason}) and decides alone",
    "gateway.online": "{who} reaches the cloud",
    "gateway.catching-up": "{who} uploads {readings} kept readings",
    "gateway.caught-up": "{who} has caught up",
    "gateway.down": "the cloud counts {gateway} as down",
    "gateway.up": "the cloud hears {gateway} again",
    "node.down": "{who} counts {node} as down",
    "node.up": "{who} hears {node}",
    "node.unknown": "the cloud can no longer tell about {node}",
    "node.started": "{who} [starts|start]",
    "gateway.started": "{who} [starts|start]",
    "fleet.started": "the fleet manager starts",
    "hub.started": "the Event Hub starts",
    "alert.raised": "{rule} is raised on {node} by the {by}",
    "alert.cleared": "{rule} is cleared on {node} by the {by}",
    "alarm.local": "{who} [sounds its alarm|sound their alarms], told by the {by}",
    "alarm.silenced": "{who} [silences its alarm|silence their alarms], told by the {by}",
    "failover.scan": "{who} [has|have] heard nothing of {gateway}: looking for another gateway",
    "failover.joined": "{who} [joins|join] {gateway}",
    "notification.sent": "people are told: {subject}",
    "call.sent": "{method} {path}",
    "call.answered": "{of} is answered {status}",
    "command.acknowledged": "{target} [answers|answer] {action}: {status}",
    "command.expired": "{action} for {target} expires unanswered",
    "command.failed": "{action} fails on {target}",
    "inject.sent": "{bytes} raw bytes on {topic}",
    "message.rejected": "{who} [refuses|refuse] a message on {topic}: {reason}",
    "reading.lost": "{who} [loses|lose] a reading: {cause}",
    "sensor.fault": "{who}: the sensor of {metric} is faulty: {reason}",
    "store.failed": "{who} cannot store: {reason}",
    "store.recovered": "{who} can store again",
    "process.died": "{who} died: {reason}",
}
_FAULTS = {
    "cut": ("the link {on} is cut", "the link {on} is whole again"),
    "delay": ("the link {on} becomes slow", "the link {on} is fast again"),
    "loss": ("the link {on} loses packets", "the link {on} loses no more"),
    "kill": ("{on} is killed", "{on} is started again"),
    "stop": ("{on} freezes", "{on} goes on"),
    "power": ("{on} loses its power", "{on} has power again"),
}


@dataclass
class Line:
    """One line of the story: alike events, from the first to the last."""

    kind: str
    first_us: int
    last_us: int
    text: str
    names: list[str] = field(default_factory=list)
    count: int = 1

    @property
    def sign(self) -> str:
        """A sign for the eye."""
        return _SIGNS.get(self.kind, "·")


def tell(events: list[TraceEvent]) -> list[Line]:
    """The story of `events`, which are in order of time."""
    lines: list[Line] = []
    open_lines: dict[tuple[Any, ...], Line] = {}
    calm = _first_disturbance(events)
    for event in events:
        template = _template(event)
        if template is None or (event.kind in _ROUTINE and event.t_us < calm):
            continue
        key = (event.kind, *_group(event))
        line = open_lines.get(key)
        if line is not None and event.t_us - line.last_us <= GROUP_US:
            line.last_us = event.t_us
            line.count += 1
            line.names.append(_subject(event))
        else:
            line = open_lines[key] = Line(event.kind, event.t_us, event.t_us, _fill(template, event), [_subject(event)])
            lines.append(line)
    for line in lines:
        line.text = _in_number(_together(line) if line.count > 1 else line.text, len(set(line.names)))
    return lines


_STARTS = ("node.started", "gateway.started", "fleet.started", "hub.started")
_ROUTINE = (*_STARTS, "node.up", "gateway.online", "gateway.up")


def _template(event: TraceEvent) -> str | None:
    if event.kind in ("fault.effective", "fault.cleared"):
        return _FAULTS[event.fields["fault"]][event.kind == "fault.cleared"]
    return _TOLD.get(event.kind)


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


def _fill(template: str, event: TraceEvent) -> str:
    return template.format_map(_Blank({"who": event.who, **event.fields}))


def _in_number(text: str, subjects: int) -> str:
    """`[one|many]` in the number of the subjects."""
    return re.sub(r"\[([^]|]*)\|([^]]*)]", lambda found: found[1 if subjects == 1 else 2], text)


class _Blank(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "?"


def _together(line: Line) -> str:
    names = sorted(set(line.names))
    shown = ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")
    one = line.names[0]
    if len(names) == 1:
        return f"{line.text} ({line.count}×)"
    if one in line.text:
        return line.text.replace(one, shown, 1)
    return f"{line.text} ({shown})"
