"""`fleet`: the fleet manager, its Event Hub, and what an operator does with both from a terminal."""

from typing import Annotated

import typer

from firmware.hosting.program import version_option
from fleet.cli import around, hub, serve, upkeep
from fleet.host.key_commands import keys
from fleet.host.pki.commands import pki
from fleet.operator import alerts, nodes, rules, send, status

app = typer.Typer(
    name="fleet",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="""The cloud tier of a Clawland fleet: registry, readings, rules, alerts, commands.

    \b
    A first server, with its own Event Hub:
        fleet serve --data ./fleet-data --inventory fleet.json
        fleet token --data ./fleet-data --role operator --for alice
        curl -H "Authorization: Bearer TOKEN" http://127.0.0.1:8080/api/v1/fleet/nodes

    \b
    The same from a terminal, there (with the server's directory) and elsewhere (with a token in a file):
        fleet status --data ./fleet-data
        fleet nodes list --url https://fleet.example.org --token-file token

    Every flag can also be set as CLAWLAND_NAME in the environment or in a TOML file (--config); flags come first, then
    the environment, then the file. Secrets are given as files, never on the command line.

    Exit codes: 0 done, or stopped as asked; 1 failed while running, or the server said no; 2 bad usage or
    configuration; 3 something is missing, taken or out of reach (a port, a data directory, a server); 4 the token does
    not allow it; 5 a node has not answered yet.
    """,
)

serve.add_to(app)
upkeep.add_to(app)
status.add_to(app)
app.add_typer(nodes.app, name="nodes")
send.add_to(app)
app.add_typer(alerts.app, name="alerts")
app.add_typer(rules.app, name="rules")
app.add_typer(hub.app, name="hub", short_help="Run the Event Hub alone, or examine one.")
app.add_typer(pki, name="pki", short_help="Certificates for MQTT over TLS.")
app.add_typer(keys, name="keys", short_help="Keys of sensitive values at rest.")
around.add_to(app)


@app.callback()
def fleet(
    _: Annotated[bool, version_option("fleet")] = False,
) -> None:
    pass


def main() -> None:
    """The console command."""
    app()
