"""The ASGI application: routes put together, with what every request passes and every error becomes."""

import contextlib
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

from fleet.host import (
    account_routes,
    agent_routes,
    alert_routes,
    audit_routes,
    auth_routes,
    command_routes,
    fleet_routes,
    life_routes,
    maintenance_routes,
    notification_routes,
    place_routes,
    problems,
    rule_routes,
    sensitive_routes,
    status_routes,
    stream_routes,
)
from fleet.host.access import Doorkeeper
from fleet.host.answers import PROBLEM_SCHEMA, answer
from fleet.host.gate import Gate
from fleet.host.limits import Rates
from fleet.host.managers.relay import Relay
from fleet.host.metrics import CONTENT_TYPE, Metrics
from fleet.host.pki import routes as pki_routes
from fleet.host.problems import Problem
from fleet.host.stage import Stage
from fleet.host.storage import StorageError
from fleet.host.turnstile import Turnstile

VERSION = "1"
ROUTERS = (  # tried in this order: what is asked most comes first
    fleet_routes,
    agent_routes,
    command_routes,
    life_routes,
    maintenance_routes,
    notification_routes,
    place_routes,
    rule_routes,
    sensitive_routes,
    alert_routes,
    auth_routes,
    account_routes,
    audit_routes,
    status_routes,
    stream_routes,
)
_ABOUT = (
    "Registry, readings, alerts and commands of a Clawland fleet. Every `/api` route needs a token of `fleet token`."
)


def make_app(stage: Stage, rates: Rates | None = None) -> ASGIApp:
    """The whole HTTP side of one fleet manager."""
    app = FastAPI(title="Clawland Fleet Manager", version=VERSION, description=_ABOUT, redoc_url=None)
    doors, metrics = Doorkeeper(stage), Metrics(stage)
    for concern in ROUTERS:
        app.include_router(concern.router(stage, doors))
    app.include_router(pki_routes.router(stage))
    _add_health(app, stage, metrics)
    problems.install(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    stage.entrance = Turnstile(Relay(app, stage), stage, rates or Rates())
    return Gate(stage.entrance, metrics.observe)


def _add_health(app: FastAPI, stage: Stage, metrics: Metrics) -> None:
    @app.get("/healthz", tags=["health"], summary="The process runs")
    async def healthz() -> Response:
        return answer({"status": "ok"})

    @app.get("/readyz", tags=["health"], summary="Requests and batches are taken: the database and the hub work")
    async def readyz() -> Response:
        checks = await _checks(stage)
        role = {"role": stage.role, "leader": stage.leader} if stage.leader or stage.outbox else {}
        broken = [f"{name}: {state}" for name, state in checks.items() if state != "ok"]
        if broken:
            raise Problem(503, "unavailable", "; ".join(broken), headers={"Retry-After": "2"}, checks=checks, **role)
        return answer({"status": "ok", "checks": checks} | role)

    @app.get(
        "/metrics",
        tags=["health"],
        summary="Prometheus metrics",
        response_class=PlainTextResponse,
        responses={200: {"description": "text format 0.0.4"}},
    )
    async def scrape() -> Response:
        return Response(metrics.render(), media_type=CONTENT_TYPE)


async def _checks(stage: Stage) -> dict[str, str]:
    """What a server needs to be of use, by name: `ok`, or what is wrong."""
    if not stage.is_open:
        return {"manager": "about to lead or to follow"}
    runtime = stage.runtime
    with contextlib.suppress(StorageError):  # a follower then says why
        await runtime.current()
    checks = {"database": runtime.writer.failing or "ok"}
    if runtime.leads:
        checks["hub"] = "ok" if runtime.hub.up else "not connected"
    if stage.key_trouble is not None:
        checks["keys"] = stage.key_trouble
    if runtime.term is not None and not runtime.term.certain:
        checks["leadership"] = runtime.term.over or "not confirmed by the database"
    return checks


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        components = schema.setdefault("components", {}).setdefault("schemas", {})
        components["Problem"] = PROBLEM_SCHEMA
        for path in schema["paths"].values():  # ours answer 400 where the framework would say 422
            for operation in path.values():
                _own_validation(operation["responses"])
        app.openapi_schema = schema
    return app.openapi_schema


def _own_validation(responses: dict[str, Any]) -> None:
    generated = responses.get("422", {}).get("content", {}).get("application/json", {}).get("schema", {})
    if generated.get("$ref", "").endswith("/HTTPValidationError"):
        content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
        responses.setdefault("400", {"description": "bad parameter", "content": content})
        del responses["422"]
