"""TOML configuration parsed once at the edge: every error says file, line, column, key and what to write instead.

A value may be overridden from outside (an environment variable, a command-line flag); its errors then name that source.
"""

import difflib
import re
import stat
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from firmware.hosting.toml_place import line_and_column
from firmware.wire.auth import KEY_BYTES
from firmware.wire.ids import valid_id

T = TypeVar("T")
_REQUIRED: Any = object()
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class ConfigError(Exception):
    """A configuration that cannot be used; the message begins with `file:line:column: key:` or the override's source.

    A key that is missing is placed at its table, and only the file is named where that is missing too.
    """


class Table:
    """One table of a configuration file; each getter checks one key, and `finish` refuses keys that nobody asked for.

    `overrides` maps "table.key" to (source, text); `text` is the whole file's, to place mistakes in.
    """

    def __init__(
        self,
        file: Path,
        data: Mapping[str, Any],
        name: str = "",
        overrides: Mapping[str, tuple[str, str]] | None = None,
        text: str = "",
    ) -> None:
        self.file = file
        self.name = name
        self._data = data
        self._overrides = overrides or {}
        self._text = text
        self._known: set[str] = set()

    def names(self) -> list[str]:
        """The keys that are there, of a table in which any may be."""
        return list(self._data)

    def fail(self, key: str, message: str) -> ConfigError:
        """The error to raise about `key`."""
        path = self._path(key)
        if path in self._overrides:
            return ConfigError(f"{self._overrides[path][0]}: {message}")
        place = line_and_column(self._text, path)
        where = str(self.file) if place is None else f"{self.file}:{place[0]}:{place[1]}"
        return ConfigError(f"{where}: {path}: {message}")

    def text(self, key: str, default: str = _REQUIRED) -> str:
        """A text that is not empty (unless the default is)."""
        value = self._get(key, default, str)
        if not isinstance(value, str):
            raise self.fail(key, f"must be a text, not {_shown(value)}")
        if not value and value != default:
            raise self.fail(key, "must not be empty")
        return value

    def identity(self, key: str, default: str = _REQUIRED) -> str:
        """An id of a node, gateway, fleet or site."""
        value = self.text(key, default)
        if not valid_id(value):
            raise self.fail(key, f"{value!r} cannot be an id: use at most 32 of a-z, 0-9 and '-', not '-' first")
        return value

    def choice(self, key: str, options: Sequence[str], default: str = _REQUIRED) -> str:
        """One of `options`."""
        value = self.text(key, default)
        if value not in options:
            raise self.fail(key, f"must be one of {', '.join(options)}, not {value!r}")
        return value

    def integer(self, key: str, low: int, high: int, default: int = _REQUIRED) -> int:
        """An integer from `low` to `high`."""
        value = self._get(key, default, int)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.fail(key, f"must be an integer, not {_shown(value)}")
        if not low <= value <= high and value != default:
            raise self.fail(key, f"must be from {low} to {high}, not {value}")
        return value

    def optional_integer(self, key: str, low: int, high: int) -> int | None:
        """An integer from `low` to `high`, or None when the key is absent."""
        return self.integer(key, low, high) if self.has(key) else None

    def integers(self, key: str, count: int) -> list[int]:
        """A list of `count` integers."""
        value = self._get(key, _REQUIRED, str)
        if not isinstance(value, list) or len(value) != count or any(type(each) is not int for each in value):
            raise self.fail(key, f"must be {count} integers in brackets, not {_shown(value)}")
        return value

    def boolean(self, key: str, default: bool = _REQUIRED) -> bool:
        """true or false."""
        value = self._get(key, default, _truth)
        if not isinstance(value, bool):
            raise self.fail(key, f"must be true or false, not {_shown(value)}")
        return value

    def texts(self, key: str, default: Sequence[str] = _REQUIRED) -> tuple[str, ...]:
        """An array of texts; from outside, with commas between."""
        value = self._get(key, default, lambda text: [part.strip() for part in text.split(",")])
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) and each for each in value):
            raise self.fail(key, f"must be an array of texts, not {_shown(value)}")
        return tuple(value)

    def path(self, key: str, default: str = _REQUIRED) -> Path:
        """A path; a relative one counts from the configuration file's directory, or from here when overridden."""
        value = Path(self.text(key, default)).expanduser()
        return value if self._path(key) in self._overrides else self.file.parent / value

    def key_file(self, key: str) -> bytes:
        """The 256-bit key in the file that `key` names."""
        path = self.path(key)
        try:
            return read_key_file(path)
        except ValueError as error:
            raise self.fail(key, str(error)) from None

    def table(self, key: str) -> "Table":
        """A table in this one; empty when absent."""
        self._known.add(key)
        value = self._data.get(key, {})
        if not isinstance(value, dict):
            raise self.fail(key, f"must be a table, [{self._path(key)}], not {_shown(value)}")
        return Table(self.file, value, self._path(key), self._overrides, self._text)

    def tables(self, key: str) -> list["Table"]:
        """An array of tables; empty when absent."""
        self._known.add(key)
        value = self._data.get(key, [])
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise self.fail(key, f"must be an array of tables, [[{self._path(key)}]]")
        names = [f"{self._path(key)}[{index}]" for index in range(len(value))]
        return [Table(self.file, each, name, text=self._text) for name, each in zip(names, value, strict=True)]

    def raw(self, key: str) -> dict[str, Any]:
        """A table that another module checks."""
        self._known.add(key)
        value = self._data.get(key)
        if not isinstance(value, dict):
            raise self.fail(key, "is missing" if value is None else f"must be a table, not {_shown(value)}")
        return value

    def has(self, key: str) -> bool:
        """Whether the key is given at all."""
        self._known.add(key)
        return key in self._data or self._path(key) in self._overrides

    def finish(self) -> None:
        """Refuse the first key that no getter asked for."""
        for key in self._data:
            if key not in self._known:
                close = difflib.get_close_matches(key, self._known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(self._known))}"
                raise self.fail(key, f"unknown key; {hint}")

    def _get(self, key: str, default: T, parse: Callable[[str], Any]) -> Any:
        self._known.add(key)
        path = self._path(key)
        if path in self._overrides:
            try:
                return parse(self._overrides[path][1])
            except (ValueError, KeyError):
                return self._overrides[path][1]
        value = self._data.get(key, default)
        if value is _REQUIRED:
            raise self.fail(key, "is missing")
        return value

    def _path(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key


def load_toml(file: Path, overrides: Mapping[str, tuple[str, str]] | None = None) -> Table:
    """The root table of a TOML file; raises `ConfigError` when it cannot be read or is not TOML."""
    try:
        text = file.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}:{_place_of(error, text)}: is not TOML: {error}") from None
    return Table(file, data, overrides=overrides, text=text)


def _place_of(error: tomllib.TOMLDecodeError, text: str) -> str:
    found = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
    if found:
        return f"{found[1]}:{found[2]}"
    return f"{text.count(chr(10)) + 1}:{len(text) - text.rfind(chr(10))}"  # "at end of document"


def read_key_file(path: Path) -> bytes:
    """The key in `path`, 64 hexadecimal digits; raises ValueError, which never shows what the file holds."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        text = ""
    if mode & stat.S_IRWXO:
        raise ValueError(f"{path} is open to every user of this machine: chmod 600 {path}")
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"{path} must hold {2 * KEY_BYTES} hexadecimal digits and nothing else")
    return key


def _truth(text: str) -> bool:
    return _TRUTH[text.lower()]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
