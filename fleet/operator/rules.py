"""`fleet rules`: which rules are in force, and changing them from a file."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fleet.operator.api import Api, under
from fleet.operator.reach import Reach
from fleet.operator.show import as_json, ask, facts, span, table
from fleet.options import EXIT_USAGE, leave, takes
from fleet.wire.condition import is_per_node, metrics_of
from fleet.wire.expression import ExpressionError, parse, write

app = typer.Typer(no_args_is_help=True, help="Show, set and check rules.")

Name = Annotated[str, typer.Argument(help="The rule's name.", metavar="NAME")]
PATH = "/api/v1/fleet/rules"
MAX_BYTES = 1024 * 1024


@app.command("list")
@takes(Reach)
def show_all(reach: Reach) -> None:
    """List the rules in force."""
    found = ask(reach, "viewer", lambda api: api.get(PATH)["rules"])
    if reach.as_json:
        as_json(found)
        return
    rows = [
        (rule["name"], _written(rule["when"]), _cleared(rule), rule.get("severity"), rule["action"]) for rule in found
    ]
    table(("rule", "when", "clear", "severity", "action"), rows, "no rules")


@app.command()
@takes(Reach)
def show(reach: Reach, name: Name) -> None:
    """Show one rule."""
    found = ask(reach, "viewer", lambda api: api.get(under(PATH, name)))
    if reach.as_json:
        as_json(found)
    else:
        facts(_told(found))


@app.command("set")
@takes(Reach)
def put(
    reach: Reach,
    file: Annotated[
        Path,
        typer.Argument(help='JSON: a rule, a list, or {"rules": [...]} as in an inventory.', metavar="FILE"),
    ],
) -> None:
    """Add rules from a file, or change those of the same name.

    \b
    {"name": "hot", "when": "temp > 30 for 5 min", "clear": "temp < 29", "action": "notify", "severity": "critical",
     "message": "{node}: {metric} is {value}", "cooldown_ms": 600000}
    """
    rules = _rules_of(file)

    def work(api: Api) -> list[dict[str, Any]]:
        known = {rule["name"] for rule in api.get(PATH)["rules"]}
        return [_put(api, rule, rule["name"] in known) for rule in rules]

    found = ask(reach, "admin", work)
    if reach.as_json:
        as_json(found)


@app.command()
@takes(Reach)
def remove(reach: Reach, name: Name) -> None:
    """Forget a rule; its open alerts end."""
    ask(reach, "admin", lambda api: api.ask("DELETE", under(PATH, name)))
    if reach.as_json:
        as_json({"name": name, "removed": True})
    else:
        print(f"{name} is removed")


@app.command()
def check(
    expression: Annotated[str, typer.Argument(help="As in: temp > 30 for 5 min", metavar="EXPRESSION")],
    tree: Annotated[bool, typer.Option("--json", help="Print the tree that travels.")] = False,
) -> None:
    """Check an expression; needs no server."""
    try:
        found = parse(expression)
    except ExpressionError as error:
        pointer = " " * (len("error: ") + error.column - 1) + "^"
        leave(EXIT_USAGE, f"{expression}\n{pointer} {error.message}")
    except ValueError as error:
        leave(EXIT_USAGE, f"{expression}: {error}")
    if tree:
        as_json(found)
        return
    episodes = "one alert a node" if is_per_node(found) else "one alert for all"
    print(f"{write(found)}\nabout {', '.join(metrics_of(found))}; {episodes}")


def _put(api: Api, rule: dict[str, Any], known: bool) -> dict[str, Any]:
    body = {name: value for name, value in rule.items() if name != "name"}
    answer: dict[str, Any] = api.ask("PUT", under(PATH, rule["name"]), body)
    typer.echo(f"{rule['name']} is {'changed' if known else 'new'}", err=True)  # each as it happens
    return answer


def _rules_of(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(MAX_BYTES))
    except OSError as error:
        leave(EXIT_USAGE, f"{path}: {error.strerror}")
    except json.JSONDecodeError as error:
        leave(EXIT_USAGE, f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}")
    except (UnicodeDecodeError, RecursionError):
        leave(EXIT_USAGE, f"{path}: not JSON in UTF-8")
    if isinstance(found, dict) and "rules" in found:
        found = found["rules"]
    rules = found if isinstance(found, list) else [found]
    for number, rule in enumerate(rules):
        if not isinstance(rule, dict) or not isinstance(rule.get("name"), str) or not rule["name"]:
            leave(EXIT_USAGE, f"{path}: rules.{number}: expected an object with a name")
    return rules


def _told(rule: dict[str, Any]) -> dict[str, Any]:
    """A rule for people: what it lacks is left out."""
    known = {"name": rule["name"], "when": _written(rule["when"]), "clear": _cleared(rule)} | rule
    known |= {"when": _written(rule["when"]), "clear": _cleared(rule)}
    cooldown_ms = known.pop("cooldown_ms", None)
    if cooldown_ms is not None:
        known["cooldown"] = span(cooldown_ms / 1000)
    if known.get("command"):
        known["command"] = json.dumps(known["command"])
    return known


def _cleared(rule: dict[str, Any]) -> str | None:
    return _written(rule["clear"]) if rule.get("clear") else None


def _written(tree: Any) -> str:
    try:
        return write(tree)
    except (KeyError, TypeError, ValueError):  # of a newer server
        return json.dumps(tree)
