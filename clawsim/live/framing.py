"""Where one MQTT packet ends and the next begins in a stream of bytes, so that a packet can be slipped in between."""

from __future__ import annotations

_PUBLISH_QOS0 = b"\x30"  # MQTT 3.1.1, section 3.3.1: packet type 3, no flags


def publish_packet(topic: str, payload: bytes) -> bytes:
    """A PUBLISH packet at QoS 0 (MQTT 3.1.1, section 3.3)."""
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name + payload
    return _PUBLISH_QOS0 + _remaining_length(len(body)) + body


def _remaining_length(size: int) -> bytes:
    encoded = bytearray()
    while True:
        size, digit = divmod(size, 128)
        encoded.append(digit | 0x80 if size else digit)
        if not size:
            return bytes(encoded)


class Framing:
    """Follows one direction of a connection; ``packets`` counts those that are complete."""

    def __init__(self) -> None:
        self.packets = 0
        self._header = bytearray()
        self._missing = 0

    @property
    def at_edge(self) -> bool:
        """Whether a packet has just ended (never before the first, which has to be the client's CONNECT)."""
        return self.packets > 0 and not self._header and not self._missing

    def feed(self, chunk: bytes) -> int | None:
        """Follows ``chunk``; the offset in it of the last end of a packet, if there is one."""
        edge = None
        position = 0
        while position < len(chunk):
            position = self._skip_body(chunk, position) if self._missing else self._read_header(chunk, position)
            if not self._header and not self._missing:
                self.packets += 1
                edge = position
        return edge

    def _skip_body(self, chunk: bytes, position: int) -> int:
        taken = min(self._missing, len(chunk) - position)
        self._missing -= taken
        return position + taken

    def _read_header(self, chunk: bytes, position: int) -> int:
        self._header.append(chunk[position])
        if len(self._header) > 1 and not self._header[-1] & 0x80:
            self._missing = sum((digit & 0x7F) << 7 * place for place, digit in enumerate(self._header[1:]))
            self._header.clear()
        return position + 1
