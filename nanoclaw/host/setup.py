"""`nanoclaw init`: writes a commented configuration for this gateway, from the example and what the user said."""

import os
import re
from pathlib import Path

from nanoclaw.host.config import EXAMPLE


class SetupError(Exception):
    """The configuration could not be written; the text is for the user."""


def write_config(path: Path, values: dict[str, str | int | bool]) -> None:
    """Write the example to `path` with `values` by "table.key" in their places; there is no secret in it.

    Raises SetupError; a file that is there is left alone.
    """
    text = EXAMPLE
    for name, value in values.items():
        section, _, key = name.partition(".")
        text = _with(text, section, key, value)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        raise SetupError(f"{path} is there already: choose another name, or remove it first") from None
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror}") from None
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)


def _with(text: str, table: str, key: str, value: str | int | bool) -> str:
    """The example with another value for one key, which may stand there as a comment."""
    before, header, rest = text.partition(f"\n[{table}]")
    line = re.compile(rf"^(?:# )?{key} = (?:\"[^\"]*\"|\S+)(?P<pad> *)(?P<comment>#.*)?$", re.MULTILINE)
    found = line.search(rest)
    if found is None:
        raise KeyError(f"{table}.{key} is not in the example")
    fresh = f"{key} = {_toml(value)}"
    if found["comment"]:
        fresh = f"{fresh:<32} {found['comment']}"
    return before + header + rest[: found.start()] + fresh + rest[found.end() :]


def _toml(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
