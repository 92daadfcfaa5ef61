"""`fleet unit` and `fleet nginx`: what stands around a server for good."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, get_type_hints

import typer

from fleet.cli.serve import ServeOptions
from fleet.options import EXIT_USAGE, env, leave

NO_SECRETS = ("config", "data", "trace")  # paths of a server that need no hiding


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(short_help="Print a systemd unit for the server.")(unit)
    app.command(short_help="Print an nginx configuration for before it.")(nginx)


def unit(
    config: Annotated[Path | None, typer.Option(help="TOML file that the server reads; absolute.")] = None,
    credential: Annotated[
        list[str] | None,
        typer.Option(help="OPTION=FILE, repeated for more: a secret that systemd hands to the server alone."),
    ] = None,
    program: Annotated[Path | None, typer.Option(help="The command fleet; by default this one.")] = None,
) -> None:
    """Print a systemd unit that runs the server under a user of its own, watched and locked in.

    \b
    fleet unit --config /etc/clawland/fleet.toml \\
        --credential database-password-file=/etc/clawland/database-password
    """
    from fleet.deployment.template import DeploymentError
    from fleet.deployment.unit import unit as made

    known = {name.replace("_", "-"): env(name.upper()) for name in _secret_files()}
    try:
        print(made(program or _this_program(), config, credential or [], known), end="")
    except DeploymentError as error:
        leave(EXIT_USAGE, str(error))


def nginx(
    name: Annotated[str, typer.Option(help="The name that people and gateways dial.")],
    certificate: Annotated[Path, typer.Option(help="Its certificate, with the chain, in PEM.")],
    key: Annotated[Path, typer.Option(help="The certificate's key.")],
    upstream: Annotated[
        list[str] | None, typer.Option(help="A server, as HOST:PORT; repeated for more. 127.0.0.1:8080 unless given.")
    ] = None,
    listen: Annotated[
        list[str] | None,
        typer.Option(help="For HTTPS: PORT or ADDRESS:PORT; repeated for more. Else 443."),
    ] = None,
    redirect_from: Annotated[str, typer.Option(help="Port for HTTP, which sends on to HTTPS; none: no such.")] = "80",
    alone: Annotated[
        Path | None, typer.Option(help="A whole configuration, which keeps its files in this directory.", metavar="DIR")
    ] = None,
) -> None:
    """Print an nginx configuration: TLS, who calls, limits, events without delay, and no metrics for the public.

    \b
    fleet nginx --name fleet.example.org --certificate /etc/ssl/fleet.pem --key /etc/ssl/private/fleet.key
    """
    from fleet.deployment.nginx import Site, nginx_alone, nginx_site
    from fleet.deployment.template import DeploymentError

    servers = tuple(upstream or ["127.0.0.1:8080"])
    plain = None if redirect_from == "none" else redirect_from
    site = Site(name, certificate, key, servers, tuple(listen or ["443"]), plain)
    try:
        print(nginx_site(site) if alone is None else nginx_alone(site, alone), end="")
    except DeploymentError as error:
        leave(EXIT_USAGE, str(error))


def _secret_files() -> list[str]:
    """The server's options that name a file with secrets."""
    hints = get_type_hints(ServeOptions)
    names = [field.name for field in dataclasses.fields(ServeOptions)]
    return [name for name in names if hints[name] in (Path, Path | None) and name not in NO_SECRETS]


def _this_program() -> Path:
    beside = Path(sys.executable).with_name("fleet")
    return beside if beside.exists() else Path(sys.argv[0]).absolute()
