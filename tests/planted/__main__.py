"""`python -m tests.planted`: plants every bug, and shows which check caught it."""

import re
import sys

from rich.console import Console
from rich.table import Table

from tests.planted.catalogue import BUGS, Bug, plant
from tests.virtual.scenes import run


def caught(bug: Bug) -> tuple[str, str]:
    """The reason that names the bug's check (or what was said instead), and the verdict."""
    outcome = plant(bug).outcome
    reasons = [why for _, why in outcome.reasons]
    fitting = [why for why in reasons if re.match(bug.caught_by, why)]
    if run(bug.plan()).outcome.verdict != "PASS":
        return "the run fails without the bug too", "NOT CAUGHT"
    if not fitting or outcome.verdict != bug.verdict:
        return "; ".join(reasons) or "nothing", "NOT CAUGHT"
    return fitting[0], outcome.verdict


def main() -> int:
    """0 when every bug was caught by its own check, 1 otherwise."""
    table = Table(title="Planted bugs: each by itself, and what caught it", title_justify="left")
    for heading in ("bug", "caught by", "verdict"):
        table.add_column(heading, no_wrap=heading == "verdict")
    missed = 0
    for bug in BUGS:
        why, verdict = caught(bug)
        missed += verdict == "NOT CAUGHT"
        table.add_row(bug.name, why, f"[red]{verdict}[/]" if verdict == "NOT CAUGHT" else f"[green]{verdict}[/]")
    console = Console()
    console.print(table)
    console.print(f"{len(BUGS) - missed} of {len(BUGS)} caught; each scenario passes without its bug.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
