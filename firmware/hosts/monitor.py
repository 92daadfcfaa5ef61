"""`firmware monitor`: what a board says at its serial port, made readable, for as long as somebody watches."""

import json
import time
from collections.abc import Callable
from math import inf
from typing import Any

from firmware.hosts.port import PortError, lines

AGAIN_S = 1.0

Say = Callable[[str], None]


def monitor(url: str, say: Say, wait_s: float) -> None:
    """Tell every line, until Ctrl-C. A port that vanishes is opened again when it is back.

    Raises `PortError` when it cannot be opened within `wait_s` at first.
    """
    first = True
    while True:
        try:
            for line in lines(url, inf, wait_s if first else 0):
                first = False
                say(told(line))
        except PortError:
            if first:
                raise
        else:
            first = False
            say(f"-- {url} is gone; waiting for it")
        time.sleep(AGAIN_S)


def told(line: str) -> str:
    """A line of a board in words: its hello and its events are JSON, all else stays."""
    if line.startswith("hello "):
        found = _object(line.removeprefix("hello "))
        return line if found is None else f"== {_word(found.pop('id', '?'))} starts: {_fields(found)}"
    found = _object(line)
    if found is None or not isinstance(found.get("t_ms"), int) or "kind" not in found:
        return line
    at_s, kind, who = found.pop("t_ms") / 1000, found.pop("kind"), found.pop("who", "?")
    return f"{at_s:10.1f} s  {_word(who)}  {_word(kind):18} {_fields(found)}".rstrip()


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _fields(found: dict[str, Any]) -> str:
    return "  ".join(f"{_word(name)} {_word(found[name])}" for name in sorted(found))


def _word(value: Any) -> str:
    """A value from the line; what JSON's escapes hide must not reach the terminal either."""
    text = value if isinstance(value, str) else json.dumps(value)
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
