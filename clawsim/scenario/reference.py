"""The tables of docs/scenarios.md that the code knows best. `make docs` puts them in; a test says when they are old."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from clawsim.scenario.metrics import WELL_KNOWN
from clawsim.scenario.vocabulary import ANY, FLEET, HUB, KINDS, WORLD, EventKind

_SPEAKERS = {ANY: "whoever it concerns", WORLD: "the run itself", FLEET: "fleet", HUB: "hub"}


def events_table() -> str:
    """Every kind of event."""
    rows = ((f"`{kind.name}`", kind.meaning, speaker(kind), _fields(kind)) for kind in KINDS.values())
    return _table(("event", "happens when", "said by", "fields"), rows)


def metrics_table() -> str:
    """Every metric that a sensor need not describe."""
    rows = (
        (
            f"`{metric.name}`",
            metric.unit or "–",
            f"{metric.low:g} … {metric.high:g}, in steps of {10**-metric.decimals:g}"
            if metric.kind == "number"
            else {"bool": "true, false", "text": "a text"}[metric.kind],
            "at once" if metric.event else "in the minute's batch",
        )
        for metric in WELL_KNOWN.values()
    )
    return _table(("metric", "unit", "values", "goes up"), rows)


def speaker(kind: EventKind) -> str:
    """Who says events of `kind`."""
    return _SPEAKERS.get(kind.speaker, f"a {kind.speaker}")


def _fields(kind: EventKind) -> str:
    return ", ".join(f"**`{name}`**" if name == kind.about else f"`{name}`" for name in kind.fields) or "–"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


TABLES: dict[str, Callable[[], str]] = {"events": events_table, "metrics": metrics_table}


def renewed(text: str) -> str:
    """`text` with each table between its marks `<!-- NAME -->` and `<!-- end of NAME -->` as it is by now."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"the marks of the table '{name}' are missing")
        text = f"{before}{begin}\n{table()}\n{end}{after}"
    return text


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")
