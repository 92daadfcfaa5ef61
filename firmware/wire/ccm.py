"""AES-CCM (RFC 3610) over a block function that is handed in: boards have AES in hardware, processes in a library.

`block` encrypts 16 bytes under the key. Nonces are 13 bytes, so a message is shorter than 64 KiB; no nonce may ever
come twice under one key. Tests hold it to the RFC's own vectors and to another implementation.
"""

from firmware.wire.auth import same

BLOCK_BYTES = 16
NONCE_BYTES = 13
_LENGTH_BYTES = 15 - NONCE_BYTES
_MOST_BYTES = 0xFFFF
_MOST_ABOUT_BYTES = 0xFEFF  # beyond, RFC 3610 spells the length in another way


def encrypt(block, nonce: bytes, plain: bytes, about: bytes, tag_bytes: int) -> bytes:
    """`plain` encrypted, with its code at the end; `about` is covered by the code and travels by itself.

    Raises ValueError for lengths that the format cannot hold.
    """
    tag = _tag(block, nonce, plain, about, tag_bytes)
    return _crypt(block, nonce, plain) + _masked(block, nonce, tag)


def decrypt(block, nonce: bytes, sealed: bytes, about: bytes, tag_bytes: int) -> "bytes | None":
    """The plain text, or None when anything was changed, or another key made it. Raises ValueError as `encrypt`."""
    if len(sealed) < tag_bytes:
        return None
    plain = _crypt(block, nonce, sealed[:-tag_bytes])
    tag = _tag(block, nonce, plain, about, tag_bytes)
    return plain if same(_masked(block, nonce, tag), sealed[-tag_bytes:]) else None


def _tag(block, nonce: bytes, plain: bytes, about: bytes, tag_bytes: int) -> bytes:
    """CBC-MAC over the lengths, `about` and `plain` (section 2.2)."""
    if len(nonce) != NONCE_BYTES or len(plain) > _MOST_BYTES or len(about) > _MOST_ABOUT_BYTES:
        raise ValueError("a nonce of 13 bytes, less than 64 KiB of text")
    if tag_bytes not in (4, 6, 8, 10, 12, 14, 16):
        raise ValueError("a code has 4, 6, … 16 bytes")
    flags = 0x40 * (len(about) > 0) + 8 * ((tag_bytes - 2) // 2) + _LENGTH_BYTES - 1
    text = bytes([flags]) + nonce + len(plain).to_bytes(_LENGTH_BYTES, "big")
    if about:
        text += _filled(len(about).to_bytes(2, "big") + about)
    text += _filled(plain)
    state = bytes(BLOCK_BYTES)
    for at in range(0, len(text), BLOCK_BYTES):
        state = block(_xor(state, text[at : at + BLOCK_BYTES]))
    return state[:tag_bytes]


def _crypt(block, nonce: bytes, text: bytes) -> bytes:
    """Counter mode from block 1 on (section 2.3); its own inverse."""
    found = b""
    for at in range(0, len(text), BLOCK_BYTES):
        found += _xor(text[at : at + BLOCK_BYTES], _key_stream(block, nonce, at // BLOCK_BYTES + 1))
    return found


def _masked(block, nonce: bytes, tag: bytes) -> bytes:
    return _xor(tag, _key_stream(block, nonce, 0))


def _key_stream(block, nonce: bytes, number: int) -> bytes:
    return block(bytes([_LENGTH_BYTES - 1]) + nonce + number.to_bytes(_LENGTH_BYTES, "big"))


def _filled(text: bytes) -> bytes:
    """`text` with zeros up to a whole block."""
    return text + bytes(-len(text) % BLOCK_BYTES)


def _xor(a: bytes, b: bytes) -> bytes:
    """As long as the shorter of both."""
    return bytes([x ^ y for x, y in zip(a, b)])
