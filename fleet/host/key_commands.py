"""`fleet keys`: the data keys, which close sensitive values in the database."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from fleet.host.storage import Storage

EXIT_USAGE, EXIT_MISSING = 2, 3

keys = typer.Typer(
    no_args_is_help=True,
    help="""Data keys: they close sensitive values in the database.

    \b
    A new key, and everything under it:
        fleet keys rotate --data-key-file FILE       then start the server again: it closes with the new key
        fleet keys reencrypt --data-key-file FILE    while it runs, or not; goes on where it was cut off
    """,
)

KeyFile = Annotated[
    Path,
    typer.Option("--data-key-file", envvar="CLAWLAND_DATA_KEY_FILE", help="File of the keys, the newest first."),
]
Data = Annotated[Path, typer.Option("--data", envvar="CLAWLAND_DATA", help="The server's directory.")]
DatabaseUrl = Annotated[str | None, typer.Option(envvar="CLAWLAND_DATABASE_URL", help="As for fleet serve.")]
PasswordFile = Annotated[Path | None, typer.Option(envvar="CLAWLAND_DATABASE_PASSWORD_FILE", help="Of that database.")]


@keys.command()
def rotate(data_key_file: KeyFile) -> None:
    """Put a new key first in the file, or make the file. Older keys stay, for what they have closed."""
    from fleet.host import datakeys
    from fleet.host.settings import SettingsError

    try:
        name = datakeys.rotate(data_key_file)
    except SettingsError as error:
        _leave(EXIT_USAGE, str(error))
    print(f"{data_key_file}: the newest key is {name} now; keep a copy of the file, apart from backups of the database")


@keys.command("list")
def list_keys(
    data_key_file: KeyFile,
    data: Data = Path("fleet-data"),
    database_url: DatabaseUrl = None,
    database_password_file: PasswordFile = None,
) -> None:
    """Say which keys the file has, and which of them values in the database may need."""
    storage, _ = _open(data_key_file, data, database_url, database_password_file)
    from fleet.host import datakeys

    needed = datakeys.needed(storage)
    for place, name in enumerate(storage.vault.ids):
        print(f"{name}  {'closes and opens' if place == 0 else 'opens'}, {_need(name in needed)}")
    for name in needed:
        if name not in storage.vault.ids:
            print(f"{name}  MISSING, {_need(True)}")
    storage.close()


@keys.command()
def reencrypt(
    data_key_file: KeyFile,
    data: Data = Path("fleet-data"),
    database_url: DatabaseUrl = None,
    database_password_file: PasswordFile = None,
) -> None:
    """Close everything sensitive with the newest key: what older keys closed, and what was stored openly before."""
    from fleet.core.vault import VaultError
    from fleet.host.database import StorageError
    from fleet.host.reencrypt import STEP_ROWS, Reencryption

    storage, name = _open(data_key_file, data, database_url, database_password_file)
    try:
        work = Reencryption(storage)
        if work.resumed:
            print("going on where the last time ended")
        closed, gone = work.run(lambda seen, so_far: _say(seen, so_far) if seen % (20 * STEP_ROWS) == 0 else None)
    except (StorageError, VaultError) as error:
        _leave(EXIT_MISSING, f"{name}: {error}")
    finally:
        storage.close()
    print(f"{closed} values were closed anew; all that is closed is under the key {storage.vault.newest}")
    if gone:
        print(f"needed no more: {', '.join(gone)}; they may leave the file, unless a backup has values under them")


def _open(key_file: Path, data: Path, url: str | None, password_file: Path | None) -> "tuple[Storage, str]":
    """The database that a server would use, of this program's version, and its name."""
    from fleet.host import datakeys
    from fleet.host.database import StorageError, database_of
    from fleet.host.settings import SettingsError
    from fleet.host.storage import Storage

    try:
        if url is None and not (data / "fleet.sqlite").exists():
            raise SettingsError(f"{data}: there is no database; name the server's directory with --data")
        storage = Storage(database_of(data, url, password_file), datakeys.vault_of(key_file))
        storage.check_version()
    except SettingsError as error:
        _leave(EXIT_USAGE, str(error))
    except StorageError as error:
        _leave(EXIT_MISSING, str(error))
    return storage, storage.name


def _need(needed: bool) -> str:
    return "may be needed by values in the database" if needed else "needed by nothing in the database"


def _say(seen: int, closed: int) -> None:
    print(f"{seen} readings seen, {closed} closed anew", flush=True)


def _leave(code: int, message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise SystemExit(code)
