"""`python -m tests.planted`: plants every bug, and shows which check caught it."""

import re
import sys

from rich.console import Console
from rich.table import Table

from tests.planted.catalogue import BUGS, Bug, plant
from tests.planted.gateways import GATEWAY_BUGS, GatewayBug, failed_with
from tests.planted.live import LIVE_BUGS, LiveBug, run_disturbed
from tests.planted.managers import caught_overtaken
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


def caught_live(bug: LiveBug) -> tuple[str, str]:
    """The same in the live world, for a bug in the world itself."""
    outcome = run_disturbed(bug.world)
    if run_disturbed().verdict != "PASS":
        return "the run fails without the bug too", "NOT CAUGHT"
    if outcome.verdict != "INVALID" or ("INVALID", bug.caught_by) not in outcome.reasons:
        return "; ".join(why for _, why in outcome.reasons) or "nothing", "NOT CAUGHT"
    return bug.caught_by, outcome.verdict


def caught_by_the_machine(bug: GatewayBug) -> tuple[str, str]:
    """The invariant that failed (or the functions in which the machine ended), and the verdict."""
    failed = failed_with(bug.core)
    if bug.caught_by in failed:
        return bug.caught_by.replace("_", " "), "FAIL"
    return failed[-1] if failed else "nothing", "NOT CAUGHT"


def main() -> int:
    """0 when every bug was caught by its own check, 1 otherwise."""
    table = Table(title="Planted bugs: each by itself, and what caught it", title_justify="left")
    for heading in ("bug", "caught by", "verdict"):
        table.add_column(heading, no_wrap=heading == "verdict")
    missed = 0
    found = [(bug.name, *caught(bug)) for bug in BUGS]
    found += [(f"{bug.name} (live)", *caught_live(bug)) for bug in LIVE_BUGS]
    found += [(f"{bug.name} (any order of events)", *caught_by_the_machine(bug)) for bug in GATEWAY_BUGS]
    found.append(("a fleet manager that commits without asking whether it still leads", *caught_overtaken()))
    for name, why, verdict in found:
        missed += verdict == "NOT CAUGHT"
        table.add_row(name, why, f"[red]{verdict}[/]" if verdict == "NOT CAUGHT" else f"[green]{verdict}[/]")
    console = Console()
    console.print(table)
    console.print(f"{len(found) - missed} of {len(found)} caught; each scenario passes without its bug.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
