"""Keeps secrets out of logs: by the name of a field, by what a text looks like, and by the secrets that were read.

The last line of defence. No code of ours logs a secret on purpose; a library's error message or a URL may hold one.
"""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
SHORTEST = 4  # a shorter text is in every other word
_NAMES = re.compile(r"passw|secret|token|authorization|credential|private|(^|_|\b)key(s|$|_|\b)", re.IGNORECASE)
_PATTERNS = [
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL), HIDDEN),
    (re.compile(r"\b(bearer|basic) +[\w.~+/=-]{8,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"), HIDDEN),  # a JSON Web Token
    (re.compile(r"\breg_[\w-]{16,}"), HIDDEN),  # a registration token
    (re.compile(r"\b([a-z][a-z0-9+.-]*://[^\s/:@]*):[^\s/@]+@", re.IGNORECASE), rf"\1:{HIDDEN}@"),
    (re.compile(r"\b[0-9a-fA-F]{64}\b"), HIDDEN),  # a node's or gateway's key, or a password made of one
    (
        re.compile(r"((?:\b|_)(?:password|passwd|secret|token|api_?key)[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&}]+", re.I),
        rf"\1{HIDDEN}",
    ),
]
_concealed: set[str] = set()


def conceal(secret: str) -> None:
    """No log of this process shows `secret` from now on."""
    if len(secret) >= SHORTEST:
        _concealed.add(secret)


def is_secret_name(name: str) -> bool:
    """Whether a field of this name holds a secret; one that names a secret's file does not."""
    return _NAMES.search(name) is not None and not name.endswith("_file")


def hidden(text: str) -> str:
    """`text` without anything that is, or looks like, a secret."""
    for secret in _concealed:
        text = text.replace(secret, HIDDEN)
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


def without_secrets(value: Any) -> Any:
    """A value as it may be logged, with everything inside it."""
    if isinstance(value, str):
        return hidden(value)
    if isinstance(value, bytes):
        return hidden(value.decode(errors="replace"))
    if isinstance(value, Mapping):
        return {
            name: HIDDEN if is_secret_name(str(name)) and each else without_secrets(each)
            for name, each in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [without_secrets(each) for each in value]
    return value if isinstance(value, int | float | bool | None) else hidden(str(value))
