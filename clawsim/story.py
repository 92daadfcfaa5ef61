"""The story of a run as people read it: what mattered, in order, alike things together."""

import re
from dataclasses import dataclass, field
from typing import Any

from clawsim.trace import TraceEvent

GROUP_US = 60_000_000
MOST_NAMES = 4
LEAST_RUN = 3
_NUMBERED = re.compile(r"(.*?)([a-z0-9-]*?)(\d+)(\D*)", re.DOTALL)

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
    where = {"node": event.fields["scope"]} if "scope" in event.fields else {}  # an alert about no single node
    return template.format_map(_Blank({"who": event.who, **where, **event.fields}))


def _in_number(text: str, subjects: int) -> str:
    """`[one|many]` in the number of the subjects."""
    return re.sub(r"\[([^]|]*)\|([^]]*)]", lambda found: found[1 if subjects == 1 else 2], text)


class _Blank(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "?"


def _together(line: Line) -> str:
    names = sorted(set(line.names))
    shown = listed(names)
    one = line.names[0]
    if len(names) == 1:
        return f"{line.text} ({line.count}×)"
    if one in line.text:
        return line.text.replace(one, shown, 1)
    return f"{line.text} ({shown})"


def listed(names: list[str]) -> str:
    """Sorted names for a reader: `sensor-01 … sensor-05` for a run of three or more, and only so many of them."""
    parts: list[str] = []
    counts: list[int] = []
    for run in _runs(names):
        short = len(run) >= LEAST_RUN
        parts += [_spanning(run[0], run[-1])] if short else run
        counts += [len(run)] if short else [1] * len(run)
    if len(parts) <= MOST_NAMES + 1:  # "and 1 more" says less than its name
        return ", ".join(parts)
    return ", ".join(parts[:MOST_NAMES]) + f" and {sum(counts[MOST_NAMES:])} more"


def _runs(names: list[str]) -> list[list[str]]:
    """Neighbours that differ in nothing but a number, which goes up by one."""
    runs: list[list[str]] = []
    for name in names:
        if runs and _follows(runs[-1][-1], name):
            runs[-1].append(name)
        else:
            runs.append([name])
    return runs


def _follows(name: str, other: str) -> bool:
    one, two = _NUMBERED.fullmatch(name), _NUMBERED.fullmatch(other)
    if one is None or two is None or one.group(1, 2, 4) != two.group(1, 2, 4):
        return False
    return int(two[3]) == int(one[3]) + 1


def _spanning(first: str, last: str) -> str:
    """What the two share, once: `hot on sensor-01 … sensor-05: raised`."""
    one, two = _NUMBERED.fullmatch(first), _NUMBERED.fullmatch(last)
    assert one is not None and two is not None  # noqa: S101 - they follow each other, see `_runs`
    return f"{one[1]}{one[2]}{one[3]} … {two[2]}{two[3]}{one[4]}"
