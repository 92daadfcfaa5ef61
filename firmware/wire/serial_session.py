"""The node's end of a serial line: one `NodeSession` is one connection, from its hello to its end.

It has the verbs of `firmware.wire.mqtt.Client`, so that a host can pump either; lines and numbers are explained in
`firmware.wire.serial`. Nothing survives a session: what was sent in it and not acknowledged by `received` the core
sends again in the next one. Bounded: one line being read, `MAX_WAITING` messages, and 5 lines to be sent.
"""

from firmware.wire.auth import Sealer
from firmware.wire.serial import VERSION, Lines, Numbered, bound_to, encode_line, fields_of, is_session, number_of
from firmware.wire.topics import split, topic


class NodeSession(Numbered):
    """A node's connection to the gateway at the other end of the line; see `Numbered` for `out`.

    `receive` and `on_timer` give what comes of it, a list of `("up",)`, `("message", topic, payload)`,
    `("rejected", reason)`, and at the end `("down", reason)`: then make another one, with another `session`.
    """

    def __init__(self, who: str, key: bytes, session: int, now_ms: int) -> None:
        """`who` is the node's id, `key` its pre-shared key, `session` a random number of `SESSION_BITS`; says hello.

        A gateway that does not answer is down after some 20 s, of which `on_timer` tells."""
        super().__init__(who, who + "/")
        self.lines = Lines()
        self._session = session
        self._sealer = Sealer(key)
        hello = b'{"v":%d,"s":%d}' % (VERSION, session)
        self._begin(encode_line(who + "/hello", self._sealer.seal("serial/%s/hello" % who, hello)) or b"", now_ms)

    def publish(self, name: str, payload: bytes, now_ms: int) -> "int | None":
        """Queue a message (a JSON object) under a topic of this node; None when the session is not up, too much waits,
        or it fits no line; else how many wait now."""
        found = split(name)
        if found is None or found[0] != self.who or not self._queue(found[1], payload, now_ms):
            return None
        return len(self._waiting)

    def disconnect(self) -> None:
        """Say no more. A gateway needs no goodbye: the next hello is from another session."""
        self._down("")

    def receive(self, data: bytes, now_ms: int) -> list:
        """Bytes from the line, cut anywhere, and perhaps noise, or for others."""
        events: list = []
        for kind, body in self.lines.feed(data):
            who, mark, verb = kind.partition(":")
            if not mark or who not in (self.who, "") or (self._due_ms is None and not self.up):
                continue
            verb, dot, number = verb.partition(".")
            if dot:
                self._on_message(verb, number_of(number), body, events)
            elif verb == "ok":
                events += self._on_ok(fields_of(body), now_ms)
            elif verb == "hi":
                self._on_hi(body, events)
            elif verb == "who":
                events += self._on_who(now_ms)
        return events

    def _on_message(self, verb: str, number: int, body: bytes, events: list) -> None:
        if self.up and self._is_next(number):
            events.append(("message", topic(self.who, verb), body))

    def _on_hi(self, body: bytes, events: list) -> None:
        opened = self._sealer.open("serial/%s/hi" % self.who, body)
        fields = fields_of(opened)
        if self.up:
            return  # the hello was said twice
        if opened is None:
            events.append(("rejected", "hi: not authentic"))
        elif fields.get("r") != self._session:
            return  # for an earlier session
        elif fields.get("v") != VERSION or not is_session(fields.get("s")):
            events.append(("rejected", "hi: it speaks version %r of the line's protocol" % (fields.get("v"),)))
        else:
            self.up = True
            self._peer = fields["s"]
            self._due_ms = None
            events.append(("up",))

    def _on_who(self, now_ms: int) -> list:
        if self.up:
            return self._down("the gateway has restarted")
        self._due_ms = now_ms  # somebody is there: say hello again without waiting
        self._tries = 0
        return self.on_timer(now_ms)

    def _sealed(self, verb: str, payload: bytes) -> bytes:
        return self._sealer.seal(bound_to(self.who, self._session, self._peer, self._number, verb), payload)
