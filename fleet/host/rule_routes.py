"""Rules: read by anybody with a token, written by admins; the core checks what they mean.

What is written has the keys of `fleet.wire.rule`, as in an inventory file, so that what was read can be put back.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from fleet.host.access import Doorkeeper
from fleet.host.answers import DENIED, answer, done, problem_docs
from fleet.host.bodies import Id, Whole
from fleet.host.deeds import carry_out
from fleet.host.problems import Problem
from fleet.host.stage import Stage
from fleet.wire.condition import MAX_SPAN_MS
from fleet.wire.expression import ExpressionError, parse
from fleet.wire.rule import ACTIONS, COMMANDS, MAX_MESSAGE_CHARS, MAX_TARGETS, SEVERITIES

MOST_RULES = 1_000
Name = Annotated[str, Path(max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Condition = str | dict[str, Any]


_EXAMPLE: dict[str, Any] = {
    "when": "temp > 30 for 5 min",
    "clear": "temp < 29",
    "action": "both",
    "command": {"action": "identify", "params": {}, "targets": ["sensor-01"]},
    "severity": "critical",
    "message": "{node}: {metric} is {value}",
    "cooldown_ms": 600_000,
}


class RuleCommand(BaseModel):
    """What is sent when an episode begins."""

    model_config = ConfigDict(extra="forbid")

    action: str = Field(pattern=f"^({'|'.join(COMMANDS)})$")
    params: dict[str, Any] = Field(default_factory=dict)
    targets: list[Id] = Field(
        default_factory=list, max_length=MAX_TARGETS, description="nodes; without any, that of the episode"
    )


class Rule(BaseModel):
    """When an alert is raised, when it is cleared, and what follows."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": _EXAMPLE})

    name: str | None = Field(None, max_length=64, description="that of the URL, if given")
    when: Condition = Field(description="as people write it, `temp > 30`, or as its tree")
    clear: Condition | None = Field(None, description="without it, when `when` does not hold any more")
    action: str = Field(
        "notify",
        pattern=f"^({'|'.join(ACTIONS)})$",
        description="alert: people are told and the node's alarm sounds; notify: people are told; "
        "command: one is sent; both: people are told and a command is sent; none: it is recorded",
    )
    command: RuleCommand | None = Field(None, description="of the actions command and both")
    severity: str = Field("warning", pattern=f"^({'|'.join(SEVERITIES)})$")
    message: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_MESSAGE_CHARS,
        description="what people read; {node}, {rule}, {metric}, {value}, {severity} and {site} are filled in",
    )
    cooldown_ms: Whole | None = Field(
        None, ge=0, le=MAX_SPAN_MS, description="after an episode that people were told of, others wait so long"
    )


def router(stage: Stage, doors: Doorkeeper) -> APIRouter:
    """The routes of rules."""
    routes = APIRouter(prefix="/api/v1/fleet", tags=["rules"])
    viewer, admin = [Depends(doors.needs("viewer"))], [Depends(doors.needs("admin"))]
    missing = problem_docs(_404="there is no such rule", **DENIED)
    known = done(200, "changed", {"name": "hot"}) | done(201, "new", {"name": "hot"})

    @routes.get("/rules", summary="Rules in force", dependencies=viewer, responses=problem_docs(**DENIED))
    async def rules() -> Response:
        return answer({"rules": list(stage.runtime.core.alerts.rules.values())})

    @routes.get("/rules/{name}", summary="One rule", dependencies=viewer, responses=missing)
    async def rule(name: Name) -> Response:
        found = stage.runtime.core.alerts.rules.get(name)
        if found is None:
            raise Problem(404, "not_found", f"there is no rule {name!r}")
        return answer(found)

    @routes.put(
        "/rules/{name}",
        summary="Add a rule, or change it; gateways get it at once",
        dependencies=admin,
        responses=known | problem_docs(_409="there are too many rules, or there is no such target", **DENIED),
    )
    async def put_rule(name: Name, rule: Rule) -> Response:
        configuration, rules = stage.runtime.core.configuration, stage.runtime.core.alerts.rules
        if name not in rules and len(rules) >= MOST_RULES:
            raise Problem(409, "conflict", f"there are {MOST_RULES} rules already")
        found = _rule(stage, name, rule)
        new = await carry_out(stage, configuration.put_rule, found)
        return answer(found, 201 if new else 200)

    @routes.delete(
        "/rules/{name}",
        summary="Forget a rule; its open alerts end",
        dependencies=admin,
        status_code=204,
        responses=missing,
    )
    async def drop_rule(name: Name) -> Response:
        await carry_out(stage, stage.runtime.core.configuration.drop_rule, name)
        return Response(status_code=204)

    return routes


def _rule(stage: Stage, name: str, rule: Rule) -> dict[str, Any]:
    """The rule as the core takes it. Raises Problem."""
    if rule.name not in (None, name):
        raise Problem(400, "invalid", f"body.name: {rule.name!r} is not the name of this URL, {name!r}")
    for target in rule.command.targets if rule.command else ():
        if not stage.runtime.core.registry.knows(target):
            raise Problem(409, "conflict", f"body.command.targets: there is no node or gateway {target!r}")
    found = rule.model_dump(exclude_none=True) | {"name": name, "when": _tree("when", rule.when)}
    return found | {"clear": rule.clear and _tree("clear", rule.clear)}


def _tree(place: str, condition: Condition) -> dict[str, Any]:
    """The condition's tree; the core checks that of one that came as such. Raises Problem."""
    if isinstance(condition, dict):
        return condition
    try:
        return parse(condition)
    except ExpressionError as error:
        raise Problem(400, "invalid", f"body.{place}:{error.column}: {error.message}") from None
