"""Who may use the API: JSON Web Tokens (RFC 7519), signed with HMAC-SHA-256 under a key in the data directory.

Tokens expire by the machine's own clock, also when a simulation's clock drives the fleet: a token is about the caller.
"""

import hashlib
import json
import os
import re
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KEY_FILE = "api.key"
KEY_BYTES = 32
ISSUER = "clawland-fleet"
ROLES = ("viewer", "operator", "admin")  # each may do all that the ones before it may
DEVICE_ROLES = ("node", "gateway")  # such a token acts for the device that it names, and for nothing else
MAX_NAME_CHARS = 64
MAX_TTL_S = 366 * 86_400

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class TokenError(Exception):
    """A token that is not accepted, or cannot be made; the text is for whoever sent the request."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request."""

    name: str
    role: str
    token_id: str = field(default="", compare=False)
    session: str = field(default="", compare=False)
    """The login that the token comes from; ends with it."""
    generation: int = field(default=0, compare=False)
    """Of a node: the registration that the token comes from; ends with the next."""
    expires_s: int = field(default=0, compare=False)

    def may(self, role: str) -> bool:
        """Whether this caller's role is `role` or above."""
        return self.role in ROLES and ROLES.index(self.role) >= ROLES.index(role)

    def is_device(self, role: str, name: str) -> bool:
        """Whether this is the node or gateway of that name itself."""
        return (self.role, self.name) == (role, name)


def load_key(data: Path) -> bytes:
    """The signing key of a data directory, made at first use, readable by its owner only. Raises TokenError."""
    path = data / KEY_FILE
    try:
        if not path.exists():
            _make_key(path)
        return read_keys(path)[0][0]
    except OSError as error:
        raise TokenError(f"{path}: {error.strerror}") from None


def read_keys(path: Path) -> list[tuple[bytes, int | None]]:
    """The keys of a file, one a line: the first signs, each other verifies until the second that follows it.

    Raises TokenError, OSError.
    """
    found: list[tuple[bytes, int | None]] = []
    try:
        for line in path.read_text().splitlines():
            key, _, until_s = line.strip().partition(" ")
            found.append((bytes.fromhex(key), int(until_s) if until_s else None))
    except ValueError:
        raise TokenError(f"{path}: not a key in hexadecimal") from None
    short = min((len(key) for key, _ in found), default=0)
    if short < KEY_BYTES:
        raise TokenError(f"{path}: a key of {short} bytes is too short, {KEY_BYTES} are needed")
    return found


def key_id(key: bytes) -> str:
    """The `kid` of tokens that `key` signs (RFC 7515 section 4.1.4)."""
    return hashlib.sha256(b"clawland api key" + key).hexdigest()[:12]


def _make_key(path: Path) -> None:
    """Several processes may do this at once: the first link wins, and no one ever reads half a key."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(handle)
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def issue(key: bytes, name: str, role: str, ttl_s: int, **more: object) -> str:
    """A token for `name` in `role` that expires after `ttl_s` seconds, with `more` claims. Raises TokenError."""
    import jwt

    if role not in ROLES + DEVICE_ROLES:
        raise TokenError(f"{role!r} is not a role; use one of {', '.join(ROLES)}")
    if not name or len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise TokenError(f"a name has 1 to {MAX_NAME_CHARS} printable characters")
    if not 0 < ttl_s <= MAX_TTL_S:
        raise TokenError("a token lives for more than 0 and at most 366 days")
    now_s = int(time.time())
    claims = {"iss": ISSUER, "sub": name, "role": role, "iat": now_s, "exp": now_s + ttl_s, "jti": secrets.token_hex(8)}
    return jwt.encode(claims | more, key, algorithm="HS256", headers={"kid": key_id(key)})


def signer_of(token: str) -> str:
    """The `kid` that the token names, unverified; empty when there is none."""
    import jwt

    try:
        return str(jwt.get_unverified_header(token).get("kid", ""))
    except jwt.InvalidTokenError:
        return ""


def verify(key: bytes, token: str) -> Caller:
    """Who the token stands for. Raises TokenError for anything but a live token of ours."""
    import jwt

    needed = {"require": ["exp", "iat", "sub", "role"]}
    try:
        claims: dict[str, Any] = jwt.decode(token, key, algorithms=["HS256"], issuer=ISSUER, options=needed)  # type: ignore[arg-type]
    except jwt.ExpiredSignatureError:
        raise TokenError("the token has expired; make a new one with: fleet token") from None
    except (jwt.InvalidTokenError, json.JSONDecodeError):
        raise TokenError("the token is not valid for this server; make one with: fleet token") from None
    name, role = claims["sub"], claims["role"]
    if role not in ROLES + DEVICE_ROLES:
        raise TokenError("the token names no role of this server")
    generation, expires_s = claims.get("gen", 0), int(claims["exp"])
    return Caller(name, role, str(claims.get("jti", "")), str(claims.get("sid", "")), generation, expires_s)


def parse_ttl(text: str) -> int:
    """Seconds of a duration such as `90s`, `15m`, `24h`, `30d`. Raises TokenError."""
    match = re.fullmatch(r"(\d{1,9})\s*([smhd])", text.strip())
    if match is None:
        raise TokenError(f"{text!r} is not a duration: a whole number and s, m, h or d, as in 24h")
    return int(match[1]) * _UNITS_S[match[2]]
