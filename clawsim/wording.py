"""What an event is in plain words. `[one|many]` stands for the word that goes with one subject, or with many."""

import re
from typing import Any

from clawsim.trace import TraceEvent

_TOLD = {
    "gateway.offline": "{who} loses the cloud ({reason}) and decides alone",
    "gateway.online": "{who} reaches the cloud",
    "uplink.switched": "{who} goes over to {uplink}, from {before}",
    "uplink.spent": "{who} has spent what {uplink} may carry today",
    "gateway.catching-up": "{who} uploads {readings} kept readings",
    "gateway.caught-up": "{who} has caught up",
    "gateway.down": "the cloud counts {gateway} as down",
    "gateway.up": "the cloud hears {gateway} again",
    "outbox.broken": "{gateway} could not read its outbox, and has moved it aside",
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
    "battery.low": "{who} [spares its battery|spare their batteries]",
    "battery.recovered": "{who} [has|have] power enough again",
    "config.rolled-back": "{who} [takes its|take their] new settings back: {reason}",
    "failover.scan": "{who} [has|have] heard nothing of {gateway}: looking for another gateway",
    "failover.joined": "{who} [joins|join] {gateway}",
    "failback.ordered": "{who} sends {node} back to {gateway}",
    "config.refused": "{who} refuses configuration {version}: {reason}",
    "command.refused": "{rule} cannot command {target}: {reason}",
    "notification.sent": "people are told: {subject}",
    "call.sent": "{of}: {method} {path}",
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

_MATTER_OF_COURSE = ("alert", "release", "rejoin", "answered")
"""Commands that the system gives itself: that one is done is seen by what it does, and only its failure is news."""


def template(event: TraceEvent) -> str | None:
    """The words for `event`, to be filled in; None when it belongs to no story."""
    if event.kind in ("fault.effective", "fault.cleared"):
        return _FAULTS[event.fields["fault"]][event.kind == "fault.cleared"]
    if event.kind == "command.acknowledged" and event.fields.get("action") in _MATTER_OF_COURSE:
        return None
    return _TOLD.get(event.kind)


def filled(words: str, event: TraceEvent) -> str:
    """`words` with what `event` says; the number is left open."""
    where = {"node": event.fields["scope"]} if "scope" in event.fields else {}  # an alert about no single node
    return words.format_map(_Blank({"who": event.who, **where, **event.fields}))


def in_number(text: str, subjects: int) -> str:
    """`[one|many]` in the number of the subjects."""
    return re.sub(r"\[([^]|]*)\|([^]]*)]", lambda found: found[1 if subjects == 1 else 2], text)


def headline(event: TraceEvent) -> str | None:
    """`event` alone, in words; None when it belongs to no story."""
    words = template(event)
    return None if words is None else in_number(filled(words, event), 1)


class _Blank(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "?"
