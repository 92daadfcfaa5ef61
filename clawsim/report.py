"""What a person is shown at the end of a run: verdict, story, ledger, expectations."""

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from clawsim.airbook import ALLOWED_US, AirUse
from clawsim.alike import together
from clawsim.expect import FAIL, INVALID, PASS
from clawsim.ledger import Account
from clawsim.scenario.units import instant
from clawsim.story import Line, tell
from clawsim.trace import TraceEvent
from clawsim.verdict import LAGGED, Outcome

STYLES = {PASS: "green", FAIL: "red", INVALID: "yellow", LAGGED: "yellow"}
MOST_LINES = 60
MOST_REASONS = 8
MOST_ON_AIR = 12
LEAST_WIDTH_FOR_RANGES = 70


def show(console: Console, outcome: Outcome, events: list[TraceEvent]) -> None:
    """Print the whole report."""
    console.print()
    _show_story(console, tell(events))
    _show_account(console, outcome.account)
    _show_air(console, outcome.air)
    _show_expectations(console, outcome)
    _show_verdict(console, outcome)


def _show_story(console: Console, lines: list[Line]) -> None:
    console.print(Text("What happened", style="bold"))
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", style="cyan", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for line in lines[:MOST_LINES]:
        style = _style_of(line.kind)
        when = instant(line.first_us)
        if line.last_us - line.first_us >= 1_000_000 and console.width >= LEAST_WIDTH_FOR_RANGES:
            when += f" – {instant(line.last_us)}"
        table.add_row(when, Text(line.sign, style=style), Text(line.text, style=style))
    if len(lines) > MOST_LINES:
        table.add_row("", "", Text(f"… and {len(lines) - MOST_LINES} more; --out DIR keeps them all", style="dim"))
    console.print(table if lines else Text("nothing out of the ordinary", style="dim"))
    console.print()


def _style_of(kind: str) -> str:
    if kind.startswith("fault."):
        return "bold magenta"
    if kind.endswith((".down", ".offline", ".failed", ".expired", ".lost", ".died", ".unknown")):
        return "red"
    if kind.endswith((".up", ".online", ".caught-up", ".joined")):
        return "green"
    return "yellow" if kind in ("alarm.local", "alert.raised", "message.rejected") else ""


def _show_account(console: Console, account: Account) -> None:
    console.print(Text("Every reading", style="bold"))
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right")
    table.add_column()
    table.add_row(f"{account.produced:,}", "produced")
    table.add_row(f"{account.delivered:,}", "delivered: found in the fleet manager's database")
    for where, count in sorted(account.buffered.items()):
        table.add_row(f"{count:,}", f"buffered at {where}")
    for fate, meaning in (
        ("summarised", "summarised by its gateway, as configured"),
        ("suppressed", "suppressed by its gateway, as configured: unchanged"),
    ):
        if count := account.of(fate):
            table.add_row(f"{count:,}", meaning)
    for cause, count in sorted(account.lost.items()):
        table.add_row(Text(f"{count:,}", style="red"), f"lost: {cause}")
    for fate, meaning in (("unaccounted", "unaccounted"), ("phantom", "stored, never produced")):
        count = account.of(fate)
        table.add_row(Text(f"{count:,}", style="red" if count else ""), meaning)
    table.add_row(Text(f"{account.duplicated:,}", style="red" if account.duplicated else ""), "stored twice")
    table.add_row(Text(f"{account.redelivered:,}", style="dim"), Text("copies discarded on the way", style="dim"))
    console.print(table)
    console.print()


def _show_air(console: Console, air: dict[str, AirUse]) -> None:
    """The nodes on the radio, those that use most of what they may first."""
    if not air:
        return
    console.print(Text("On the air", style="bold"))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("node", "SF"):
        table.add_column(name)
    for name in ("frames", "on air", "duty cycle", "heartbeats", "with readings", "not heard"):
        table.add_column(name, justify="right")
    ranked = sorted(air.items(), key=lambda item: (-item[1].worst_hour_us, item[0]))
    for node, use in ranked[:MOST_ON_AIR]:
        style = "red" if use.worst_hour_us > ALLOWED_US else ""
        counts = (f"{use.heartbeats:,}", f"{use.merged:,}", f"{sum(use.lost.values()):,}")
        duty = Text(f"{use.duty_percent:.2f} %", style=style)
        table.add_row(node, str(use.sf), f"{use.frames:,}", f"{use.air_us / 1e6:.1f} s", duty, *counts)
    console.print(table)
    if len(air) > MOST_ON_AIR:
        console.print(Text(f"… and {len(air) - MOST_ON_AIR} more that used less of their hour", style="dim"))
    console.print(Text("duty cycle: the worst hour of the run; 1 % is what the law allows", style="dim"))
    console.print()


def _show_expectations(console: Console, outcome: Outcome) -> None:
    if not outcome.judgements:
        return
    head = Text("Expected, and seen", style="bold")
    if any(" +" in judgement.seen for judgement in outcome.judgements):
        head.append("  (+ counts from what it comes `after`, else from the start)", style="not bold dim")
    console.print(head)
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(overflow="fold", max_width=76)
    table.add_column(overflow="fold")
    for judgement in together(outcome.judgements):
        style = STYLES[judgement.verdict]
        sign = {PASS: "✓", FAIL: "✗", INVALID: "?"}[judgement.verdict]
        table.add_row(
            Text(sign, style=style), Text(judgement.name), Text(judgement.seen, style="dim" if sign == "✓" else style)
        )
    console.print(table)
    console.print()


def _show_verdict(console: Console, outcome: Outcome) -> None:
    verdict = outcome.verdict
    speed = outcome.simulated_s / outcome.wall_s if outcome.wall_s else 0
    head = Text.assemble((verdict, f"bold {STYLES[verdict]}"), f"  {outcome.scenario}, {outcome.world} world")
    head.append(f", {_duration(outcome.simulated_s)} in {_took(outcome.wall_s)} ({speed:,.0f}×)", style="dim")
    body = [head]
    for kind, why in outcome.reasons[:MOST_REASONS]:
        body.append(Text.assemble((f"{kind}: ", STYLES[kind]), why))
    if len(outcome.reasons) > MOST_REASONS:
        body.append(Text(f"… and {len(outcome.reasons) - MOST_REASONS} more", style="dim"))
    body += [Text(remark, style="dim") for remark in outcome.remarks]
    console.print(Panel(Text("\n").join(body), border_style=STYLES[verdict], expand=False))


def _took(wall_s: float) -> str:
    return f"{wall_s * 1000:.0f} ms" if wall_s < 1 else f"{wall_s:.1f} s"


def _duration(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} simulated hours"
    return f"{seconds / 60:.1f} simulated minutes"
