"""Rules: read by anybody with a token, written by admins; the core checks what they mean."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from fleet.host.access import Doorkeeper
from fleet.host.answers import DENIED, answer, done, problem_docs
from fleet.host.deeds import carry_out
from fleet.host.problems import Problem
from fleet.host.stage import Stage
from fleet.wire.expression import ExpressionError, parse

MOST_RULES = 1_000
Name = Annotated[str, Path(max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Condition = str | dict[str, Any]


class Rule(BaseModel):
    """When an alert is raised, when it is cleared, and what follows."""

    model_config = ConfigDict(extra="forbid")

    when: Condition = Field(description="as people write it, `temp > 30`, or as its tree")
    clear: Condition | None = Field(None, description="without it, when `when` does not hold any more")
    action: str = Field("notify", pattern="^(alert|notify|none)$")
    severity: str = Field("warning", pattern="^(info|warning|error|critical)$")


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
        responses=known | problem_docs(_409="there are too many rules", **DENIED),
    )
    async def put_rule(name: Name, rule: Rule) -> Response:
        configuration, rules = stage.runtime.core.configuration, stage.runtime.core.alerts.rules
        if name not in rules and len(rules) >= MOST_RULES:
            raise Problem(409, "conflict", f"there are {MOST_RULES} rules already")
        found = rule.model_dump() | {"name": name, "when": _tree("when", rule.when)}
        found["clear"] = rule.clear and _tree("clear", rule.clear)
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


def _tree(place: str, condition: Condition) -> dict[str, Any]:
    """The condition's tree; the core checks that of one that came as such. Raises Problem."""
    if isinstance(condition, dict):
        return condition
    try:
        return parse(condition)
    except ExpressionError as error:
        raise Problem(400, "invalid", f"body.{place}:{error.column}: {error.message}") from None
