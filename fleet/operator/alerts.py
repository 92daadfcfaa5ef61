"""`fleet alerts`: what is wrong in the fleet now, what was, and who has seen it."""

from typing import Annotated, Any

import typer

from fleet.operator.api import under
from fleet.operator.reach import Reach
from fleet.operator.show import as_json, ask, moment, table
from fleet.options import takes

app = typer.Typer(no_args_is_help=True, help="Show alerts, and acknowledge them.")

OfNode = Annotated[str | None, typer.Option("--node", help="Only of this node.")]
PATH = "/api/v1/fleet/alerts"
MOST_OPEN = 100_000


@app.command("open")
@takes(Reach)
def show_open(reach: Reach, node: OfNode = None) -> None:
    """Show open alerts, latest first."""
    _show(reach, MOST_OPEN, "no alert is open", state="open", node_id=node)


@app.command()
@takes(Reach)
def history(
    reach: Reach,
    node: OfNode = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 100,
) -> None:
    """Show alerts, also those that are over, latest first."""
    _show(reach, limit, "there was no alert", state="all", node_id=node)


@app.command()
@takes(Reach)
def ack(
    reach: Reach, alerts: Annotated[list[str], typer.Argument(help="Ids, as `open` shows them.", metavar="ALERT…")]
) -> None:
    """Say that you have seen an alert, or several."""
    found = ask(reach, "operator", lambda api: [api.ask("POST", under(PATH, alert, "acknowledge")) for alert in alerts])
    if reach.as_json:
        as_json(found)
        return
    for alert in found:
        print(f"{alert['alert_id']}: acknowledged by {alert['acknowledged_by']}")


def _show(reach: Reach, most: int, nothing: str, **params: Any) -> None:
    found = ask(reach, "viewer", lambda api: list(api.follow(PATH, "alerts", most, **params)))
    if reach.as_json:
        as_json(found)
        return
    rows = [
        (
            alert["alert_id"],
            alert["node_id"],
            alert["rule"],
            alert["severity"],
            alert["state"],
            alert["value"],
            moment(alert["raised_utc"]),
            moment(alert["cleared_utc"]),
            alert["acknowledged_by"],
        )
        for alert in found
    ]
    columns = ("alert", "node", "rule", "severity", "state", "value", "raised", "cleared", "seen by")
    table(columns, rows, nothing)
