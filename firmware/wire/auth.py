"""Authentication under a node's pre-shared key, with nothing but SHA-256 (MicroPython has no `hmac`).

HMAC is RFC 2104; tests compare it with the standard library's. Codes are cut to 64 bits as RFC 2104 section 5 allows:
a forger gets one guess a message, and the gateway counts rejections.
"""

import binascii
import hashlib

BLOCK_BYTES = 64
KEY_BYTES = 32
_MAC_CHARS = 16
_MARK = b',"mac":"'
SEAL_BYTES = len(_MARK) + _MAC_CHARS + 1
"""By so much a sealed object is longer."""
_TAIL_BYTES = SEAL_BYTES + 1


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA-256 of `message`, 32 bytes."""
    if len(key) > BLOCK_BYTES:
        key = hashlib.sha256(key).digest()
    inner = hashlib.sha256(_pad(key, 0x36) + message).digest()
    return hashlib.sha256(_pad(key, 0x5C) + inner).digest()


def _pad(key: bytes, value: int) -> bytes:
    return bytes([b ^ value for b in key]) + bytes([value]) * (BLOCK_BYTES - len(key))


def same(a: bytes, b: bytes) -> bool:
    """Compare two secrets in a time that depends on their length only: as integers, all of whose words are used."""
    return len(a) == len(b) and int.from_bytes(a, "big") ^ int.from_bytes(b, "big") == 0


def mqtt_password(key: bytes) -> bytes:
    """The MQTT password derived from a node's or gateway's key: 64 hex digits, so the key itself never travels."""
    return binascii.hexlify(hmac_sha256(key, b"clawland mqtt password"))


class Sealer:
    """Signs and checks JSON objects under one key, bound to the topic they travel on.

    The code is the last member of the object, `,"mac":"0123456789abcdef"}`, and covers the topic and all bytes before
    it, so that nothing depends on the order in which a JSON library writes keys.
    """

    def __init__(self, key: bytes) -> None:
        self._inner = _started(_pad(key, 0x36))
        self._outer = _started(_pad(key, 0x5C))

    def seal(self, topic: str, body: bytes) -> bytes:
        """`body` (a JSON object, not empty) with its code added."""
        return body[:-1] + _MARK + self._mac(topic, body) + b'"}'

    def open(self, topic: str, payload: bytes) -> "bytes | None":
        """The body of a sealed payload, or None when the code is missing or wrong."""
        mark = len(payload) - _TAIL_BYTES
        if mark < 1 or payload[mark : mark + len(_MARK)] != _MARK or payload[-2:] != b'"}':
            return None
        body = payload[:mark] + b"}"
        return body if same(payload[mark + len(_MARK) : -2], self._mac(topic, body)) else None

    def _mac(self, topic: str, body: bytes) -> bytes:
        inner, outer = self._inner(), self._outer()
        inner.update(topic.encode() + b"\n" + body)
        outer.update(inner.digest())
        return binascii.hexlify(outer.digest()[: _MAC_CHARS // 2])


def _started(start: bytes):
    """What gives a SHA-256 that has taken `start` already, each time it is called; MicroPython's have no `copy`."""
    begun = hashlib.sha256(start)
    return begun.copy if hasattr(begun, "copy") else lambda: hashlib.sha256(start)
