"""A one-shot DNS-SD query for gateways and what answers say (RFC 6762, section 6.7, and RFC 6763), for boards.

The query goes to `GROUP` from a port of its own, so it is answered at once and to us alone. Whatever answers is a
stranger: what makes no sense is left out, and how much of it is kept is bounded.
"""

import struct

from firmware.wire.ids import valid_id

GROUP = ("224.0.0.251", 5353)
MAX_GATEWAYS = 16
MAX_RECORDS = 64  # of one packet
_SERVICE = "_clawland._tcp.local"
_A, _PTR, _TXT, _SRV, _ANY = 1, 12, 16, 33, 255
_MAX_JUMPS = 8
_MAX_NAME_CHARS = 255


class Answers:
    """What was heard in answer to the queries with one id."""

    def __init__(self, query_id: int) -> None:
        """`query_id`: 1 to 65535, drawn at random."""
        self._id = query_id
        self._names: dict[str, str] = {}  # instances, and who named them
        self._services: dict[str, tuple] = {}  # (port, host) by instance
        self._texts: dict[str, dict] = {}
        self._addresses: dict[str, str] = {}

    def query(self) -> bytes:
        """Who is there? And what of those who have not said where."""
        names = [name for name in sorted(self._names) if name not in self._services or name not in self._texts]
        packet = struct.pack(">HHHHHH", self._id, 0, 1 + len(names), 0, 0, 0) + _question(_SERVICE, _PTR)
        for name in names:
            packet += _question(name, _ANY)
        return packet

    def receive(self, data: bytes, responder: str) -> bool:
        """A datagram from the IPv4 address `responder`; whether one more gateway is known by it."""
        before = len(self.gateways())
        try:
            self._parse(data, responder)
        except (ValueError, IndexError):
            pass  # a packet that ends too soon; what came before counts
        return len(self.gateways()) > before

    def gateways(self) -> "list[dict]":
        """The gateways whose records are complete and make sense, as `NodeCore.found` wants them, sorted by name."""
        found = []
        for name in sorted(self._names):
            service, text = self._services.get(name), self._texts.get(name)
            if service is None or text is None or not valid_id(text.get("id")) or not valid_id(text.get("fleet")):
                continue
            if text.get("tls") == str(service[0]):
                continue  # its only door has TLS, which boards do not speak
            host = self._addresses.get(service[1], self._names[name])
            found.append(
                {
                    "id": text["id"],
                    "fleet": text["fleet"],
                    "role": text.get("role", ""),
                    "load": _count(text.get("load", "0")),
                    "target": "%s:%d" % (host, service[0]),
                }
            )
        return found

    def _parse(self, data: bytes, responder: str) -> None:
        if len(data) < 12 or _word(data, 0) != self._id or not data[2] & 0x80:
            return
        at = 12
        for _ in range(min(_word(data, 4), MAX_RECORDS)):
            at = _name(data, at)[1] + 4
        for _ in range(min(_word(data, 6) + _word(data, 8) + _word(data, 10), MAX_RECORDS)):
            name, at = _name(data, at)
            kind, size = _word(data, at), _word(data, at + 8)
            at += 10
            if at + size > len(data):
                return
            self._note(name.lower(), kind, data, at, size, responder)
            at += size

    def _note(self, name: str, kind: int, data: bytes, at: int, size: int, responder: str) -> None:
        if kind == _PTR and name == _SERVICE:
            _put(self._names, _name(data, at)[0].lower(), responder)
        elif kind == _SRV and size > 6 and _word(data, at + 4):
            _put(self._services, name, (_word(data, at + 4), _name(data, at + 6)[0].lower()))
        elif kind == _TXT:
            _put(self._texts, name, text_fields(data[at : at + size]))
        elif kind == _A and size == 4:
            _put(self._addresses, name, "%d.%d.%d.%d" % tuple(data[at : at + 4]))


def text_fields(data: bytes) -> "dict[str, str]":
    """The `key=value` strings of a TXT record (RFC 6763, section 6); those that are not UTF-8 are left out."""
    fields: dict[str, str] = {}
    while data:
        size = data[0]
        part, data = data[1 : 1 + size], data[1 + size :]
        try:
            key, _, value = part.decode().partition("=")
        except ValueError:
            continue
        fields.setdefault(key.lower(), value)
    return fields


def _question(name: str, kind: int) -> bytes:
    encoded = b""
    for label in name.split("."):
        encoded += bytes([len(label.encode())]) + label.encode()
    return encoded + struct.pack(">BHH", 0, kind, 1)


def _name(data: bytes, at: int) -> "tuple[str, int]":
    """The name at `at`, and where what follows it begins. Raises ValueError or IndexError for what is no name."""
    labels: list[str] = []
    end = 0
    jumps = 0
    while data[at]:
        size = data[at]
        if size >= 0xC0:
            end = end or at + 2
            at = _word(data, at) & 0x3FFF
            jumps += 1
        else:
            labels.append(data[at + 1 : at + 1 + size].decode())
            at += 1 + size
        if jumps > _MAX_JUMPS or len(labels) > _MAX_NAME_CHARS // 2:
            raise ValueError("a name without end")
    return ".".join(labels), end or at + 1


def _word(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]


def _put(table: dict, name: str, value) -> None:
    if len(name) <= _MAX_NAME_CHARS and (name in table or len(table) < MAX_GATEWAYS):
        table[name] = value


def _count(text: str) -> int:
    return int(text) if 0 < len(text) < 10 and all([c in "0123456789" for c in text]) else 0
