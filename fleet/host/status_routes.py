"""`GET /api/v1/fleet/status`: what this server does now, on one page. It answers while the database fails, too."""

from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Depends
from starlette.responses import Response

from fleet.host.access import Doorkeeper
from fleet.host.answers import DENIED, answer, done, problem_docs
from fleet.host.latest import MemoryLatest
from fleet.host.readings import utc_text
from fleet.host.stage import Stage
from fleet.host.views import NODE_STATUS

_EXAMPLE = {
    "version": "0.1.0",
    "uptime_s": 3600,
    "role": "leader",
    "nodes": {"online": 480, "down": 20},
    "open_alerts": {"warning": 2},
}


def router(stage: Stage, doors: Doorkeeper) -> APIRouter:
    """The one route."""
    routes = APIRouter(prefix="/api/v1/fleet", tags=["health"])

    @routes.get(
        "/status",
        summary="What this server does now",
        dependencies=[Depends(doors.needs("viewer", database=False))],
        responses=done(200, "counts are by state or severity", _EXAMPLE) | problem_docs(**DENIED),
    )
    async def status() -> Response:
        return answer(_process(stage) | _connections(stage) | _fleet(stage))

    return routes


def _process(stage: Stage) -> dict[str, Any]:
    now_s = stage.now_s()
    return {
        "version": version("clawsim"),
        "started_utc": utc_text(stage.opened_utc_ms),
        "uptime_s": round(now_s - stage.opened_s, 1),
        "role": stage.role,
        "leader": stage.leader,
        "per_s": stage.pace.per_s(now_s),
    }


def _connections(stage: Stage) -> dict[str, Any]:
    runtime = stage.runtime
    hub, writer, latest = runtime.hub, runtime.writer, runtime.latest
    return {
        "hub": {"address": runtime.broker, "up": hub.up, "failure": None if hub.up else hub.last_failure or None},
        "database": {"name": runtime.storage.name, "failure": writer.failing, "transactions_waiting": writer.waiting},
        "cache": {"kind": "memory" if isinstance(latest, MemoryLatest) else "redis", "up": latest.up},
    }


def _fleet(stage: Stage) -> dict[str, Any]:
    core = stage.runtime.core
    opened = (row for row in core.alert_views() if row["state"] == "raised")
    return {
        "nodes": _states(row["doc"] for row in core.registry.nodes.values()),
        "gateways": _states(core.gateway_views()),
        "open_alerts": dict(Counter(str((row.get("doc") or {}).get("severity")) for row in opened)),
        "commands_waiting": core.commands.waiting,
        "dead_letters": len(core.dead_letter_views()),
        "configuration_version": core.config_version,
    }


def _states(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    return dict(Counter(NODE_STATUS.get(str(row.get("state")), "unknown") for row in rows))
