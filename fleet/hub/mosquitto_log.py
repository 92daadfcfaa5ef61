"""What Mosquitto's log says of refused messages, counted and told as the embedded broker tells them.

Mosquitto drops a publish that it does not grant without a word to anybody but its log, at the level `debug`
(`handle__publish` of its source), where every packet has a line too: those are not kept. Publishes that only the
embedded broker can refuse (see `fleet.hub.mosquitto`) are told as well, though Mosquitto has delivered them.

A line cannot be forged: Mosquitto closes a connection whose texts hold control characters, and what a sender chose, the
topic, comes last. Lines are cut after 1,000 characters.
"""

import re
from collections.abc import Callable

from fleet.hub.access import StaticAccess
from fleet.hub.rejections import Rejections, shown

_PUBLISH = re.compile(r"(Denied|Dropped too large|Received) PUBLISH from (\S+) \(d\d, q\d, r\d, m\d+, '(.*)", re.DOTALL)
_AFTER_TOPIC = re.compile(r"', \.\.\. \(\d+ bytes\)\)$")
_OFFENCE = re.compile(r"Client (\S+) disconnected due to (malformed|oversize) packet\.$")
_STAMP = re.compile(r"^\d+: ")
_ONLY_DEBUG = ("Denied ", "Dropped too large ", "Received ", "Sending ", "\t", "No will message", "Will message")

NOT_ALLOWED, OVERSIZE = "publish not allowed", "oversize payload"


class MosquittoLog:
    """Takes the log line by line; `keep` is given those that are worth keeping."""

    def __init__(self, access: StaticAccess, rejections: Rejections, keep: Callable[[bytes], object]) -> None:
        self._access = access
        self._rejections = rejections
        self._keep = keep

    def feed(self, line: bytes) -> None:
        """One line with its end."""
        text = _STAMP.sub("", line.decode(errors="replace").rstrip("\r\n"))
        if not text.startswith(_ONLY_DEBUG):
            self._keep(line)
        if found := _PUBLISH.match(text):
            self._on_publish(found[1], found[2], _AFTER_TOPIC.sub("", found[3]))
        elif found := _OFFENCE.match(text):
            self._rejections.reject("message.rejected", f"{found[2]} packet", identity=found[1])

    def _on_publish(self, what: str, identity: str, topic: str) -> None:
        if what == "Received" and self._access.may_publish(identity, topic):
            return
        reason = OVERSIZE if what.startswith("Dropped") else NOT_ALLOWED
        self._rejections.reject("message.rejected", reason, identity=identity, topic=shown(topic))
