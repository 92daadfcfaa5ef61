"""`fleet migrate` and `fleet token`: what is done beside the server, in its data directory."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from fleet.options import EXIT_MISSING, EXIT_USAGE, Data, DatabasePasswordFile, DatabaseUrl, config_option, leave


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(short_help="Bring the database to a version.")(migrate)
    app.command(short_help="Print a token for the API.")(token)


def migrate(
    config: Annotated[Path | None, config_option("migrate")] = None,
    data: Data = Path("fleet-data"),
    database_url: DatabaseUrl = None,
    database_password_file: DatabasePasswordFile = None,
    to: Annotated[str | None, typer.Option(help="Version to go to, up or down; without it, the latest.")] = None,
) -> None:
    """Bring the database to this program's version; `fleet serve` does so by itself when it starts.

    \b
    With --to an older version, before an older program is installed again. The server must be stopped. Readings,
    alerts and commands are kept both ways.
    """
    from firmware.hosting.lifecycle import CannotRun
    from fleet.host.migrate import migrate_database
    from fleet.host.settings import SettingsError

    try:
        print(migrate_database(data, database_url, database_password_file, to))
    except SettingsError as error:
        leave(EXIT_USAGE, str(error))
    except CannotRun as error:
        leave(EXIT_MISSING, str(error))


def token(
    name: Annotated[str, typer.Option("--for", help="Whom the token is for; it appears with what they do.")],
    data: Data = Path("fleet-data"),
    role: Annotated[str, typer.Option(help="viewer reads, operator also commands, admin also manages.")] = "viewer",
    ttl: Annotated[str, typer.Option(help="How long it is valid, as in 90s, 15m, 24h, 30d.")] = "24h",
) -> None:
    """Print a token for the API of the server that works in --data (running or not)."""
    from fleet.host.tokens import KEY_FILE, TokenError, issue, load_key, parse_ttl

    try:
        lifetime_s, is_new = parse_ttl(ttl), not (data / KEY_FILE).exists()
        print(issue(load_key(data), name, role, lifetime_s))
        if is_new:  # a directory misspelt would give a token that nobody takes
            print(f"no server has worked in {data} yet; one that does will take this token", file=sys.stderr)
    except TokenError as error:
        leave(EXIT_USAGE, str(error))
