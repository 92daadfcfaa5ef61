"""Rules: expressions parsed, and every name in them found in the fleet."""

from __future__ import annotations

from typing import cast

from clawsim.scenario.context import Context
from clawsim.scenario.errors import did_you_mean
from clawsim.scenario.metrics import WELL_KNOWN
from clawsim.scenario.models import Rule, Scenario
from clawsim.scenario.plan import Json, RulePlan
from fleet.wire.condition import FLEET, MAX_SPAN_MS, Condition, is_per_node, metric_of, subtrees
from fleet.wire.expression import ExpressionError, parse
from fleet.wire.rule import check_clear, check_message, check_rule
from fleet.wire.uplink import Rejected


def resolve_rules(scenario: Scenario, context: Context) -> list[RulePlan]:
    """The rules with their conditions parsed."""
    plans: dict[str, RulePlan] = {}
    for rule in scenario.rules:
        if rule.name in plans:
            context.complain(rule.mark("name"), f"duplicate rule '{rule.name}'")
        plans[rule.name] = _resolve(rule, scenario, context)
    return list(plans.values())


def _resolve(rule: Rule, scenario: Scenario, context: Context) -> RulePlan:
    when = _with_for(rule, _condition(rule, "when", rule.when, scenario, context), context)
    clear = None if rule.clear is None else _condition(rule, "clear", rule.clear, scenario, context)
    plan = RulePlan(
        name=rule.name,
        when=when,
        clear=clear,
        action=rule.action,
        severity=rule.severity,
        when_text=rule.when,
        clear_text=rule.clear,
        message=rule.message,
        cooldown_ms=None if rule.cooldown is None else context.whole_ms(rule, "cooldown", rule.cooldown),
        command=None if rule.command is None else rule.command.model_dump(),
    )
    if when and clear != {}:
        _check(rule, plan, context)
    return plan


def _check(rule: Rule, plan: RulePlan, context: Context) -> None:
    """What the fleet manager would refuse, where it is written."""
    when, clear = cast(Condition, plan.when), cast(Condition, plan.clear)
    for target in rule.command.targets if rule.command else ():
        known = [*context.names.nodes, *context.names.gateways]
        if target not in known:
            context.complain(rule.mark("command"), f"command: unknown id '{target}'{did_you_mean(target, known)}")
    try:
        key = "clear"
        if clear:
            check_clear(when, clear)
        key = "message"
        check_message(rule.message)
        key = "action" if is_per_node(when) or rule.action != "alert" else "when"
        check_rule(plan.record())
    except Rejected as error:
        context.complain(rule.mark(key), str(error))
    except ValueError as error:
        context.complain(rule.mark(key), f"{key}: {error}")


def _with_for(rule: Rule, when: Json, context: Context) -> Json:
    if rule.for_ is None or not when:
        return when
    if "for_ms" in when:
        context.complain(rule.mark("for"), "for: `when` has one of its own")
        return when
    for_ms = context.whole_ms(rule, "for", rule.for_)
    if not 0 < for_ms <= MAX_SPAN_MS:
        context.complain(rule.mark("for"), "for: must be 1 ms to 7 days long")
        return {}
    return {"for_ms": for_ms, "of": when}


def _condition(rule: Rule, key: str, text: str, scenario: Scenario, context: Context) -> Json:
    try:
        tree = parse(text)
    except ExpressionError as error:
        context.complain(rule.mark(key), f"{key}: {error.message} (column {error.column} of '{text}')")
        return {}
    if not context.names.metrics and context.problems:
        return tree  # the sensors are missing or wrong, and that is said
    for part, _ in subtrees(tree):
        wrong = _unknown_metric(part, context) or _unknown_scope(part, scenario, context)
        if wrong:
            context.complain(rule.mark(key), f"{key}: {wrong}")
    return tree


def _unknown_metric(part: Condition, context: Context) -> str | None:
    metric, metrics = metric_of(part), context.names.metrics
    if metric is None:
        return None
    if metric not in metrics:
        return f"no sensor measures '{metric}'{did_you_mean(metric, sorted(metrics))}"
    kind = WELL_KNOWN[metric].kind if metric in WELL_KNOWN else None
    if kind is not None and "metric" in part and not _comparable(kind, part["value"]):
        return f"{metric} is a {kind}, {part['value']!r} is not"
    if kind not in (None, "number") and ("rate" in part or "avg" in part):
        return f"{metric} is a {kind}, only numbers have a rate or a mean"
    return None


def _unknown_scope(part: Condition, scenario: Scenario, context: Context) -> str | None:
    scope = str(part.get("in", FLEET))
    kind, _, name = scope.partition(":")
    known = {
        "node": set(context.names.nodes),
        "site": {gateway.site for gateway in scenario.fleet.gateways},
        "group": {group for nodes in scenario.fleet.nodes for group in nodes.groups},
    }
    if scope == FLEET or name in known[kind]:
        return None
    return f"there is no {kind} '{name}'{did_you_mean(name, sorted(known[kind]))}"


def _comparable(kind: str, value: object) -> bool:
    return {"bool": bool, "text": str}.get(kind) is type(value) or (kind == "number" and type(value) in (int, float))
