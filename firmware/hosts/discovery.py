"""A scan for gateways: a one-shot DNS-SD query for `_clawland._tcp.local.`, answered by whoever is alive now.

The query goes out from a port of its own, not from 5353 (RFC 6762, section 6.7): so it is answered at once, to us
alone, even where several responders share a machine's port 5353 or have just answered somebody else, and it works
beside a board's own responder. Nothing is cached, since a cache would go on naming a gateway that has died.

Whatever answers is a stranger: what it says is checked here, and believed by the core only once it proves to know the
node's key.
"""

import asyncio
import logging
import os
import socket
from typing import Any

from zeroconf import (  # type: ignore[attr-defined] # public, but not in its __all__
    DNSAddress,
    DNSIncoming,
    DNSOutgoing,
    DNSPointer,
    DNSQuestion,
    DNSRecord,
    DNSService,
    DNSText,
)

from firmware.wire.ids import valid_id

_log = logging.getLogger("clawland.discovery")

SERVICE_TYPE = "_clawland._tcp.local."
GROUP = ("224.0.0.251", 5353)
SCAN_S = 1.0
# Asked again because a datagram may be lost, and after the first answer, for those that are slower.
ASK_AGAIN_S = 0.25
QUIET_S = 0.4
MAX_RECORDS = 500
_CLASS_IN, _QUERY = 1, 0
_PTR, _ANY = 12, 255

Gateway = dict[str, Any]


async def scan(interface: str, scan_s: float = SCAN_S, quiet_s: float = QUIET_S) -> list[Gateway]:
    """The gateways that answer on `interface` (an IPv4 address) within `scan_s` seconds of the wall, sorted by name.

    Ends sooner when nothing new has come for `quiet_s` after the first answer. A network that cannot be asked is an
    empty answer, and a line in the log.
    """
    answers = _Answers(os.urandom(2))
    try:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: answers, sock=_multicast_socket(interface)
        )
    except OSError as error:
        _log.warning("cannot scan for gateways on %s: %s", interface, error)
        return []
    try:
        async with asyncio.timeout(scan_s):
            await _ask(transport, answers, quiet_s)
    except TimeoutError:
        pass
    finally:
        transport.close()
    return answers.gateways()


async def _ask(transport: asyncio.DatagramTransport, answers: "_Answers", quiet_s: float) -> None:
    while not answers.news.is_set():
        transport.sendto(answers.query(), GROUP)
        await _within(answers.news, ASK_AGAIN_S)
    while answers.news.is_set():
        answers.news.clear()
        transport.sendto(answers.query(), GROUP)
        await _within(answers.news, quiet_s)


async def _within(event: asyncio.Event, wait_s: float) -> None:
    try:
        async with asyncio.timeout(wait_s):
            await event.wait()
    except TimeoutError:
        pass


def _multicast_socket(interface: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface))
        made.bind((interface, 0))
    except OSError:
        made.close()
        raise
    return made


class _Answers(asyncio.DatagramProtocol):
    """Collects records until they describe gateways; `news` is set when one more is complete."""

    def __init__(self, query_id: bytes) -> None:
        self.news = asyncio.Event()
        self._id = int.from_bytes(query_id, "big") | 1
        self._records: dict[tuple[str, type[DNSRecord]], DNSRecord] = {}
        self._names: dict[str, str] = {}

    def query(self) -> bytes:
        """Who is there? And what of those who have not said where."""
        packet = DNSOutgoing(_QUERY, multicast=False, id_=self._id)
        packet.add_question(DNSQuestion(SERVICE_TYPE, _PTR, _CLASS_IN))
        for name in self._names:
            if self._describe(name) is None:
                packet.add_question(DNSQuestion(name, _ANY, _CLASS_IN))
        return packet.packets()[0]

    def gateways(self) -> list[Gateway]:
        """The gateways whose records are complete and make sense."""
        described = (self._describe(name) for name in sorted(self._names))
        return [gateway for gateway in described if gateway is not None]

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        packet = DNSIncoming(data)
        if not packet.valid or not packet.is_response() or packet.id != self._id:
            return
        before = len(self.gateways())
        for record in packet.answers():
            self._note(record, str(addr[0]))
        if len(self.gateways()) > before:
            self.news.set()

    def error_received(self, exc: Exception) -> None:
        _log.info("a scan met an error: %s", exc)

    def _note(self, record: DNSRecord, responder: str) -> None:
        if len(self._records) >= MAX_RECORDS:
            return
        if isinstance(record, DNSPointer) and record.name.lower() == SERVICE_TYPE:
            self._names.setdefault(record.alias, responder)
        elif isinstance(record, DNSService | DNSText) or (isinstance(record, DNSAddress) and len(record.address) == 4):
            self._records[record.name.lower(), type(record)] = record

    def _describe(self, name: str) -> Gateway | None:
        service, text = self._records.get((name.lower(), DNSService)), self._records.get((name.lower(), DNSText))
        if not isinstance(service, DNSService) or not isinstance(text, DNSText) or not service.port:
            return None
        fields = text_fields(text.text)
        if not valid_id(fields.get("id")) or not valid_id(fields.get("fleet")):
            return None
        address = self._records.get((service.server.lower(), DNSAddress))
        host = socket.inet_ntoa(address.address) if isinstance(address, DNSAddress) else self._names[name]
        gateway = {
            "id": fields["id"],
            "fleet": fields["fleet"],
            "role": fields.get("role", ""),
            "load": _count(fields.get("load", "0")),
            "target": f"{host}:{service.port}",
        }
        return gateway | {name: fields[name] for name in ("tls", "fingerprint") if name in fields}


def text_fields(data: bytes) -> dict[str, str]:
    """The `key=value` strings of a TXT record (RFC 6763, section 6); those that are not UTF-8 are left out."""
    fields: dict[str, str] = {}
    while data:
        size, data = data[0], data[1:]
        part, data = data[:size], data[size:]
        try:
            key, _, value = part.decode().partition("=")
        except UnicodeDecodeError:
            continue
        fields.setdefault(key.lower(), value)
    return fields


def _count(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
