"""`fleet status`: what a running server does now."""

from typing import Any

import typer

from fleet.operator.reach import Reach
from fleet.operator.show import as_json, ask, facts, span
from fleet.options import takes

EXIT_TROUBLE = 1
_ORDER = ("online", "offline", "down", "unknown", "critical", "error", "warning", "info")


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(short_help="Show what a running server does now.")(status)


@takes(Reach)
def status(reach: Reach) -> None:
    """Show what a running server does now: connections, nodes, alerts, commands, rates.

    Exit codes: 0 all is well, 1 it runs without its database or its Event Hub, 2 bad usage, 3 it cannot be reached,
    4 the token does not allow it.
    """
    url, found = ask(reach, "viewer", lambda api: (api.url, api.get("/api/v1/fleet/status")))
    if reach.as_json:
        as_json(found)
    else:
        _show(url, found)
    raise SystemExit(EXIT_TROUBLE if found["database"]["failure"] or not (follows(found) or found["hub"]["up"]) else 0)


def follows(found: dict[str, Any]) -> bool:
    """Whether another server leads: the hub is that one's business."""
    return found.get("role") == "follower"


def _show(url: str, found: dict[str, Any]) -> None:
    database, hub, cache = found["database"], found["hub"], found["cache"]
    state = f"FAILS: {database['failure']}" if database["failure"] else "ok"
    if database["transactions_waiting"]:
        state += f", {database['transactions_waiting']} transactions waiting"
    lost = f"NOT CONNECTED{': ' + hub['failure'] if hub['failure'] else ''}"
    connection = "the leader talks to it" if follows(found) else "connected" if hub["up"] else lost
    facts(
        {
            "fleet manager": f"{found['version']} at {url}, up {span(found['uptime_s'])}",
            **_leads(found),
            "database": f"{database['name']}: {state}",
            "Event Hub": f"{hub['address']}: {connection}",
            "latest values": f"in {cache['kind']}{'' if cache['up'] else ', WHICH FAILS: from the database instead'}",
            "gateways": _counts(found["gateways"], "none"),
            "nodes": _counts(found["nodes"], "none"),
            "open alerts": _counts(found["open_alerts"], "none"),
            "commands": f"{found['commands_waiting']} unanswered",
            "dead letters": f"{found['dead_letters']} messages that nobody accepted",
            "per second": ", ".join(f"{rate:g} {name.replace('_', ' ')}" for name, rate in found["per_s"].items()),
        }
    )


def _leads(found: dict[str, Any]) -> dict[str, str]:
    """Said where several servers share a database."""
    leader = found.get("leader")
    if follows(found):
        return {"role": f"follows {leader or 'nobody yet'}"}
    return {"role": f"leads, as {leader}"} if leader else {}


def _counts(counts: dict[str, int], nothing: str) -> str:
    known = sorted(counts, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
    return ", ".join(f"{counts[name]} {name}" for name in known) or nothing
