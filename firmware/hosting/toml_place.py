"""Where in a TOML text a key is, so that a mistake in it can be told by line and column; tomllib does not say.

The text must be TOML already. Of an array of tables each is counted, as in `sensors[1].metric`.
"""

import re

_HEADER = re.compile(r"\s*\[(\[?)\s*([^\[\]]+?)\s*\]")
_KEY = re.compile(r"""(\s*)((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_LONG = re.compile(r'"""|\'\'\'')


def line_and_column(text: str, path: str) -> tuple[int, int] | None:
    """Of the key or table that `path` names, or of the nearest table around it; both count from 1."""
    places = _places(text)
    while path and path not in places:
        path = path.rpartition(".")[0]
    return places.get(path)


def _places(text: str) -> dict[str, tuple[int, int]]:
    places: dict[str, tuple[int, int]] = {}
    table, counts = "", dict[str, int]()
    for number, line in _outside_long_texts(text):
        if header := _HEADER.match(line):
            table = _plain(header[2])
            if header[1]:
                counts[table] = counts.get(table, -1) + 1
                table = f"{table}[{counts[table]}]"
            places.setdefault(table, (number, line.index("[") + 1))
        elif key := _KEY.match(line):
            name = _plain(key[2])
            places.setdefault(f"{table}.{name}" if table else name, (number, len(key[1]) + 1))
    return places


def _outside_long_texts(text: str) -> list[tuple[int, str]]:
    """The numbered lines that do not begin inside a text of several lines."""
    found, inside = [], ""
    for number, line in enumerate(text.splitlines(), 1):
        if not inside:
            found.append((number, line))
        for mark in _LONG.findall(line):
            inside = "" if inside == mark else inside or mark
    return found


def _plain(dotted: str) -> str:
    """A dotted key without its quotes and spaces."""
    return ".".join(part.strip().strip("\"'") for part in dotted.split("."))
