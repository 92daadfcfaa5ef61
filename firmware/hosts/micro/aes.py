"""AES for `firmware.wire.ccm` on a board: MicroPython's `cryptolib`, be it hardware or a library, or else our own."""

import binascii

_ECB = 1  # one block at a time is AES itself


def aes_block(key: bytes):
    """Encrypts 16 bytes under `key` (16 or 32 bytes)."""
    try:
        from cryptolib import aes
    except ImportError:
        from firmware.wire.aes import Aes

        return Aes(key).encrypt
    return aes(key, _ECB).encrypt


def with_keys(core: dict) -> dict:
    """The core's part of node.json, in which keys are text, with what the core wants in their place.

    Raises KeyError, TypeError and ValueError when it is not what `firmware build` writes."""
    core["key"] = binascii.unhexlify(core["key"])
    sealing_key = core.pop("sealing_key", None)
    if sealing_key:
        core["seal_block"] = aes_block(binascii.unhexlify(sealing_key))
    return core
