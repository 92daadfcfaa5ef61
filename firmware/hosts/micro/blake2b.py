"""BLAKE2b (RFC 7693) of one short message, for the noise of rehearsed boards: their hashlib has no such hash."""

import struct

_MASK = (1 << 64) - 1
_IV = (
    0x6A09E667F3BCC908,
    0xBB67AE8584CAA73B,
    0x3C6EF372FE94F82B,
    0xA54FF53A5F1D36F1,
    0x510E527FADE682D1,
    0x9B05688C2B3E6C1F,
    0x1F83D9ABFB41BD6B,
    0x5BE0CD19137E2179,
)
_SIGMA = (
    b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f",
    b"\x0e\x0a\x04\x08\x09\x0f\x0d\x06\x01\x0c\x00\x02\x0b\x07\x05\x03",
    b"\x0b\x08\x0c\x00\x05\x02\x0f\x0d\x0a\x0e\x03\x06\x07\x01\x09\x04",
    b"\x07\x09\x03\x01\x0d\x0c\x0b\x0e\x02\x06\x05\x0a\x04\x00\x0f\x08",
    b"\x09\x00\x05\x07\x02\x04\x0a\x0f\x0e\x01\x0b\x0c\x06\x08\x03\x0d",
    b"\x02\x0c\x06\x0a\x00\x0b\x08\x03\x04\x0d\x07\x05\x0f\x0e\x01\x09",
    b"\x0c\x05\x01\x0f\x0e\x0d\x04\x0a\x00\x07\x06\x03\x09\x02\x08\x0b",
    b"\x0d\x0b\x07\x0e\x0c\x01\x03\x09\x05\x00\x0f\x04\x08\x06\x02\x0a",
    b"\x06\x0f\x0e\x09\x0b\x03\x00\x08\x0c\x02\x0d\x07\x01\x04\x0a\x05",
    b"\x0a\x02\x08\x04\x07\x06\x01\x05\x0f\x0b\x09\x0e\x03\x0c\x0d\x00",
)
_COLUMNS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
_DIAGONALS = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
_MIXES = _COLUMNS + _DIAGONALS
_BLOCK_BYTES = 128
_ROUNDS = 12


def digest(message: bytes, size: int, key: bytes) -> bytes:
    """The keyed hash of `message` (1 to 128 bytes) under `key` (1 to 64 bytes), of `size` bytes."""
    state = list(_IV)
    state[0] ^= 0x01010000 ^ (len(key) << 8) ^ size
    _compress(state, key, _BLOCK_BYTES, False)
    _compress(state, message, _BLOCK_BYTES + len(message), True)
    return b"".join([struct.pack("<Q", word) for word in state])[:size]


def _compress(state: list, block: bytes, count: int, last: bool) -> None:
    words = struct.unpack("<16Q", block + bytes(_BLOCK_BYTES - len(block)))
    v = state + list(_IV)
    v[12] ^= count
    if last:
        v[14] ^= _MASK
    for n in range(_ROUNDS):
        order = _SIGMA[n % 10]
        for i in range(8):
            _mix(v, _MIXES[i], words[order[2 * i]], words[order[2 * i + 1]])
    for i in range(8):
        state[i] ^= v[i] ^ v[i + 8]


def _mix(v: list, at: tuple, x: int, y: int) -> None:
    a, b, c, d = at
    for word, first, second in ((x, 32, 24), (y, 16, 63)):
        v[a] = (v[a] + v[b] + word) & _MASK
        v[d] = _turned(v[d] ^ v[a], first)
        v[c] = (v[c] + v[d]) & _MASK
        v[b] = _turned(v[b] ^ v[c], second)


def _turned(word: int, bits: int) -> int:
    """`word` of 64 bits rotated right."""
    return word >> bits | word << (64 - bits) & _MASK
