"""Who may use the API: JSON Web Tokens (RFC 7519), signed with HMAC-SHA-256 under a key in the data directory.

Tokens expire by the machine's own clock, also when a simulation's clock drives the fleet: a token is about the caller.
"""

import json
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEY_FILE = "api.key"
KEY_BYTES = 32
ISSUER = "clawland-fleet"
ROLES = ("viewer", "operator", "admin")  # each may do all that the ones before it may
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

    def may(self, role: str) -> bool:
        """Whether this caller's role is `role` or above."""
        return ROLES.index(self.role) >= ROLES.index(role)


def load_key(data: Path) -> bytes:
    """The signing key of a data directory, made at first use, readable by its owner only. Raises TokenError."""
    path = data / KEY_FILE
    try:
        if not path.exists():
            _make_key(path)
        key = bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError) as error:
        raise TokenError(f"{path}: {getattr(error, 'strerror', None) or 'not a key in hexadecimal'}") from None
    if len(key) < KEY_BYTES:
        raise TokenError(f"{path}: a key of {len(key)} bytes is too short, {KEY_BYTES} are needed")
    return key


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


def issue(key: bytes, name: str, role: str, ttl_s: int) -> str:
    """A token for `name` in `role` that expires after `ttl_s` seconds. Raises TokenError."""
    import jwt

    if role not in ROLES:
        raise TokenError(f"{role!r} is not a role; use one of {', '.join(ROLES)}")
    if not name or len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise TokenError(f"a name has 1 to {MAX_NAME_CHARS} printable characters")
    if not 0 < ttl_s <= MAX_TTL_S:
        raise TokenError("a token lives for more than 0 and at most 366 days")
    now_s = int(time.time())
    claims = {"iss": ISSUER, "sub": name, "role": role, "iat": now_s, "exp": now_s + ttl_s, "jti": secrets.token_hex(8)}
    return jwt.encode(claims, key, algorithm="HS256")


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
    if role not in ROLES:
        raise TokenError("the token names no role of this server")
    return Caller(name, role)


def parse_ttl(text: str) -> int:
    """Seconds of a duration such as `90s`, `15m`, `24h`, `30d`. Raises TokenError."""
    match = re.fullmatch(r"(\d{1,9})\s*([smhd])", text.strip())
    if match is None:
        raise TokenError(f"{text!r} is not a duration: a whole number and s, m, h or d, as in 24h")
    return int(match[1]) * _UNITS_S[match[2]]
