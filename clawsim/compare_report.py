"""`clawsim compare`: what two runs have in common, and what not, for a person to read."""

from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from clawsim.compare import Comparison, compare, what
from clawsim.report import STYLES
from clawsim.scenario.units import instant
from clawsim.tale import Tale, read

EXIT_SAME, EXIT_DIFFERENT = 0, 1
MOST_LINES = 60


def compare_directories(a: Path, b: Path, console: Console) -> int:
    """Compare, print, and return the exit code. Raises :class:`clawsim.tale.BadRun`."""
    found = compare(read(a), read(b))
    show(console, found)
    return EXIT_SAME if found.same else EXIT_DIFFERENT


def show(console: Console, found: Comparison) -> None:
    """Print the whole comparison."""
    _show_runs(console, found)
    if found.differences:
        _show_differences(console, found)
    _show_verdict(console, found)


def _show_runs(console: Console, found: Comparison) -> None:
    table = Table.grid(padding=(0, 2))
    for name, tale in (("A", found.a), ("B", found.b)):
        verdict = str(tale.summary.get("verdict", "?"))
        table.add_row(
            Text(name, style="bold"),
            Text(f"{tale.summary.get('scenario')}, {tale.summary.get('world')} world, seed {tale.summary.get('seed')}"),
            Text(verdict, style=STYLES.get(verdict, "")),
            f"{len(tale.milestones)} milestones",
            _readings(tale),
            Text(str(tale.directory), style="dim"),
        )
    console.print(table)
    console.print()


def _readings(tale: Tale) -> str:
    readings = tale.summary["readings"]
    return f"{readings.get('delivered', '?')} of {readings.get('produced', '?')} readings delivered"


def _show_differences(console: Console, found: Comparison) -> None:
    console.print(Text("What differs", style="bold"))
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    table.add_column("A", justify="right", style="cyan", no_wrap=True)
    table.add_column("B", justify="right", style="cyan", no_wrap=True)
    table.add_column("who", no_wrap=True)
    table.add_column("what", overflow="fold")
    table.add_column("", overflow="fold")
    for each in found.differences[:MOST_LINES]:
        table.add_row(_when(each.a_us), _when(each.b_us), Text(each.who), Text(each.what), Text(each.why, style="red"))
    console.print(table)
    if len(found.differences) > MOST_LINES:
        console.print(Text(f"… and {len(found.differences) - MOST_LINES} more", style="dim"))
    console.print()


def _when(t_us: int | None) -> str:
    return "" if t_us is None else instant(t_us)


def _show_verdict(console: Console, found: Comparison) -> None:
    if found.same:
        head = Text.assemble(("THE SAME STORY", "bold green"), f"  {found.matched} milestones match in kind and order")
    else:
        count = len(found.differences)
        things = "difference" if count == 1 else "differences"
        head = Text.assemble(("DIFFERENT", "bold red"), f"  {count} {things}, {found.matched} milestones match")
    body = [head, *_notes(found)]
    console.print(Panel(Text("\n").join(body), border_style="green" if found.same else "red", expand=False))


def _notes(found: Comparison) -> list[Text]:
    notes = []
    if found.widest is not None:
        share, one, _ = found.widest
        notes.append(
            f"furthest apart: {what(one.event)} of {one.event.who} at {instant(one.t_us)}, by "
            f"{share * one.tolerance_us / 1e6:.1f} s of {one.tolerance_us / 1e6:g} s"
        )
    for key in ("scenario", "seed", "verdict"):
        ours, theirs = found.a.summary.get(key), found.b.summary.get(key)
        if ours != theirs:
            notes.append(f"the {key} is not the same: {ours} and {theirs}")
    return [Text(note, style="dim") for note in notes]
