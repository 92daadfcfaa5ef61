"""The keys that sign the API's tokens: one signs, those before it verify until the tokens that they signed are over.

All of them are in one file of the data directory, replaced as a whole; whoever replaces it (this server, another one, a
person), every server that works in the directory sees it with the next request.
"""

import contextlib
import hmac
import os
import secrets
import time
from pathlib import Path

from fleet.host.tokens import (
    KEY_BYTES,
    KEY_FILE,
    Caller,
    TokenError,
    issue,
    key_id,
    load_key,
    read_keys,
    signer_of,
    verify,
)

MOST_KNOWN = 1_000


class Keyring:
    """The keys of one data directory."""

    def __init__(self, data: Path) -> None:
        """Raises TokenError."""
        self._path = data / KEY_FILE
        self.is_new = not self._path.exists()
        load_key(data)
        self._stamp: tuple[int, int] = (0, 0)
        self._keys: list[tuple[bytes, int | None]] = []
        self._known: dict[str, tuple[Caller, float]] = {}  # tokens that were found good, and until when they are
        self._look()

    def issue(self, name: str, role: str, ttl_s: int, **more: object) -> str:
        """A token that the newest key signs. Raises TokenError."""
        self._look()
        return issue(self._keys[0][0], name, role, ttl_s, **more)

    def verify(self, token: str) -> Caller:
        """Who the token stands for. Raises TokenError."""
        self._look()
        now_s = time.time()
        known = self._known.get(token)
        if known is not None and now_s < known[1]:
            return known[0]
        signer = signer_of(token)
        for key, until_s in self._keys:
            if signer == key_id(key) and (until_s is None or now_s < until_s):
                return self._remember(token, verify(key, token), until_s)
        return verify(self._keys[0][0], token)  # it names no key of ours: most likely it is refused, with words

    def _remember(self, token: str, caller: Caller, until_s: int | None) -> Caller:
        """Checking a signature takes longer than most answers, and the same token comes again and again."""
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[token] = (caller, caller.expires_s if until_s is None else min(caller.expires_s, until_s))
        return caller

    def rotate(self, overlap_s: int) -> str:
        """A new key signs from now on; those before it verify for `overlap_s` more seconds. The new key's id."""
        self._look()
        now_s = int(time.time())
        until_s = now_s + overlap_s
        old = [(key, until_s if at_s is None else min(at_s, until_s)) for key, at_s in self._keys]
        fresh = secrets.token_bytes(KEY_BYTES)
        self._write([(fresh, None), *((key, at_s) for key, at_s in old if at_s > now_s)])
        return key_id(fresh)

    def derived(self, purpose: bytes) -> dict[str, bytes]:
        """A key of 32 bytes for `purpose` from each of the keys, by its id, the signing one first."""
        self._look()
        return {key_id(key): hmac.digest(key, purpose, "sha256") for key, _ in self._keys}

    def views(self) -> list[tuple[str, int | None]]:
        """Ids of the keys, the signing one first, and until when each verifies."""
        self._look()
        return [(key_id(key), until_s) for key, until_s in self._keys]

    def _look(self) -> None:
        """Read the file again if it is another one; a damaged one changes nothing, and is said at the next start."""
        with contextlib.suppress(OSError, TokenError):
            found = self._path.stat()
            stamp = (found.st_mtime_ns, found.st_ino)
            if stamp != self._stamp:
                self._keys, self._stamp = read_keys(self._path), stamp
                self._known.clear()

    def _write(self, keys: list[tuple[bytes, int | None]]) -> None:
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            for key, until_s in keys:
                file.write(key.hex() + ("" if until_s is None else f" {until_s}") + "\n")
            file.flush()
            os.fsync(handle)
        draft.replace(self._path)
        self._look()
