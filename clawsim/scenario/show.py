"""What ``clawsim check`` prints: the fleet, and the timeline with everything that is expected of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from clawsim.scenario.errors import listed
from clawsim.scenario.plan import (
    Action,
    CallAction,
    CallExpectation,
    EventExpectation,
    Expectation,
    FaultAction,
    GatewayPlan,
    NodePlan,
    Plan,
    RulePlan,
    SensorPlan,
)
from clawsim.scenario.recordings import replayed
from clawsim.scenario.reference import speaker
from clawsim.scenario.units import clock, spoken
from clawsim.scenario.vocabulary import KINDS
from fleet.wire.condition import Condition
from fleet.wire.expression import write


@dataclass(frozen=True, slots=True)
class _Line:
    at_us: int
    rank: int
    when: str
    what: str
    style: str


def show(plan: Plan, console: Console) -> None:
    """Print ``plan`` on ``console``, which should have markup off: texts of the file are shown as they are."""
    console.print(Text(f"{plan.name}: a valid scenario", style="bold green"))
    if plan.description:
        console.print(plan.description)
    start = datetime.fromtimestamp(plan.epoch_utc_ms / 1000, UTC).isoformat().replace("+00:00", "Z")
    console.print(
        f"runs {spoken(plan.duration_us)}, then at most {spoken(plan.settle_us)} until its buffers are empty; "
        f"seed {plan.seed}; instant 0 is {start}",
        style="dim",
    )
    _section(console, f"Fleet {plan.fleet_id}", _fleet(plan))
    recordings = list(_recordings(plan))
    if recordings:
        _section(console, "Recordings", _bullets(recordings))
    if plan.rules:
        _section(console, "Rules", _rules(plan))
    _section(console, "Timeline", _timeline(plan))
    whenever = [expectation for expectation in plan.expectations if _deadline_us(expectation, plan) is None]
    if whenever:
        _section(console, "Expected whenever it comes, or at the end", _bullets(_grouped(whenever)))


def show_events(console: Console) -> None:
    """Print every kind of event; the field that tells whom it is about comes first."""
    table = _table("event", "happens when", "said by", "fields")
    for kind in KINDS.values():
        fields = sorted(kind.fields, key=lambda name: name != kind.about)
        table.add_row(kind.name, kind.meaning, speaker(kind), ", ".join(fields))
    console.print(table)


def _section(console: Console, title: str, body: RenderableType) -> None:
    console.print()
    console.print(Text(title, style="bold"))
    console.print(body)


def _fleet(plan: Plan) -> Table:
    table = _table("gateway", "site", "nodes")
    for gateway in plan.gateways:
        groups = _groups([node for node in plan.nodes if node.gateway == gateway.id])
        role = "" if gateway.role == "primary" else f" ({gateway.role})"
        modes = "".join(f"\n{metric} goes up as {mode}" for metric, mode in gateway.modes)
        modes += "" if gateway.failback == "never" else f"\nsends nodes home: {_failback(gateway)}"
        table.add_row(
            gateway.id + role + _uplinks(gateway) + modes, gateway.site, "\n".join(groups) or "none at home here"
        )
    return table


def _failback(gateway: GatewayPlan) -> str:
    if gateway.failback == "idle":
        return f"when idle, and home is up for {gateway.failback_hold_ms / 60_000:g} min"
    up_ms = max(gateway.failback_after_ms, gateway.failback_hold_ms)
    return f"when home is up for {up_ms / 60_000:g} min"


def _uplinks(gateway: GatewayPlan) -> str:
    """What is unusual about them: a budget, and a second one."""
    text = _budget("its uplink", gateway.daily_bytes)
    if gateway.backup:
        text += f"\nbackup {gateway.backup.name}" + _budget("", gateway.backup.daily_bytes).replace("\n", " ")
    return text


def _budget(what: str, daily_bytes: int | None) -> str:
    return "" if daily_bytes is None else f"\n{what} at most {daily_bytes // 1_000_000} MB a day".replace("  ", " ")


def _groups(nodes: Sequence[NodePlan]) -> list[str]:
    """One line for the nodes that differ in nothing but their ids, instants of power-on and noise."""
    found: dict[str, list[NodePlan]] = {}
    for node in nodes:
        sensors = ", ".join(_sensor(sensor) for sensor in node.sensors)
        radio = "" if node.sf is None else f" at SF{node.sf}, {node.distance_m:,} m away"
        found.setdefault(f"{node.type} over {node.link}{radio}: {sensors}", []).append(node)
    return [f"{_ids([node.id for node in group])}, {what}{_power_on(group)}" for what, group in found.items()]


def _ids(ids: Sequence[str]) -> str:
    return ids[0] if len(ids) == 1 else f"{len(ids)} × {ids[0]} … {ids[-1]}"


def _sensor(sensor: SensorPlan) -> str:
    noise = " + noise" if "noise" in sensor.signal else ""
    how = f"every {spoken(sensor.every_ms * 1000)}" if sensor.every_ms is not None else "at its own instants"
    sealed = ", sealed" if sensor.sealed else ""
    return f"{sensor.metric} {how}{sealed} ({sensor.signal['kind']}{noise})"


def _recordings(plan: Plan) -> Iterator[str]:
    """Each recording once, with who replays it and when its rows happen."""
    users: dict[str, list[str]] = {}
    for node in plan.nodes:
        for sensor in node.sensors:
            if sensor.signal["kind"] == "recording":
                name = f"{Path(sensor.signal['path']).name}, column {sensor.signal['column']}"
                when = replayed(sensor.signal, plan.epoch_utc_ms)
                users.setdefault(f"{name}: {when}", []).append(node.id)
    for what, ids in users.items():
        yield f"{_ids(ids)}: {what}"


def _power_on(nodes: Sequence[NodePlan]) -> str:
    first_us, last_us = min(node.power_on_us for node in nodes), max(node.power_on_us for node in nodes)
    if last_us == 0:
        return ""
    return f", on at {clock(first_us)}" if first_us == last_us else f", on from {clock(first_us)} to {clock(last_us)}"


def _begins(rule: RulePlan) -> str:
    """With what the rule's own `for` adds to the text of `when`."""
    return write(cast(Condition, dict(rule.when))) if "for_ms" in rule.when else rule.when_text


def _rules(plan: Plan) -> Table:
    table = _table("rule", "begins", "ends", "action")
    for rule in plan.rules:
        ends = rule.clear_text or f"not {rule.when_text}"
        table.add_row(rule.name, _begins(rule), ends, f"{rule.action}, {rule.severity}")
    return table


def _timeline(plan: Plan) -> Table:
    table = _table("at", "what")
    for line in sorted(_lines(plan), key=lambda line: (line.at_us, line.rank)):
        table.add_row(line.when, Text(line.what, style=line.style))
    return table


def _lines(plan: Plan) -> Iterator[_Line]:
    yield _Line(0, 0, clock(0), "start", "dim")
    for action in plan.timeline:
        yield _Line(action.at_us, 1, clock(action.at_us), _action(action), "yellow")
        if isinstance(action, FaultAction):
            end_us = _end_us(action, plan)
            yield _Line(end_us, 2, clock(end_us), f"{action.name} clears", "green")
    for at_us, what in _dated(plan):
        yield _Line(at_us, 3, f"by {clock(at_us)}", f"expected: {what}", "cyan")
    yield _Line(plan.duration_us, 4, clock(plan.duration_us), "sampling stops, every fault clears", "dim")
    end_us = plan.duration_us + plan.settle_us
    yield _Line(end_us, 5, f"by {clock(end_us)}", "end, sooner when every buffer is empty", "dim")


def _dated(plan: Plan) -> list[tuple[int, str]]:
    found: dict[int, list[Expectation]] = {}
    for expectation in plan.expectations:
        deadline_us = _deadline_us(expectation, plan)
        if deadline_us is not None:
            found.setdefault(deadline_us, []).append(expectation)
    return [(at_us, what) for at_us, group in found.items() for what in _grouped(group)]


def _action(action: Action) -> str:
    if isinstance(action, FaultAction):
        lasting = f" for {spoken(action.for_us)}" if action.for_us is not None else " for the rest of the run"
        degree = f" by {spoken(action.add_us)}" if action.add_us else f" of {action.rate:.0%}" if action.rate else ""
        return f"{action.name}: {action.kind}{degree} {action.on}{lasting}"
    if isinstance(action, CallAction):
        return f"{action.name}: {action.method} {action.path} as {action.as_role}"
    return f"{action.name}: {action.as_id} publishes {len(action.payload)} bytes to {action.topic} on {action.broker}"


def _end_us(action: FaultAction, plan: Plan) -> int:
    return plan.duration_us if action.for_us is None else min(action.at_us + action.for_us, plan.duration_us)


def _deadline_us(expectation: Expectation, plan: Plan) -> int | None:
    """When the expectation will be decided at the latest, where the file alone tells."""
    if isinstance(expectation, EventExpectation) and expectation.within_us is not None:
        start_us = _anchor_us(expectation, plan)
        return None if start_us is None else start_us + expectation.within_us
    if isinstance(expectation, CallExpectation) and expectation.within_us is not None:
        return _named(expectation.of, plan).at_us + expectation.within_us
    if isinstance(expectation, EventExpectation) and expectation.during:
        fault = _named(expectation.during, plan)
        return _end_us(fault, plan) if isinstance(fault, FaultAction) else None
    return None


def _anchor_us(expectation: EventExpectation, plan: Plan) -> int | None:
    if expectation.after is None:
        return 0
    if expectation.after.of is None:
        return None
    action = _named(expectation.after.of, plan)
    if expectation.after.kind == "fault.cleared" and isinstance(action, FaultAction):
        return _end_us(action, plan)
    return None if expectation.after.kind == "call.answered" else action.at_us


def _named(name: str, plan: Plan) -> Action:
    return next(action for action in plan.timeline if action.name == name)


def _grouped(expectations: Sequence[Expectation]) -> list[str]:
    """Their names; those that differ in nothing but one id are one line."""
    found: dict[str, list[tuple[str, str]]] = {}
    for expectation in expectations:
        whom = _subject(expectation)
        pattern = expectation.name.replace(whom, "\0") if whom else expectation.name
        found.setdefault(pattern, []).append((whom, expectation.name))
    return [_one_for_all(pattern, group) for pattern, group in found.items()]


def _one_for_all(pattern: str, group: list[tuple[str, str]]) -> str:
    if len(group) == 1:
        return group[0][1]
    everyone = f"each of {listed((whom for whom, _ in group), 5)}"
    return pattern.replace("\0", everyone, 1).replace("\0", "the same")


def _subject(expectation: Expectation) -> str:
    if not isinstance(expectation, EventExpectation):
        return ""
    about = [expectation.where[key] for key in ("node", "target") if key in expectation.where]
    return expectation.who or (str(about[0]) if about else "")


def _bullets(lines: Sequence[str]) -> Table:
    table = _table("", "")
    for line in lines:
        table.add_row("•", Text(line, style="cyan"))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, show_header=any(columns), header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
