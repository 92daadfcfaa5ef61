"""A value that only the fleet manager can read: sealed by the node, passed on as it is by whoever carries it.

The text is base64 of AES-CCM with a code of 8 bytes. The nonce is the reading's identity, which never comes twice; the
code also covers node and metric, so that no reading can stand for another. The plain text is the value as JSON, with
spaces up to a whole block: its length tells neither true from false nor 9 from 1000.
"""

import binascii

from firmware.wire.ccm import BLOCK_BYTES, NONCE_BYTES, encrypt

TAG_BYTES = 8
MAX_SEALED_CHARS = 120  # of a text of 64 characters
MARK = "~"  # before a sealed value where a node keeps values as JSON text, none of which begins so


def nonce_of(boot: int, seq: int) -> bytes:
    """13 bytes: `boot` and `seq`, 4 bytes each, and zeros."""
    return boot.to_bytes(4, "big") + seq.to_bytes(4, "big") + bytes(NONCE_BYTES - 8)


def about_of(node: str, metric: str, boot: int, seq: int) -> bytes:
    """What the code covers beside the value."""
    return ("clawland sealed 1\n%s\n%s\n%d\n%d" % (node, metric, boot, seq)).encode()


def seal(block, node: str, metric: str, boot: int, seq: int, value: str) -> str:
    """`value` (JSON text) sealed, after `MARK`; `block` is AES under the node's sealing key."""
    plain = value.encode()
    plain += b" " * (-len(plain) % BLOCK_BYTES)
    sealed = encrypt(block, nonce_of(boot, seq), plain, about_of(node, metric, boot, seq), TAG_BYTES)
    return MARK + binascii.b2a_base64(sealed)[:-1].decode()


def blob_of(text: object) -> "bytes | None":
    """The bytes of a sealed value as it travels (without `MARK`), or None when it cannot be one."""
    if not isinstance(text, str) or not 0 < len(text) <= MAX_SEALED_CHARS:
        return None
    try:
        blob = binascii.a2b_base64(text.encode())
    except ValueError:  # binascii.Error is one
        return None
    whole = len(blob) > TAG_BYTES and (len(blob) - TAG_BYTES) % BLOCK_BYTES == 0
    return blob if whole and binascii.b2a_base64(blob)[:-1].decode() == text else None
