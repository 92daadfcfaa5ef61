"""Text lines over a serial port that loses, spoils and invents bytes, and what both ends of such a line share.

A line is `node/kind json*crc16` from a node and `node:kind json*crc16` to it, so that many can share a line and none
takes its own echo for an answer; at most 512 bytes and a line feed. A reader that has lost its place finds it again at
the next line feed. The node opens with the kind `hello {"v":1,"s":session,"mac":…}`, and is up when
`hi {"v":1,"s":…,"r":session,"mac":…}` answers; both draw the number of their session at random for each connection. A
message has the kind `verb.number`, is answered by `ok {"n":number,"s":session}` and sent again until then, one at a
time, later each time. A gateway says `who {}` to a message that it cannot place (it has restarted), and `:who {}` to
all nodes when it begins; the node then opens anew.

Codes (`firmware.wire.auth`) are under the node's key: on `hello` and `hi`, and on every message of the node, over both
sessions and the number. What a gateway says has a code of its own already.
"""

import json

from firmware.wire.auth import SEAL_BYTES

VERSION = 1
MAX_LINE_BYTES = 512
MAX_WAITING = 16  # more than a backlog hands out at once
RETRY_MS = 1000  # the longest line and its answer at 9600 baud, and some
MOST_RETRY_MS = 4000
MAX_TRIES = 6  # some 20 s: a node's core gives up an attempt then
MAX_NUMBER = (1 << 30) - 1
SESSION_BITS = 30
_END = b"\n"
_CRC = [0] * 16
for _n in range(16):
    _c = _n << 12
    for _ in range(4):
        _c = (_c << 1 ^ (0x1021 if _c & 0x8000 else 0)) & 0xFFFF
    _CRC[_n] = _c


def crc16(data: bytes) -> int:
    """CRC-16/CCITT-FALSE: polynomial 0x1021, starting from 0xFFFF."""
    crc = 0xFFFF
    for byte in data:
        crc = (crc << 4 ^ _CRC[crc >> 12 ^ byte >> 4]) & 0xFFFF
        crc = (crc << 4 ^ _CRC[crc >> 12 ^ byte & 15]) & 0xFFFF
    return crc


def encode_line(kind: str, body: bytes) -> "bytes | None":
    """The line, or None when it is too long or `body` has a line feed in it."""
    text = kind.encode() + b" " + body
    if len(text) + 5 > MAX_LINE_BYTES or _END in text:
        return None
    return text + b"*%04x\n" % crc16(text)


def decode_line(line: bytes) -> "tuple[str, bytes] | None":
    """Kind and body of a line without its end, or None when it is spoilt."""
    if line[-5:-4] != b"*" or line[-4:] != b"%04x" % crc16(line[:-5]):
        return None
    kind, _, body = line[:-5].partition(b" ")
    try:
        return kind.decode(), body
    except ValueError:
        return None


class Lines:
    """Cuts a stream of bytes into lines; bounded. `spoilt` counts what was none."""

    def __init__(self) -> None:
        self.spoilt = 0
        self._rest = b""
        self._lost = False  # in a line that is too long already

    def feed(self, data: bytes) -> "list[tuple[str, bytes]]":
        found = []
        parts = data.split(_END)
        for index in range(len(parts)):
            self._add(parts[index])
            if index < len(parts) - 1:
                line = None if self._lost else decode_line(self._rest)
                if line:
                    found.append(line)
                elif self._lost or self._rest:
                    self.spoilt += 1
                self._rest, self._lost = b"", False
        return found

    def _add(self, part: bytes) -> None:
        if len(self._rest) + len(part) > MAX_LINE_BYTES:
            self._rest, self._lost = b"", True
        elif not self._lost:
            self._rest += part


class Numbered:
    """What both ends do: one message is on its way at a time, numbered, said again until it is answered.

    `out` is what to send next; say `sent(count)` when the line has taken some.
    """

    def __init__(self, who: str, start: str) -> None:
        """`who` is the node, at either end; `start` is how the lines of this end begin."""
        self.up = False
        self.out = bytearray()
        self.who = who
        self._start = start
        self._waiting: list[tuple[str, bytes]] = []  # the first one is on its way
        self._line = b""  # which says it
        self._number = 1  # of the first one
        self._tries = 0
        self._due_ms: int | None = None
        self._session = 0
        self._peer = 0  # its session
        self._expected = 1  # the number of the peer's next message

    def sent(self, count: int) -> None:
        """The line has taken the first `count` bytes of `out`."""
        self.out = self.out[count:]

    def next_deadline(self) -> "int | None":
        """When `on_timer` is wanted next, in the milliseconds of `now_ms`."""
        return self._due_ms

    def on_timer(self, now_ms: int) -> list:
        """Say again what was not answered; after `MAX_TRIES` the end is down, of which the events tell."""
        if self._due_ms is None or now_ms < self._due_ms:
            return []
        if self._tries >= MAX_TRIES:
            return self._down("no answer to %d tries" % self._tries)
        self._transmit(now_ms)
        return []

    def _queue(self, verb: str, payload: bytes, now_ms: int) -> bool:
        """Whether the message will be said: not when the end is down, too much waits, or it fits no line."""
        if not self.up or len(self._waiting) >= MAX_WAITING or not fits(self.who, verb, payload):
            return False
        self._waiting.append((verb, payload))
        if len(self._waiting) == 1:
            self._say_first(now_ms)
        return True

    def _on_ok(self, fields: dict, now_ms: int) -> list:
        if not self.up or not self._waiting or fields.get("n") != self._number or fields.get("s") != self._session:
            return []
        self._waiting.pop(0)
        self._number += 1
        self._due_ms = None
        if self._number > MAX_NUMBER:
            return self._down("its numbers are used up")
        if self._waiting:
            self._say_first(now_ms)
        return []

    def _is_next(self, number: int) -> bool:
        """Answer the peer's message; whether it is the next one, and not the last one said again."""
        new = number == self._expected
        if not new and (number != self._expected - 1 or not number):
            return False
        self._expected = number + 1
        self._say("ok", b'{"n":%d,"s":%d}' % (number, self._peer))
        return new

    def _say_first(self, now_ms: int) -> None:
        verb, payload = self._waiting[0]
        line = encode_line("%s%s.%d" % (self._start, verb, self._number), self._sealed(verb, payload))
        self._begin(line or b"", now_ms)

    def _sealed(self, verb: str, payload: bytes) -> bytes:
        """The first message as it goes over the line."""
        return payload

    def _begin(self, line: bytes, now_ms: int) -> None:
        self._line = line
        self._tries = 0
        self._transmit(now_ms)

    def _transmit(self, now_ms: int) -> None:
        if len(self.out) < MAX_LINE_BYTES:  # else what the line has not taken yet says it already
            self.out += self._line
        wait_ms = min(RETRY_MS << self._tries, MOST_RETRY_MS)
        self._tries += 1
        # Nodes that share a line and spoke at once would do so again: each waits up to half as long as this again.
        spread = crc16(("%d%s" % (self._tries, self.who)).encode()) & 255
        self._due_ms = now_ms + wait_ms + (wait_ms * spread >> 9)

    def _say(self, kind: str, body: bytes) -> None:
        line = encode_line(self._start + kind, body)
        if line and len(self.out) < 4 * MAX_LINE_BYTES:
            self.out += line

    def _down(self, reason: str) -> list:
        """Nothing more is said of what waits: it may have arrived."""
        self.up = False
        self._due_ms = None
        self._waiting = []
        return [("down", reason)]


def fits(who: str, verb: str, payload: bytes) -> bool:
    """Whether a message, a JSON object, fits a line with its number, its code and its check."""
    return payload[-1:] == b"}" and _END not in payload and len(who) + len(verb) + len(payload) <= _ROOM_BYTES


_ROOM_BYTES = MAX_LINE_BYTES - SEAL_BYTES - 18  # the marks between, ten digits, the check


def number_of(text: str) -> int:
    """The number of a message, 0 for what is none."""
    return int(text) if 0 < len(text) <= 10 and all([c in "0123456789" for c in text]) else 0


def is_session(number: object) -> bool:
    """Whether this can be the number of a session."""
    return type(number) is int and 0 <= number < 1 << SESSION_BITS


def fields_of(body: "bytes | None") -> dict:
    """The JSON object in a line, or {}."""
    try:
        found = json.loads(body or b"{}")
    except (ValueError, RuntimeError):
        return {}
    return found if isinstance(found, dict) else {}


def bound_to(who: str, node_session: int, gateway_session: int, number: int, verb: str) -> str:
    """What the code of a node's message covers beside its text: nothing said in one session is good in another."""
    return "serial/%s/%d/%d/%d/%s" % (who, node_session, gateway_session, number, verb)
