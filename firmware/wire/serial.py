"""Messages over a serial line that loses, spoils and invents bytes: one text line each, acknowledged, in order, once.

A line is `kind json*crc16`, at most 512 bytes and a line feed; a reader that has lost its place finds it again at the
next line feed. The node opens: `hello {"v":1,"id":…,"s":session,"n":next}`, and is up when
`hi {"v":1,"s":…,"r":session,"n":next}` answers its session, a number drawn at each power-up. A message is
`verb.number json`, answered by `ok {"n":number}` and sent again until then, one at a time; `next` is the number that
comes next. A gateway that has restarted says `who {}` to a message that it cannot place, and the node says hello again.
"""

import json

VERSION = 1
MAX_LINE_BYTES = 512
MAX_WAITING = 8
RETRY_MS = 1000  # the longest line and its answer at 9600 baud, and some
MAX_TRIES = 8
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


class Endpoint:
    """One end of the line, the node's (which opens) or the gateway's.

    `out` is what to send next; say `sent(count)` when the line has taken some. `receive(data, now_ms)` gives what comes
    of the peer's bytes: `("up", hello)`, `("down", reason)`, `("message", verb, payload)`, `("rejected", reason)`.
    """

    def __init__(self, who: str, session: int, opens: bool) -> None:
        self.up = False
        self.out = bytearray()
        self.lines = Lines()
        self._who = who
        self._session = session
        self._opens = opens
        self._waiting: list[tuple[str, bytes]] = []  # the first one is on its way
        self._number = 1  # of the first one
        self._tries = 0
        self._due_ms: int | None = None
        self._peer: int | None = None  # its session
        self._expected = 1

    def connect(self, now_ms: int) -> None:
        """The node opens: say hello until it is answered."""
        self.up = False
        self._tries = 0
        self._due_ms = now_ms
        self.on_timer(now_ms)

    def disconnect(self) -> None:
        """Say no more until told to connect; what waits is forgotten."""
        self.up = False
        self._due_ms = None
        self._forget()

    def send(self, verb: str, payload: bytes, now_ms: int) -> bool:
        """Queue a message. False when the line is not up, too much is waiting, or it fits no line."""
        if not self.up or len(self._waiting) >= MAX_WAITING or encode_line(verb + ".65535", payload) is None:
            return False
        self._waiting.append((verb, payload))
        if len(self._waiting) == 1:
            self._transmit(now_ms)
        return True

    def sent(self, count: int) -> None:
        """The line has taken the first `count` bytes of `out`."""
        self.out = self.out[count:]

    def next_deadline(self) -> "int | None":
        """When `on_timer` is wanted next."""
        return self._due_ms

    def on_timer(self, now_ms: int) -> list:
        """Say again what was not answered; after `MAX_TRIES` the line is down, of which the events tell."""
        if self._due_ms is None or now_ms < self._due_ms:
            return []
        if self.up:
            if self._tries >= MAX_TRIES:
                return self._down("no answer to %d tries" % self._tries)
            self._transmit(now_ms)
        else:
            self._due_ms = now_ms + RETRY_MS
            self._say("hello", {"v": VERSION, "id": self._who, "s": self._session, "n": self._number})
        return []

    def receive(self, data: bytes, now_ms: int) -> list:
        """Bytes from the line, cut anywhere, and perhaps noise."""
        events: list = []
        for kind, body in self.lines.feed(data):
            verb, dot, number = kind.partition(".")
            if dot:
                self._on_message(verb, number, body, events)
                continue
            fields = _fields(body)
            if kind == "ok":
                self._on_ok(fields, now_ms)
            elif kind == "hello" and not self._opens:
                self._on_hello(fields, events)
            elif kind == "hi" and self._opens:
                self._on_hi(fields, events)
            elif kind == "who" and self._opens and self.up:
                events += self._down("the gateway has restarted")
        return events

    def _on_message(self, verb: str, text: str, body: bytes, events: list) -> None:
        number = int(text) if 0 < len(text) <= 5 and all([c in "0123456789" for c in text]) else 0
        if not self.up:
            if not self._opens:
                self._say("who", {})
            return
        if number == self._expected:
            self._expected = _after(number)
            events.append(("message", verb, body))
        elif _after(number) != self._expected:
            return  # neither the next one nor the last one again
        self._say("ok", {"n": number})

    def _on_ok(self, fields: dict, now_ms: int) -> None:
        if not self.up or not self._waiting or fields.get("n") != self._number:
            return
        self._waiting.pop(0)
        self._number = _after(self._number)
        self._tries, self._due_ms = 0, None
        if self._waiting:
            self._transmit(now_ms)

    def _on_hello(self, fields: dict, events: list) -> None:
        if not self._know(fields, events):
            return
        self._say("hi", {"v": VERSION, "s": self._session, "r": self._peer, "n": self._number})
        if not self.up:
            self.up = True
            events.append(("up", fields))

    def _on_hi(self, fields: dict, events: list) -> None:
        if self.up or self._due_ms is None or fields.get("r") != self._session or not self._know(fields, events):
            return
        self.up = True
        self._tries, self._due_ms = 0, None
        events.append(("up", fields))

    def _know(self, fields: dict, events: list) -> bool:
        """Take note of who speaks; a new session of the peer knows nothing of what was said before."""
        session, number = fields.get("s"), fields.get("n")
        if type(session) is not int or type(number) is not int or not 0 < number <= 65535:
            return False
        if fields.get("v") != VERSION:
            events.append(("rejected", "it speaks version %r of the line's protocol" % (fields.get("v"),)))
            return False
        if session != self._peer:
            if self.up:
                events += self._down("the node has restarted")
            self._peer = session
            self._expected = number
        elif self._expected != _after(number):  # else that message has arrived, and only its answer has not
            self._expected = number
        return True

    def _transmit(self, now_ms: int) -> None:
        verb, payload = self._waiting[0]
        line = encode_line("%s.%d" % (verb, self._number), payload)
        if line and len(self.out) < MAX_LINE_BYTES:  # what the line has not taken yet says it already
            self.out += line
        self._tries += 1
        self._due_ms = now_ms + RETRY_MS

    def _down(self, reason: str) -> list:
        self.disconnect()
        return [("down", reason)]

    def _forget(self) -> None:
        """The first message may have arrived: its number is not used again."""
        if self._waiting and self._tries:
            self._number = _after(self._number)
        self._waiting = []
        self._tries = 0

    def _say(self, kind: str, fields: dict) -> None:
        line = encode_line(kind, json.dumps(fields).encode())
        if line and len(self.out) < 4 * MAX_LINE_BYTES:
            self.out += line


def _after(number: int) -> int:
    return number % 65535 + 1


def _fields(body: bytes) -> dict:
    try:
        found = json.loads(body)
    except (ValueError, RuntimeError):
        return {}
    return found if isinstance(found, dict) else {}
