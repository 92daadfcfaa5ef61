"""From a file to a plan: read, override, validate, resolve. Every mistake of the file is reported at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clawsim.scenario.context import Context
from clawsim.scenario.errors import Mark, Problem, Problems, ScenarioError
from clawsim.scenario.models import Scenario
from clawsim.scenario.names import gather
from clawsim.scenario.overrides import apply
from clawsim.scenario.plan import Plan
from clawsim.scenario.resolve_expect import resolve_expectations
from clawsim.scenario.resolve_fleet import resolve_fleet, resolve_links
from clawsim.scenario.resolve_rules import resolve_rules
from clawsim.scenario.resolve_story import refuse_overlaps, resolve_timeline
from clawsim.scenario.source import YamlMap, read_file
from clawsim.scenario.validate import validate
from firmware.hal.recording import parse_time


def load(path: str | Path, overrides: Sequence[str] = ()) -> Plan:
    """The plan of the scenario file at ``path`` with ``overrides`` (``fleet.nodes.0.count=50``) applied in order.

    Raises :class:`~clawsim.scenario.errors.ScenarioError`, with everything that is wrong and where, and nothing else.
    """
    problems = Problems()
    raw = read_file(Path(path), problems)
    if not isinstance(raw, YamlMap):
        raise ScenarioError([Problem(Mark(str(path)), "a scenario is a mapping: version, name, duration, fleet, …")])
    for override in overrides:
        apply(override, raw, problems)
    names = gather(raw, problems)
    scenario = validate(raw, problems)
    if scenario is None:
        problems.raise_if_any()
        raise AssertionError("a file without a model has problems")
    folder = Path(path).absolute().parent
    plan = _resolve(scenario, str(path), Context(scenario.seed, scenario.duration, folder, names, problems))
    problems.raise_if_any()
    return plan


def _resolve(scenario: Scenario, path: str, context: Context) -> Plan:
    links = resolve_links(scenario, context)
    resolve_fleet(scenario.fleet, links, context)
    timeline = resolve_timeline(scenario, context)
    refuse_overlaps(scenario, timeline, context)
    return Plan(
        name=scenario.name,
        description=scenario.description.strip(),
        source_path=path,
        seed=scenario.seed,
        epoch_utc_ms=_epoch_utc_ms(scenario, context),
        duration_us=_duration_us(scenario, context),
        settle_us=scenario.settle,
        fleet_id=scenario.fleet.id or scenario.name,
        gateways=tuple(context.gateways.values()),
        nodes=tuple(context.nodes.values()),
        rules=tuple(resolve_rules(scenario, context)),
        links=links,
        timeline=tuple(timeline),
        expectations=tuple(resolve_expectations(scenario, context)),
    )


def _duration_us(scenario: Scenario, context: Context) -> int:
    if scenario.duration == 0:
        context.complain(scenario.mark("duration"), "duration: must be longer than 0")
    for key in ("duration", "settle"):
        context.whole_ms(scenario, key, getattr(scenario, key))
    return scenario.duration


def _epoch_utc_ms(scenario: Scenario, context: Context) -> int:
    try:
        epoch_utc_ms = parse_time(scenario.epoch)
    except (ValueError, OverflowError):
        epoch_utc_ms = -1
    if epoch_utc_ms < 0:
        shown = scenario.epoch
        context.complain(scenario.mark("epoch"), f"epoch: '{shown}' is not a time since 1970, as 2026-01-01T00:00:00Z")
    return max(epoch_utc_ms, 0)
