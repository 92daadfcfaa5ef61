"""`fleet pki …`: the certificate authority from a terminal. It works on files, whether or not the server runs."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer

T = TypeVar("T")

pki = typer.Typer(
    no_args_is_help=True,
    help="""Certificates for MQTT over TLS: the hub's own, and one a gateway.

    \b
    A gateway's first certificate, without a private key that travels:
        fleet pki init --data DIR --host hub.example.org
        fleet pki token gateway-01 --data DIR        (print a token, bring it to the gateway)
        nanoclaw enrol --config gateway.toml --url https://fleet.example.org --token-file token
    """,
)

Data = Annotated[Path, typer.Option("--data", envvar="CLAWLAND_DATA", help="The server's data directory.")]
Hosts = Annotated[
    list[str] | None,
    typer.Option("--host", help="Name or address by which gateways reach the hub; repeat it for more. Loopback is in."),
]
Gateway = Annotated[str, typer.Argument(help="The gateway's id.", metavar="GATEWAY")]


@pki.command()
def init(data: Data = Path("fleet-data"), host: Hosts = None) -> None:
    """Make the authority, the hub's certificate and the fleet manager's own."""
    from fleet.host.pki.authority import Authority

    authority = Authority(data)
    _try(lambda: authority.init(host or []))
    print(f"certificate authority ready in {authority.directory}; ca.key is its secret: keep a copy offline")


@pki.command()
def issue(
    gateway: Gateway,
    data: Data = Path("fleet-data"),
    out: Annotated[
        Path | None, typer.Option(help="Directory for GATEWAY.pem and ca.crt; the current one by default.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it is valid.")] = 365,
) -> None:
    """Make a key and certificate for a gateway that cannot enrol over HTTPS, to be carried there safely."""
    from fleet.host.pki import certificates, files
    from fleet.host.pki.authority import Authority

    target, key = out or Path(), certificates.new_key()
    authority = Authority(data)
    _try(lambda: files.make_directory(target))
    made = _try(lambda: authority.issue(gateway, key.public_key(), days))
    _try(lambda: files.write(target / f"{gateway}.pem", certificates.pair_pem(key, made), secret=True))
    _try(lambda: files.write(target / "ca.crt", certificates.pem(authority.certificate())))
    end = f"{made.not_valid_after_utc:%Y-%m-%d}"
    print(f"{target / gateway}.pem (key and certificate, a secret) and {target / 'ca.crt'}, until {end}")


@pki.command()
def token(
    gateway: Gateway,
    data: Data = Path("fleet-data"),
    ttl: Annotated[str, typer.Option(help="How long it can be used, as in 90s, 15m, 24h, 7d.")] = "24h",
) -> None:
    """Print a token with which a gateway enrols once; a new one replaces the one before."""
    from fleet.host.pki.authority import Authority
    from fleet.host.pki.enrolment import make_token
    from fleet.host.tokens import TokenError, parse_ttl

    try:
        ttl_s = parse_ttl(ttl)
    except TokenError as error:
        _leave(str(error))
    print(_try(lambda: make_token(Authority(data), gateway, ttl_s)))


@pki.command()
def revoke(gateway: Gateway, data: Data = Path("fleet-data")) -> None:
    """Revoke every certificate of a gateway: the running hub closes its connection within a second."""
    from fleet.host.pki.authority import Authority

    count = _try(lambda: Authority(data).revoke(gateway))
    print(f"{gateway}: {count} certificate{'' if count == 1 else 's'} revoked")


@pki.command()
def renew(data: Data = Path("fleet-data"), host: Hosts = None) -> None:
    """Renew the hub's and the manager's own certificates if they run out soon; with --host the hub's for new names."""
    from fleet.host.pki.authority import Authority

    renewed = _try(lambda: Authority(data).renew_own(host))
    print(f"renewed: {', '.join(renewed)}" if renewed else "nothing runs out soon")


@pki.command("list")
def show(
    data: Data = Path("fleet-data"), as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """List every certificate that was issued, and whether it is valid, expired or revoked."""
    from fleet.host.pki.authority import Authority

    found = _try(lambda: Authority(data).issued())
    rows = [(each.name, each.state, f"{each.not_after:%Y-%m-%dT%H:%M:%SZ}", f"{each.serial:x}") for each in found]
    if as_json:
        names = ("name", "state", "not_after", "serial")
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2))
        return
    for name, state, end, serial in rows:
        print(f"{name:32}  {state:7}  until {end}  {serial}")


def _try(work: Callable[[], T]) -> T:
    from fleet.host.pki.files import PkiError

    try:
        return work()
    except PkiError as error:
        _leave(str(error))


def _leave(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr, flush=True)
    raise SystemExit(2)
