"""Writes TOML (version 1.0) for the configuration files of a run; Python reads it, but does not write it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

Table = Mapping[str, Any]


def dumps(document: Mapping[str, Table | Sequence[Table]]) -> str:
    """A document of tables, or of lists of tables. A key whose value is ``None`` is left out: TOML has no null.

    Raises :class:`TypeError` for a value that TOML cannot say.
    """
    lines: list[str] = []
    for name, content in document.items():
        if isinstance(content, Mapping):
            lines += [f"[{_key(name)}]", *_pairs(content), ""]
        else:
            for table in content:
                lines += [f"[[{_key(name)}]]", *_pairs(table), ""]
    return "\n".join(lines)


def _pairs(table: Table) -> list[str]:
    return [f"{_key(key)} = {_value(value)}" for key, value in table.items() if value is not None]


def _key(key: str) -> str:
    bare = key.replace("_", "").replace("-", "")
    return key if bare.isascii() and bare.isalnum() else _text(key)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(_pairs(value)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    raise TypeError(f"TOML has no {type(value).__name__}")


def _text(text: str) -> str:
    # A TOML basic string is a JSON string but for DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
