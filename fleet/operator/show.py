"""Answers on a terminal: tables by rich for people, plain columns into a pipe, JSON for machines."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fleet.operator.api import Api, ApiError
from fleet.operator.reach import Reach, connect
from fleet.options import leave

ENDLESS = 10_000  # columns of a pipe: nothing is cut off
NOTHING = "–"
_STYLES = {
    "online": "green",
    "down": "red",
    "unknown": "yellow",
    "offline": "dim",
    "open": "red",
    "critical": "red",
    "error": "red",
    "warning": "yellow",
    "failed": "red",
    "acknowledged": "green",
}

T = TypeVar("T")


def ask(reach: Reach, role: str, work: Callable[[Api], T]) -> T:
    """What `work` gives; ends the command with the error's line and code when it fails."""
    with connect(reach, role) as api:
        try:
            return work(api)
        except ApiError as error:
            leave(error.code, str(error))


def as_json(found: Any) -> None:
    """One JSON text, indented."""
    print(json.dumps(found, indent=2, ensure_ascii=False))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], nothing: str) -> None:
    """Rows under headings; `nothing` is said when there are none."""
    shown = Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for row in rows:
        shown.add_row(*(text(cell) for cell in row))
    _print(shown if shown.row_count else nothing)


def facts(found: Mapping[str, object]) -> None:
    """Names and values, one a line."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    for name, value in found.items():
        grid.add_row(Text(name, style="bold"), text(value))
    _print(grid)


def text(value: object) -> Text:
    """A value as one line that does nothing to a terminal, whoever made it up."""
    if value is None or value == "":
        return Text(NOTHING, style="dim")
    said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if not said.isprintable():
        said = "".join(each if each.isprintable() else repr(each)[1:-1] for each in said)
    return Text(said, style=_STYLES.get(said, ""))


def span(seconds: float) -> str:
    """A duration in two units at most: `2 h 5 min`."""
    left, parts = int(seconds), []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts[:2]) or "0 s"


def moment(utc: object) -> str | None:
    """An ISO time as people read it, to the second."""
    return None if utc is None else str(utc).replace("T", " ").partition(".")[0].removesuffix("Z") + "Z"


def _print(shown: Table | str) -> None:
    if sys.stdout.isatty():
        Console(highlight=False).print(shown)
        return
    console = Console(width=ENDLESS, highlight=False, color_system=None)
    with console.capture() as capture:
        console.print(shown)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))
