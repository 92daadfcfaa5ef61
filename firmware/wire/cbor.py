"""CBOR (RFC 8949) as far as frames need it: integers of 64 bits, byte and text strings, arrays, maps, booleans, null
and floats, each of a definite length; no tags.

Maps are written in the order of their encoded keys (section 4.2.1), because the dicts of MicroPython have no order.
"""

import struct

MAX_BYTES = 1024
MAX_DEPTH = 6
_UINT, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_FALSE, _TRUE, _NULL = 0xF4, 0xF5, 0xF6
_F16, _F32, _F64 = 25, 26, 27


def encode(value: object) -> bytes:
    """`value` encoded. Raises ValueError for what the subset cannot hold."""
    if value is None:
        return bytes([_NULL])
    if isinstance(value, bool):
        return bytes([_TRUE if value else _FALSE])
    if isinstance(value, int):
        return _head(_UINT, value) if value >= 0 else _head(_NEGATIVE, -1 - value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, bytes):
        return _head(_BYTES, len(value)) + value
    if isinstance(value, str):
        text = value.encode()
        return _head(_TEXT, len(text)) + text
    if isinstance(value, (list, tuple)):
        return _head(_ARRAY, len(value)) + b"".join([encode(part) for part in value])
    if isinstance(value, dict):
        pairs = sorted([(encode(key), encode(value[key])) for key in value])
        return _head(_MAP, len(pairs)) + b"".join([key + part for key, part in pairs])
    raise ValueError("CBOR of no such type")


def _head(kind: int, count: int) -> bytes:
    """The shortest head: 5 bits of the first byte, or 1, 2, 4 or 8 bytes more."""
    if count < 24:
        return bytes([kind << 5 | count])
    for more, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if count >> 8 * size == 0:
            return bytes([kind << 5 | more]) + count.to_bytes(size, "big")
    raise ValueError("an integer of more than 64 bits")


def _float(value: float) -> bytes:
    """32 bits where they say the same, else 64."""
    try:
        short = struct.pack(">f", value)
    except OverflowError:  # CPython's; elsewhere it becomes infinite
        return struct.pack(">Bd", _SIMPLE << 5 | _F64, value)
    if struct.unpack(">f", short)[0] == value or value != value:
        return bytes([_SIMPLE << 5 | _F32]) + short
    return struct.pack(">Bd", _SIMPLE << 5 | _F64, value)


def decode(data: bytes) -> object:
    """The one value that `data` holds. Raises ValueError for anything else, and what nests deeper than `MAX_DEPTH`."""
    if len(data) > MAX_BYTES:
        raise ValueError("more than %d bytes" % MAX_BYTES)
    reader = _Reader(data)
    value = reader.item(MAX_DEPTH)
    if reader.at != len(data):
        raise ValueError("bytes after the value")
    return value


class _Reader:
    """Takes items from the front of its bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def item(self, depth: int):
        """The next item, which may hold `depth` levels of others."""
        first = self._take(1)[0]
        kind, more = first >> 5, first & 31
        if kind == _SIMPLE:
            return self._simple(more)
        count = self._count(more)
        if kind == _UINT:
            return count
        if kind == _NEGATIVE:
            return -1 - count
        if kind == _BYTES:
            return self._take(count)
        if kind == _TEXT:
            return self._take(count).decode()
        if kind == _TAG or depth == 0:
            raise ValueError("a tag, or too deep")
        if count > len(self._data) - self.at:  # each item is a byte at least
            raise ValueError("cut off")
        if kind == _ARRAY:
            return [self.item(depth - 1) for _ in range(count)]
        return self._map(count, depth - 1)

    def _map(self, count: int, depth: int) -> dict:
        found: dict = {}
        for _ in range(count):
            key = self.item(0)
            if not isinstance(key, (int, str)) or isinstance(key, bool) or key in found:
                raise ValueError("a key that is no integer or text, or twice")
            found[key] = self.item(depth)
        return found

    def _simple(self, more: int):
        if more == _F16:
            return _half(int.from_bytes(self._take(2), "big"))
        if more == _F32:
            return struct.unpack(">f", self._take(4))[0]
        if more == _F64:
            return struct.unpack(">d", self._take(8))[0]
        byte = _SIMPLE << 5 | more
        if byte == _NULL:
            return None
        if byte not in (_FALSE, _TRUE):
            raise ValueError("no such simple value")
        return byte == _TRUE

    def _count(self, more: int) -> int:
        if more < 24:
            return more
        if more > 27:
            raise ValueError("no definite length")
        return int.from_bytes(self._take(1 << (more - 24)), "big")

    def _take(self, count: int) -> bytes:
        if count > len(self._data) - self.at:
            raise ValueError("cut off")
        self.at += count
        return self._data[self.at - count : self.at]


def _half(bits: int) -> float:
    """IEEE 754 binary16 (RFC 8949, appendix D)."""
    sign = -1.0 if bits & 0x8000 else 1.0
    exponent, fraction = bits >> 10 & 31, bits & 1023
    if exponent == 31:
        return sign * float("nan" if fraction else "inf")
    if exponent == 0:
        return float(sign * fraction / 16777216)  # 2^-24
    return float(sign * (1024 + fraction) * 2.0 ** (exponent - 25))
