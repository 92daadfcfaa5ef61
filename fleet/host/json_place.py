"""Where in a JSON text a member is, so that a mistake in it can be told by line and column."""

import json
import re

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")


def line_and_column(text: str, path: str) -> tuple[int, int]:
    """Of the member that `path` names, as in `nodes.3.key`; of the deepest one on the way there that exists.

    Both count from 1. The text must be JSON.
    """
    at = _skip(text, 0)
    for part in path.split("."):
        inner = _member(text, at, part)
        if inner is None:
            break
        at = inner
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


def _member(text: str, at: int, part: str) -> int | None:
    if text[at] == "{":
        return _in_object(text, at, part)
    if text[at] == "[" and part.isdecimal():
        return _in_list(text, at, int(part))
    return None


def _in_object(text: str, at: int, wanted: str) -> int | None:
    at = _skip(text, at + 1)
    while text[at] == '"':
        name, at = _DECODER.raw_decode(text, at)
        at = _skip(text, _skip(text, at) + 1)  # past the colon
        if name == wanted:
            return at
        at = _skip(text, _next(text, at))
    return None


def _in_list(text: str, at: int, wanted: int) -> int | None:
    at = _skip(text, at + 1)
    for _ in range(wanted):
        if text[at] == "]":
            return None
        at = _next(text, at)
    return None if text[at] == "]" else at


def _next(text: str, at: int) -> int:
    """Past the value at `at` and the comma after it, or at the bracket that ends both."""
    _, at = _DECODER.raw_decode(text, at)
    at = _skip(text, at)
    return _skip(text, at + 1) if text[at] == "," else at


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()
