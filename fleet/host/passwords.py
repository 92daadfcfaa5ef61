"""Passwords of people, by argon2id (RFC 9106), on threads of their own: one takes a tenth of a second of a core."""

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pwdlib import PasswordHash

LEAST_CHARS = 10
MOST_CHARS = 256
AT_ONCE = 2

T = TypeVar("T")
_HASH = PasswordHash.recommended()


class Passwords:
    """Makes and checks hashes; at most `AT_ONCE` at a time, so that logins never starve the rest of the server."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="password")
        self._nobody: str | None = None

    async def hash(self, password: str) -> str:
        """The hash to keep."""
        return await self._on_thread(_HASH.hash, password)

    async def fits(self, password: str, kept: str | None) -> bool:
        """Whether the hash is that of the password; takes as long when there is none (None)."""
        if kept is None:
            if self._nobody is None:
                self._nobody = await self.hash(secrets.token_hex(16))
            await self._on_thread(_HASH.verify, password, self._nobody)
            return False
        return await self._on_thread(_HASH.verify, password, kept)

    async def _on_thread(self, work: Callable[..., T], *args: str) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
