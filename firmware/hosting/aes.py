"""AES for `firmware.wire.ccm` where there is no hardware for it: a block function from a library."""

from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


def aes_block(key: bytes) -> Callable[[bytes], bytes]:
    """Encrypts 16 bytes under `key` (16, 24 or 32 bytes)."""
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update  # noqa: S305 - one block at a time is AES itself
