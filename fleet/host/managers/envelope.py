"""Requests and answers on their way through the database: sealed, since they carry tokens and passwords.

AES-256-GCM under a key that is derived from those that sign tokens, which all managers of a fleet share. So a dump of
the database shows none of it, and nobody who can only write to the database makes a manager do something.
"""

import base64
import os
from dataclasses import dataclass
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fleet.host.keyring import Keyring

_PURPOSE = b"clawland request between managers"
_ID_CHARS, _NONCE_BYTES = 12, 12

Headers = list[tuple[bytes, bytes]]


class Unreadable(Exception):
    """Sealed by a manager with other keys, or tampered with."""


@dataclass(frozen=True)
class Request:
    """An HTTP request as ASGI has it."""

    method: str
    path: str
    query: bytes
    headers: Headers
    client: tuple[str, int] | None
    body: bytes


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    headers: Headers
    body: bytes


class Sealer:
    """Seals and opens with the keys of this manager; what is sealed belongs to one row of the queue."""

    def __init__(self, keys: Keyring) -> None:
        self._keys = keys

    def seal(self, row: str, content: Request | Answer) -> bytes:
        """The bytes for that row."""
        name, key = next(iter(self._keys.derived(_PURPOSE).items()))
        nonce = os.urandom(_NONCE_BYTES)
        return name.encode() + nonce + AESGCM(key).encrypt(nonce, _encoded(content), _bound(row, type(content)))

    def open_request(self, row: str, sealed: bytes) -> Request:
        """Raises Unreadable."""
        found = self._open(row, sealed, Request)
        client = tuple(found["client"]) if found["client"] else None
        headers, body = _headers(found["headers"]), base64.b64decode(found["body"])
        return Request(found["method"], found["path"], found["query"].encode("latin-1"), headers, client, body)

    def open_answer(self, row: str, sealed: bytes) -> Answer:
        """Raises Unreadable."""
        found = self._open(row, sealed, Answer)
        return Answer(found["status"], _headers(found["headers"]), base64.b64decode(found["body"]))

    def _open(self, row: str, sealed: bytes, kind: type) -> Any:
        key = self._keys.derived(_PURPOSE).get(sealed[:_ID_CHARS].decode("latin-1"))
        if key is None:
            raise Unreadable("it was sealed with a key that this manager has not: all managers need the same api.key")
        nonce, text = sealed[_ID_CHARS : _ID_CHARS + _NONCE_BYTES], sealed[_ID_CHARS + _NONCE_BYTES :]
        try:
            return orjson.loads(AESGCM(key).decrypt(nonce, text, _bound(row, kind)))
        except (InvalidTag, ValueError):
            raise Unreadable("it is damaged, or belongs to another row") from None


def _bound(row: str, kind: type) -> bytes:
    return f"{kind.__name__} {row}".encode()


def _encoded(content: Request | Answer) -> bytes:
    found: dict[str, Any] = {
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in content.headers],
        "body": base64.b64encode(content.body).decode(),
    }
    if isinstance(content, Answer):
        return orjson.dumps(found | {"status": content.status})
    found |= {"method": content.method, "path": content.path, "query": content.query.decode("latin-1")}
    return orjson.dumps(found | {"client": content.client})


def _headers(found: list[list[str]]) -> Headers:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in found]
