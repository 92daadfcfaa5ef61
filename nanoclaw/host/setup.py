"""`nanoclaw init`: writes a commented configuration for this gateway, from the example and what the user said."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from firmware.wire.ids import valid_id
from nanoclaw.host.config import EXAMPLE, is_loopback

_IDS = {"gateway.id": "--id", "gateway.site": "--site", "gateway.fleet": "--fleet"}
_NOT_EMPTY = {
    "uplink.host": "--hub",
    "local.host": "--local-host",
    "local.data": "--data",
    "gateway.key_file": "--key-file",
}


class SetupError(Exception):
    """The configuration could not be written; the text is for the user."""


def check_values(values: Mapping[str, str | int | bool]) -> None:
    """Refuse what `nanoclaw run` would not take, by the flag that said it. Raises SetupError."""
    for name, flag in _IDS.items():
        if not valid_id(values.get(name)):
            grammar = "use at most 32 of a-z, 0-9 and '-', not '-' first"
            raise SetupError(f"{flag}: {values.get(name)!r} cannot be an id: {grammar}")
    for name, flag in _NOT_EMPTY.items():
        if not str(values.get(name, "")).strip():
            raise SetupError(f"{flag}: must not be empty")
    host = str(values["local.host"])
    if not (is_loopback(host) or values.get("local.tls") or values.get("local.plain")):
        raise SetupError(f"--local-host: nodes would speak to {host} without TLS: add --local-tls, or --local-plain")


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
