"""How a command reaches the server: the options for it, and whose token it shows."""

import getpass
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import httpx
import typer

from fleet.operator.api import Api
from fleet.options import EXIT_USAGE, env, leave

DEFAULT_URL = "http://127.0.0.1:8080"
OWN_TOKEN_S = 300
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Reach:
    """What every command that speaks to a server can be told."""

    url: Annotated[
        str | None,
        typer.Option(
            envvar=env("URL"),
            help=f"The server, as https://fleet.example.org; else the one of --data, else {DEFAULT_URL}.",
        ),
    ] = None
    token_file: Annotated[
        Path | None, typer.Option(envvar=env("TOKEN_FILE"), help="File with your token, of `fleet token`.")
    ] = None
    ca_file: Annotated[
        Path | None,
        typer.Option(envvar=env("CA_FILE"), help="Who certified the server's HTTPS, if not a public authority."),
    ] = None
    data: Annotated[
        Path,
        typer.Option(
            envvar=env("DATA"), help="On the server's own machine, instead of a token: the server's data directory."
        ),
    ] = Path("fleet-data")
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False


def connect(reach: Reach, role: str) -> Api:
    """A client that may do what `role` may. Ends the command when that is not possible."""
    url = _url(reach)
    headers = {"Authorization": f"Bearer {_token(reach, url, role)}", "Accept": "application/json"}
    try:
        verify = ssl.create_default_context(cafile=str(reach.ca_file)) if reach.ca_file else True
        return Api(httpx.Client(base_url=url, headers=headers, verify=verify))
    except (OSError, ssl.SSLError) as error:
        leave(EXIT_USAGE, f"--ca-file {reach.ca_file}: {error.strerror or 'no certificate in PEM'}")


def _url(reach: Reach) -> str:
    if reach.url is None:
        from fleet.host.lock import running_at

        return (running_at(reach.data) if reach.token_file is None else None) or DEFAULT_URL
    try:
        parts = urlsplit(reach.url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if host is None or parts.scheme not in ("http", "https") or parts.username or parts.password:
        leave(EXIT_USAGE, f"--url: {reach.url!r} is not a URL such as https://fleet.example.org")
    if parts.scheme == "http" and host not in LOOPBACK:
        leave(EXIT_USAGE, f"--url: a token goes over HTTPS only, and {reach.url} is not; plain HTTP is for loopback")
    return reach.url


def _token(reach: Reach, url: str, role: str) -> str:
    if reach.token_file is not None:
        return _token_of(reach.token_file)
    if urlsplit(url).hostname not in LOOPBACK:
        leave(EXIT_USAGE, f"{url} is not this machine: give your token with --token-file")
    return _own_token(reach.data, role)


def _token_of(path: Path) -> str:
    from fleet.host.settings import SettingsError, read_secret_text

    try:
        token = read_secret_text(path)
    except SettingsError as error:
        leave(EXIT_USAGE, f"--token-file: {error}")
    if not token.isascii() or not token.isprintable() or " " in token:
        leave(EXIT_USAGE, f"--token-file: {path}: not a token")
    return token


def _own_token(data: Path, role: str) -> str:
    """A token for a few minutes, from the key that the server in `data` signs with."""
    from fleet.host.tokens import KEY_FILE, TokenError, issue, read_keys

    path = data / KEY_FILE
    try:
        key = read_keys(path)[0][0]
        return issue(key, f"{_user()} (on the server)", role, OWN_TOKEN_S)
    except FileNotFoundError:
        hint = "give its --data on its own machine, or --token-file with a token of fleet token"
        leave(EXIT_USAGE, f"no server has ever worked in {data}: {hint}")
    except OSError as error:
        leave(EXIT_USAGE, f"{path}: {error.strerror}; run this as the server's user, or give --token-file")
    except TokenError as error:
        leave(EXIT_USAGE, str(error))


def _user() -> str:
    try:
        return getpass.getuser()[:32]
    except (KeyError, OSError):  # a user id without a name
        return "somebody"
