"""What opens and closes sensitive values: the data keys of the fleet manager, and the sealing keys of its nodes.

A value is at rest as `~g1.KEY.TEXT`: AES-256-GCM under the data key of that id, TEXT being base64 of nonce and cipher
text. What it is about (node, boot, seq, metric) is covered too, so that no row can stand for another. A value that its
node sealed is at rest as `~s1.TEXT`, as it came. No JSON text begins with `~`.

Nonces are drawn at random (96 bits, NIST SP 800-38D section 8.2.2): one key is good for 2^32 values.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM

from firmware.wire.sealing import TAG_BYTES, about_of, blob_of, nonce_of
from fleet.core.rows import ReadingRow, Secret
from fleet.wire.terms import Value

KEY_BYTES = 32
NONCE_BYTES = 12
BLOCK = 16  # a padded text tells neither true from false nor 9 from 1000
AT_REST, SEALED = "~g1.", "~s1."


class VaultError(Exception):
    """A key that is missing, or a text that no key of ours made for this place; the text says which."""


def key_id(key: bytes) -> str:
    """The name of a data key, which says nothing of it."""
    return hashlib.sha256(b"clawland data key" + key).hexdigest()[:8]


def about_reading(node: str, boot: int, seq: int, metric: str) -> bytes:
    """What a reading's value at rest is bound to."""
    return f"clawland reading 1\n{node}\n{boot}\n{seq}\n{metric}".encode()


class Vault:
    """Holds keys; asks no clock and no disk. Safe to use from several threads."""

    def __init__(
        self,
        keys: Sequence[bytes],
        draw: Callable[[int], bytes],
        more: Callable[[], Sequence[bytes]] | None = None,
    ) -> None:
        """`keys`: the newest first, which closes; all of them open. `draw(n)`: n random bytes.

        `more()` is asked for the keys again when a text names one that is not among them.
        """
        self._draw, self._more = draw, more
        self._ciphers: dict[str, AESGCM] = {key_id(key): AESGCM(key) for key in keys}
        self.newest: str | None = next(iter(self._ciphers), None)
        self._sealing: dict[str, list[AESCCM]] = {}

    @property
    def ids(self) -> list[str]:
        """The ids of the data keys, the newest first."""
        return list(self._ciphers)

    # --- at rest --------------------------------------------------------------------------------------------------

    def close(self, plain: bytes, about: bytes) -> str:
        """`plain` for a database that strangers may read. Raises VaultError without a data key."""
        if self.newest is None:
            raise VaultError("there is no data key: name its file with --data-key-file")
        nonce = self._draw(NONCE_BYTES)
        text = nonce + self._ciphers[self.newest].encrypt(nonce, plain + b" " * (-len(plain) % BLOCK), about)
        return f"{AT_REST}{self.newest}.{base64.b64encode(text).decode()}"

    def open(self, text: str, about: bytes) -> bytes:
        """What `close` was given, and spaces. Raises VaultError."""
        name, _, encoded = text.removeprefix(AT_REST).partition(".")
        cipher = self._ciphers.get(name) or self._look_again(name)
        if cipher is None:
            raise VaultError(f"the data key {name!r} is missing")
        try:
            blob = base64.b64decode(encoded, validate=True)
            return cipher.decrypt(blob[:NONCE_BYTES], blob[NONCE_BYTES:], about)
        except (ValueError, InvalidTag):
            raise VaultError("this is not what was stored here") from None

    def _look_again(self, name: str) -> AESGCM | None:
        for key in self._more() if self._more else ():
            self._ciphers.setdefault(key_id(key), AESGCM(key))
        return self._ciphers.get(name)

    def is_old(self, text: str) -> bool:
        """Whether `text` is closed with another key than the newest."""
        return text.startswith(AT_REST) and not text.startswith(f"{AT_REST}{self.newest}.")

    def at_rest(self, row: ReadingRow) -> str:
        """The text of a secret row's value. Raises VaultError without a data key."""
        value = row.value
        if type(value) is not Secret:
            return orjson.dumps(value).decode()
        if value.sealed is not None:
            return SEALED + value.sealed
        return self.close(orjson.dumps(value.plain), about_reading(*row[:4]))

    def opened(self, text: str, node: str, boot: int, seq: int, metric: str) -> Secret:
        """The value of a text that begins with `~`; one without a plain value when it cannot be opened."""
        if text.startswith(SEALED):
            sealed = text.removeprefix(SEALED)
            return Secret(self.unseal(node, boot, seq, metric, sealed), sealed)
        try:
            return Secret(orjson.loads(self.open(text, about_reading(node, boot, seq, metric))))
        except (VaultError, ValueError):
            return Secret(None)

    # --- end to end -----------------------------------------------------------------------------------------------

    def set_sealing(self, node: str, keys: Sequence[bytes]) -> None:
        """The sealing keys that a node has had, the newest first."""
        self._sealing[node] = [AESCCM(key, TAG_BYTES) for key in keys]

    def knows_seal_of(self, node: str) -> bool:
        """Whether there is any sealing key of the node."""
        return bool(self._sealing.get(node))

    def unseal(self, node: str, boot: int, seq: int, metric: str, sealed: str) -> Value | None:
        """The value that the node sealed, or None: no key of the node made this, or not for this reading."""
        blob = blob_of(sealed)
        if blob is None:
            return None
        for cipher in self._sealing.get(node, ()):
            try:
                plain = cipher.decrypt(nonce_of(boot, seq), blob, about_of(node, metric, boot, seq))
                found = orjson.loads(plain)
            except (InvalidTag, ValueError):
                continue
            return found if isinstance(found, int | float | str) else None
        return None
