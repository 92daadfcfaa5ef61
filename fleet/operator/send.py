"""`fleet send`: have a node do something, and say how it went."""

import json
from typing import Annotated, Any

import typer

from fleet.operator.api import PATIENCE_S, Api, ApiError, under
from fleet.operator.reach import Reach
from fleet.operator.show import as_json, ask, moment
from fleet.options import EXIT_USAGE, leave, takes

EXIT_PENDING = 5


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(short_help="Have a node do something, and wait for it.")(send)


@takes(Reach)
def send(
    reach: Reach,
    node: Annotated[str, typer.Argument(help="The node's id.", metavar="NODE")],
    action: Annotated[str, typer.Argument(help="restart, alert, config, identify, …", metavar="ACTION")],
    param: Annotated[
        list[str] | None,
        typer.Option("--param", help="NAME=VALUE, repeated for more; a value that is JSON is taken as such."),
    ] = None,
    timeout: Annotated[float, typer.Option(min=0, max=300, help="Seconds to wait for the node's answer.")] = 30.0,
    ttl: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds until it expires undelivered; 300 unless given.")
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Repeated with the same key, it is the same command.")
    ] = None,
) -> None:
    """Have a node do something, wait for its answer, and say how it went.

    Exit codes: 0 the node did it, 1 it failed, expired or was refused, 2 bad usage, 3 the server cannot be reached,
    4 the token does not allow it, 5 the node has not answered yet: the command waits for it.
    """
    body = {"action": action, "params": _params(param or []), "timeout": timeout}
    if ttl is not None:
        body["ttl"] = ttl
    headers = {"Idempotency-Key": idempotency_key} if idempotency_key else None
    found = ask(reach, "operator", lambda api: _dispatch(api, node, body, headers, timeout + PATIENCE_S))
    if reach.as_json:
        as_json(found)
    else:
        print(_words(found))
    raise SystemExit({"success": 0, "pending": EXIT_PENDING}.get(found["result"], 1))


def _dispatch(
    api: Api, node: str, body: dict[str, Any], headers: dict[str, str] | None, patience_s: float
) -> dict[str, Any]:
    """Also a command that failed or expired is an outcome, in the same form."""
    try:
        path = under("/api/nodes", node, "command")
        answer: dict[str, Any] = api.ask("POST", path, body, patience_s=patience_s, headers=headers)
        return answer
    except ApiError as error:
        if isinstance(error.body, dict) and error.body.get("result") in ("failed", "expired"):
            return {name: error.body.get(name) for name in ("result", "message", "command")}
        raise


def _words(found: dict[str, Any]) -> str:
    command = found["command"]
    who, action = command["target"], command["action"]
    if found["result"] == "success":
        result = f" {json.dumps(command['result'])}" if command.get("result") else ""
        return f"{who}: {action}: {command['status']}{result}"
    if found["result"] == "pending":
        until = moment(command["expires_utc"])
        return f"{who} has not answered yet: {action} is {command['state']}, and valid until {until} ({command['id']})"
    return str(found["message"])


def _params(given: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name:
            leave(EXIT_USAGE, f"--param {each!r}: expected NAME=VALUE")
        if name in found:
            leave(EXIT_USAGE, f"--param {name} is given twice")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
