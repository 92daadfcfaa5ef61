"""People and tokens that the server keeps account of: users, their logins, issued tokens, registrations of agents.

A change is durable before anything is answered for it, and before it counts. Secrets are kept as digests only.
"""

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fleet.core.errors import Conflict, Unknown
from fleet.host.keyring import Keyring
from fleet.host.passwords import Passwords
from fleet.host.runtime import Runtime
from fleet.host.tokens import DEVICE_ROLES, Caller, TokenError

ACCESS_S = 15 * 60
REFRESH_S = 30 * 86_400
DEVICE_S = 30 * 86_400  # an agent refreshes its token before that, or an operator registers it again
REGISTRATION_S = 86_400
MOST_TOKENS = 10_000
MOST_USERS = 1_000
MOST_SESSIONS = 20  # of one user; the oldest ends for the next

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Session:
    """What a login or its refresh gives."""

    name: str
    role: str
    access: str
    access_until_s: int
    refresh: str
    refresh_until_s: int


class Accounts:
    """Rows of `users` and `tokens`; a token's `kind` is session, issued, registration or revoked."""

    def __init__(
        self,
        runtime: Runtime,
        keys: Keyring,
        users: Iterable[Row],
        tokens: Iterable[Row],
        passwords: Passwords | None = None,
    ) -> None:
        self._runtime, self._keys = runtime, keys
        self.users: dict[str, Row] = {}
        self.tokens: dict[str, Row] = {}
        self.show_all(users, tokens)
        self._passwords = passwords or Passwords()
        self._changing = asyncio.Lock()

    def show_all(self, users: Iterable[Row], tokens: Iterable[Row]) -> None:
        """The rows of the database are these."""
        self.users = {row["name"]: dict(row["doc"]) for row in users}
        self.tokens = {row["id"]: dict(row["doc"]) for row in tokens}

    def show(self, changed: Iterable[tuple[str, str, Row | None]]) -> None:
        """Another manager has changed each (table, key, row) to what it is by now; None when it is no more."""
        for table, key, row in changed:
            rows = self.users if table == "users" else self.tokens
            if row is None:
                rows.pop(key, None)
            else:
                rows[key] = dict(row["doc"])

    def check(self, caller: Caller) -> None:
        """Raises TokenError for a token that was valid once."""
        row = self.tokens.get(caller.token_id)
        if row is not None and row.get("revoked"):
            raise TokenError("the token was revoked")
        if caller.session:
            session = self.tokens.get(caller.session)
            if session is None or session.get("revoked"):
                raise TokenError("the login that this token comes from has ended; log in again")
        if caller.role in DEVICE_ROLES:
            self._check_device(caller)

    def _check_device(self, caller: Caller) -> None:
        registry = self._runtime.core.registry
        rows = registry.nodes if caller.role == "node" else registry.gateways
        row = rows.get(caller.name)
        if row is None or row["doc"].get("stolen"):
            raise TokenError(f"the {caller.role} of this token is not in the fleet any more")
        if caller.role == "node" and row["doc"].get("generation") != caller.generation:
            raise TokenError("the node was registered anew since; this token is of before")

    # --- users and their logins -----------------------------------------------------------------------------------

    async def add_user(self, name: str, role: str, password: str) -> Row:
        """Raises Conflict, StorageError."""
        kept = await self._passwords.hash(password)
        async with self._changing:
            if name in self.users:
                raise Conflict(f"there is a user {name} already")
            if len(self.users) >= MOST_USERS:
                raise Conflict(f"there are {MOST_USERS} users already")
            doc = {"role": role, "password": kept, "disabled": False, "created_s": int(time.time())}
            await self._save_user(name, doc)
        return doc

    async def change_user(self, name: str, role: str | None, password: str | None, disabled: bool | None) -> Row:
        """Whatever is not None; ends the user's logins. Raises Unknown, StorageError."""
        kept = None if password is None else await self._passwords.hash(password)
        async with self._changing:
            doc = dict(self._user(name))
            for key, value in (("role", role), ("password", kept), ("disabled", disabled)):
                if value is not None:
                    doc[key] = value
            await self._save_user(name, doc, self._sessions_of(name))
        return doc

    async def drop_user(self, name: str) -> None:
        """Raises Unknown, StorageError."""
        async with self._changing:
            self._user(name)
            ended = self._sessions_of(name)
            writes = [("delete", "users", name), *(("delete", "tokens", key) for key in ended)]
            await self._runtime.save(writes)
            del self.users[name]
            self._forget(ended)

    async def log_in(self, name: str, password: str) -> Session | None:
        """None unless the password is that of an enabled user; which of these it is not takes equally long."""
        user = self.users.get(name)
        fits = await self._passwords.fits(password, user["password"] if user else None)
        if user is None or not fits or user["disabled"] or self.users.get(name) is not user:
            return None
        async with self._changing:
            return await self._save_session(name, user["role"], secrets.token_hex(8), None)

    async def refresh(self, token: str) -> Session | None:
        """The next pair of tokens for the refresh token of the last; None when it is not (or no longer) that.

        One that was used before has been copied: that login ends.
        """
        key, _, secret = token.partition(".")
        async with self._changing:
            row = self.tokens.get(key)
            if row is None or row["kind"] != "session" or row["until_s"] <= time.time():
                return None
            if hmac.compare_digest(row["digest"], _digest(secret)):
                user = self.users.get(row["name"])
                return await self._save_session(row["name"], user["role"], key, row) if user else None
            if row.get("before") and hmac.compare_digest(row["before"], _digest(secret)):
                await self._runtime.save([("delete", "tokens", key)])
                del self.tokens[key]
            return None

    async def log_out(self, session: str) -> None:
        """The login's tokens are worth nothing any more. Raises StorageError."""
        async with self._changing:
            await self._runtime.save([("delete", "tokens", session)])
            self._forget([session])

    async def password_fits(self, name: str, password: str) -> bool:
        """Whether it is that user's."""
        user = self.users.get(name)
        return await self._passwords.fits(password, user["password"] if user else None)

    async def _save_session(self, name: str, role: str, key: str, old: Row | None) -> Session:
        secret, now_s = secrets.token_urlsafe(32), int(time.time())
        doc: Row = {
            "kind": "session",
            "name": name,
            "role": role,
            "digest": _digest(secret),
            "until_s": now_s + REFRESH_S,
        }
        doc |= {"created_s": old["created_s"] if old else now_s, "before": old["digest"] if old else None}
        mine = sorted(self._sessions_of(name), key=lambda each: self.tokens[each]["created_s"])
        await self._save_token(key, doc, mine[: -MOST_SESSIONS + 1] if old is None else [])
        access = self._keys.issue(name, role, ACCESS_S, sid=key)
        return Session(name, role, access, now_s + ACCESS_S, f"{key}.{secret}", doc["until_s"])

    def _user(self, name: str) -> Row:
        if name not in self.users:
            raise Unknown(f"there is no user {name!r}")
        return self.users[name]

    def _sessions_of(self, name: str) -> list[str]:
        return [key for key, row in self.tokens.items() if row["kind"] == "session" and row["name"] == name]

    async def _save_user(self, name: str, doc: Row, ended: Iterable[str] = ()) -> None:
        ended = list(ended)
        writes = [("upsert", "users", {"name": name, "doc": doc}), *(("delete", "tokens", key) for key in ended)]
        await self._runtime.save(writes)
        self.users[name] = doc
        self._forget(ended)

    # --- tokens ---------------------------------------------------------------------------------------------------

    async def issue(self, name: str, role: str, ttl_s: int, by: str) -> tuple[str, Row, str]:
        """Id, row and text of a token for `name`. Raises TokenError, Unknown, Conflict, StorageError."""
        more = {"gen": self._generation_of(name)} if role == "node" else {}
        if role == "gateway" and name not in self._runtime.core.registry.gateways:
            raise Unknown(f"there is no gateway {name!r}")
        key, now_s = secrets.token_hex(8), int(time.time())
        text = self._keys.issue(name, role, ttl_s, jti=key, **more)
        doc = {"kind": "issued", "name": name, "role": role, "created_s": now_s, "until_s": now_s + ttl_s, "by": by}
        async with self._changing:
            await self._save_token(key, doc)
        return key, doc, text

    async def revoke(self, key: str, until_s: int) -> None:
        """The token with this id is worth nothing any more; one that is not listed is remembered `until_s`.

        Raises Conflict, StorageError.
        """
        async with self._changing:
            row = self.tokens.get(key)
            if row is not None and row["kind"] in ("session", "registration"):
                await self._runtime.save([("delete", "tokens", key)])
                self._forget([key])
                return
            unlisted = {"kind": "revoked", "name": "", "role": "", "created_s": int(time.time()), "until_s": until_s}
            await self._save_token(key, (row or unlisted) | {"revoked": True})

    def device_token(self, node: str) -> tuple[str, int]:
        """A token that acts for the agent, and when it ends. Raises Unknown."""
        generation = self._generation_of(node)
        return self._keys.issue(node, "node", DEVICE_S, gen=generation), int(time.time()) + DEVICE_S

    def _generation_of(self, node: str) -> int:
        return int(self._runtime.core.agents.row_of(node)["doc"]["generation"])

    # --- registration of agents -----------------------------------------------------------------------------------

    async def invite(self, node: str | None, ttl_s: int, by: str) -> tuple[str, int]:
        """A token that registers one agent, once; and when it ends. Raises Conflict, StorageError."""
        secret, now_s = f"reg_{secrets.token_urlsafe(32)}", int(time.time())
        doc: Row = {"kind": "registration", "name": node or "", "role": "", "by": by}
        doc |= {"created_s": now_s, "until_s": now_s + ttl_s}
        async with self._changing:
            await self._save_token(_digest(secret), doc)
        return secret, now_s + ttl_s

    async def spend(self, secret: str, node: str) -> str:
        """Uses up a registration token for that node; who gave it out. Raises TokenError, StorageError."""
        key = _digest(secret)
        async with self._changing:
            row = self.tokens.get(key)
            if row is None or row["kind"] != "registration" or row["until_s"] <= time.time():
                raise TokenError("this registration token is used up, expired or unknown; ask an operator for another")
            if row["name"] not in ("", node):
                raise TokenError("this registration token is for another node")
            await self._runtime.save([("delete", "tokens", key)])
            self._forget([key])
        return str(row["by"])

    async def _save_token(self, key: str, doc: Row, ended: Iterable[str] = ()) -> None:
        now_s = time.time()
        over = [each for each, row in self.tokens.items() if row["until_s"] <= now_s] + list(ended)
        if len(self.tokens) - len(over) >= MOST_TOKENS and key not in self.tokens:
            raise Conflict(f"there are {MOST_TOKENS} tokens already; revoke some")
        writes = [("delete", "tokens", each) for each in over]
        await self._runtime.save([*writes, ("upsert", "tokens", {"id": key, "doc": doc})])
        self._forget(over)
        self.tokens[key] = doc

    def _forget(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.tokens.pop(key, None)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
