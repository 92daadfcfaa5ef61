"""The gateway's end of a serial line with one node or many on it: cuts its bytes into lines, and serves each speaker.

A node counts as here once its hello is authentic under the key that the roster has for it. Every message of its
session has a code, so that no node on the same line can speak for another, and nothing said before can be said again.
See `firmware.wire.serial` for the lines.
"""

from collections.abc import Callable
from typing import Any

from firmware.wire.auth import Sealer
from firmware.wire.serial import (
    MAX_LINE_BYTES,
    VERSION,
    Lines,
    Numbered,
    bound_to,
    encode_line,
    fields_of,
    is_session,
    number_of,
)
from firmware.wire.topics import split, topic

Event = tuple[Any, ...]
Draw = Callable[[], int]
MAX_OUT_BYTES = 2 * MAX_LINE_BYTES  # what is said again to one node waits no longer than that


class NodeEnd(Numbered):
    """What the gateway keeps of one node on a line, from its first hello on."""

    def __init__(self, who: str, draw: Draw) -> None:
        super().__init__(who, who + ":")
        self._draw = draw

    def hello(self, session: int, sealer: Sealer) -> list[Event]:
        """An authentic hello; a session that is new knows nothing of what was said before."""
        events: list[Event] = []
        if not self.up or session != self._peer:
            if self.up:
                events += self._down("the node began anew")
            self._peer, self._expected = session, 1
            self._session, self._number = self._draw(), 1
            self.up = True
            events.append(("up", self.who))
        hi = b'{"v":%d,"s":%d,"r":%d}' % (VERSION, self._session, session)
        if not self.out:
            self.out += encode_line(f"{self.who}:hi", sealer.seal(f"serial/{self.who}/hi", hi)) or b""
        return events

    def say_who(self) -> None:
        """Ask the node to say hello."""
        self._say("who", b"{}")

    def send(self, verb: str, payload: bytes, now_ms: int) -> bool:
        """Queue a message for the node; false when it is not here, too much waits, or it fits no line."""
        return self._queue(verb, payload, now_ms)

    def message(self, verb: str, number: int, payload: bytes, sealer: Sealer) -> list[Event]:
        """A message of a node that is here."""
        body = sealer.open(bound_to(self.who, self._peer, self._session, number, verb), payload)
        name = topic(self.who, verb)
        if body is None:
            return [("rejected", name, "not authentic")]
        return [("message", name, body)] if self._is_next(number) else []

    def ok(self, fields: dict[str, Any], now_ms: int) -> list[Event]:
        """The node has a message."""
        return self._on_ok(fields, now_ms)

    def _down(self, reason: str) -> list[Event]:
        super()._down(reason)
        return [("down", self.who, reason)]


class SerialLine:
    """A line and the nodes on it, pushed bytes and time.

    `out` is what to send next; say `sent(count)` when the line has taken some. `receive` and `on_timer` give
    `("up", node)`, `("down", node, reason)`, `("message", topic, payload)` and `("rejected", topic, reason)`.
    """

    def __init__(self, sealer_of: Callable[[str], Sealer | None], draw: Draw) -> None:
        """`sealer_of` a node's id, None when the roster has no such node; `draw` gives `SESSION_BITS` random bits."""
        self.messages = 0
        self.out = bytearray(encode_line(":who", b"{}") or b"")
        self._sealer_of = sealer_of
        self._draw = draw
        self._lines = Lines()
        self._ends: dict[str, NodeEnd] = {}

    @property
    def spoilt(self) -> int:
        """How many lines were none."""
        return self._lines.spoilt

    def nodes(self) -> list[str]:
        """Who is here, in the order of coming."""
        return [end.who for end in self._ends.values() if end.up]

    def sent(self, count: int) -> None:
        """The line has taken the first `count` bytes of `out`."""
        del self.out[:count]
        self._collect()

    def send(self, name: str, payload: bytes, now_ms: int) -> bool:
        """Send to the node whose topic this is; false when it is not here, or does not take it."""
        node, verb = split(name) or ("", "")
        end = self._ends.get(node)
        taken = end is not None and end.send(verb, payload, now_ms)
        self._collect()
        return taken

    def receive(self, data: bytes, now_ms: int) -> list[Event]:
        """Bytes from the line, cut anywhere, and perhaps noise."""
        events: list[Event] = []
        for kind, body in self._lines.feed(data):
            node, mark, verb = kind.partition("/")
            if mark:  # else something for a node, heard back
                events += self._on_line(node, verb, body, now_ms)
                self._collect()
        return events

    def next_deadline(self) -> int | None:
        """When `on_timer` is wanted next, in the milliseconds of `now_ms`."""
        return min((due_ms for end in self._ends.values() if (due_ms := end.next_deadline()) is not None), default=None)

    def on_timer(self, now_ms: int) -> list[Event]:
        """Say again what was not answered."""
        events = [event for end in self._ends.values() for event in end.on_timer(now_ms)]
        self._collect()
        return events

    def _on_line(self, node: str, kind: str, body: bytes, now_ms: int) -> list[Event]:
        verb, dot, number = kind.partition(".")
        sealer = self._sealer_of(node)
        if sealer is None:
            self._ends.pop(node, None)
            return [("rejected", topic(node, verb), "unknown node")]
        if kind == "hello":
            return self._on_hello(node, body, sealer)
        end = self._ends.get(node) or NodeEnd(node, self._draw)
        if not end.up:
            if dot:
                end.say_who()
                self._take(end)
            return []
        if dot:
            events = end.message(verb, number_of(number), body, sealer)
            self.messages += sum(event[0] == "message" for event in events)
            return events
        return end.ok(fields_of(body), now_ms) if kind == "ok" else []

    def _on_hello(self, node: str, body: bytes, sealer: Sealer) -> list[Event]:
        name = topic(node, "hello")
        opened = sealer.open(f"serial/{node}/hello", body)
        if opened is None:
            return [("rejected", name, "not authentic")]
        fields = fields_of(opened)
        if fields.get("v") != VERSION:
            return [("rejected", name, f"it speaks version {fields.get('v')!r} of the line's protocol")]
        if not is_session(fields.get("s")):
            return [("rejected", name, "malformed")]
        end = self._ends.setdefault(node, NodeEnd(node, self._draw))
        return end.hello(fields["s"], sealer)

    def _collect(self) -> None:
        """Let the nodes' ends say what they have to, as far as the line has taken what was there."""
        for end in self._ends.values():
            self._take(end)

    def _take(self, end: NodeEnd) -> None:
        if end.out and len(self.out) < MAX_OUT_BYTES:
            self.out += end.out
            end.sent(len(end.out))
