"""Logins in virtual time: keys that no file holds, and passwords that are checked where nothing else could run."""

from collections.abc import Callable
from typing import TypeVar

from clawsim.randomness import secret
from fleet.host.passwords import Passwords
from fleet.host.tokens import Caller, TokenError, issue, key_id, verify

T = TypeVar("T")


class VirtualKeys:
    """What the routes need of `fleet.host.keyring.Keyring`; each key follows from the seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._made = 0
        self._keys: list[bytes] = []
        self.rotate(0)

    def issue(self, name: str, role: str, ttl_s: int, **more: object) -> str:
        """A token that the newest key signs. Raises TokenError."""
        return issue(self._keys[0], name, role, ttl_s, **more)

    def verify(self, token: str) -> Caller:
        """Who the token stands for. Raises TokenError."""
        for key in self._keys[1:]:
            try:
                return verify(key, token)
            except TokenError:
                continue
        return verify(self._keys[0], token)

    def rotate(self, overlap_s: int) -> str:
        """A new key signs; those before it verify on, unless `overlap_s` is 0: tokens live by the clock on the wall."""
        name = "api" if self._made == 0 else f"api-{self._made}"
        self._made += 1
        self._keys = [secret(self._seed, name), *(self._keys if overlap_s else ())]
        return key_id(self._keys[0])

    def views(self) -> list[tuple[str, int | None]]:
        """Ids of the keys, the signing one first."""
        return [(key_id(key), None) for key in self._keys]


class VirtualPasswords(Passwords):
    """Without threads: simulated time stands still meanwhile."""

    async def _on_thread(self, work: Callable[..., T], *args: str) -> T:
        return work(*args)
