"""`fleet`: the fleet manager, its Event Hub, and tokens for its API."""

import logging
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from fleet.host.key_commands import keys
from fleet.host.pki.commands import pki

EXIT_USAGE = 2
EXIT_MISSING = 3

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

    Every flag can also be set as CLAWLAND_NAME in the environment or in a TOML file (--config); flags come first, then
    the environment, then the file. Secrets are given as files, never on the command line.

    Exit codes: 0 stopped as asked, 1 failed while running, 2 bad usage or configuration, 3 something is missing or
    taken (a port, a data directory).
    """,
)


app.add_typer(pki, name="pki")
app.add_typer(keys, name="keys")


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"fleet {version('clawsim')}")
        raise typer.Exit


@app.callback()
def fleet(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def _load_config(context: typer.Context, path: Path | None) -> Path | None:
    """Makes the table of the TOML file named after the command its defaults, below flags and environment."""
    if path is not None and not context.resilient_parsing:
        from fleet.host.settings import SettingsError, read_toml

        known = {parameter.name for parameter in context.command.params if parameter.name} - {"config", "help"}
        try:
            context.default_map = read_toml(path, str(context.info_name), known)
        except SettingsError as error:
            _leave(EXIT_USAGE, str(error))
    return path


def _env(name: str) -> str:
    return f"CLAWLAND_{name}"


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar=_env("CONFIG"),
        callback=_load_config,
        is_eager=True,
        help="TOML file, one table a command.",
    ),
]
_MQTT_PORT = {False: 1883, True: 8883}  # without and with TLS

Data = Annotated[Path, typer.Option("--data", envvar=_env("DATA"), help="Directory of everything the server keeps.")]
SimClock = Annotated[
    bool,
    typer.Option("--sim-clock", help="Take the clock from a simulator, over stdin and stdout."),
]
LogLevel = Annotated[
    str, typer.Option("--log-level", envvar=_env("LOG_LEVEL"), help="debug, info, warning or error; logs go to stderr.")
]

DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        envvar=_env("DATABASE_URL"),
        help="PostgreSQL 15 or newer, as postgresql://USER@HOST:PORT/NAME; without it, SQLite in --data.",
    ),
]
DatabasePasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--database-password-file",
        envvar=_env("DATABASE_PASSWORD_FILE"),
        help="File with the password for --database-url; without it, libpq's own ways (PGPASSFILE).",
    ),
]


@app.command()
def serve(
    config: Config = None,
    data: Data = Path("fleet-data"),
    host: Annotated[str, typer.Option(envvar=_env("HOST"), help="Address of the HTTP API.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar=_env("PORT"), min=0, max=65535, help="Port of the HTTP API; 0 takes a free one.")
    ] = 8080,
    hub: Annotated[
        str | None, typer.Option(envvar=_env("HUB"), help="Event Hub as HOST:PORT; without it the server runs its own.")
    ] = None,
    hub_password_file: Annotated[
        Path | None, typer.Option(envvar=_env("HUB_PASSWORD_FILE"), help="File with the manager's password on --hub.")
    ] = None,
    hub_port: Annotated[
        int | None,
        typer.Option(
            envvar=_env("HUB_PORT"), min=0, max=65535, help="Port of the server's own hub; 1883, or 8883 with TLS."
        ),
    ] = None,
    hub_host: Annotated[
        str, typer.Option(envvar=_env("HUB_HOST"), help="Address of the server's own hub; beyond loopback with TLS.")
    ] = "127.0.0.1",
    hub_tls: Annotated[
        bool,
        typer.Option("--hub-tls", envvar=_env("HUB_TLS"), help="MQTT over TLS, with certificates; see fleet pki."),
    ] = False,
    inventory: Annotated[
        Path | None, typer.Option(envvar=_env("INVENTORY"), help="JSON file of gateways, nodes, keys and rules.")
    ] = None,
    notify_file: Annotated[
        Path | None,
        typer.Option(envvar=_env("NOTIFY_FILE"), help="File of apprise URLs, one a line; without it, the log."),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(envvar=_env("TRACE"), help="Append events to this file, one JSON line each."),
    ] = None,
    rate_limit: Annotated[
        float, typer.Option(envvar=_env("RATE_LIMIT"), min=0.1, help="Requests a second that one caller may make.")
    ] = 100.0,
    sim_clock: SimClock = False,
    log_level: LogLevel = "warning",
    database_url: DatabaseUrl = None,
    database_password_file: DatabasePasswordFile = None,
    retention: Annotated[
        str | None,
        typer.Option(envvar=_env("RETENTION"), help="Remove readings when they get this old, as in 90d; else never."),
    ] = None,
    redis_url: Annotated[
        str | None,
        typer.Option(envvar=_env("REDIS_URL"), help="Redis for latest values and liveness, as redis://HOST:6379/0."),
    ] = None,
    redis_password_file: Annotated[
        Path | None, typer.Option(envvar=_env("REDIS_PASSWORD_FILE"), help="File with the password for --redis-url.")
    ] = None,
    data_key_file: Annotated[
        Path | None,
        typer.Option(envvar=_env("DATA_KEY_FILE"), help="Keys of sensitive values at rest; see fleet keys."),
    ] = None,
) -> None:
    """Run the fleet manager: the HTTP API, the rules, and the connection to the Event Hub.

    \b
    Everything that it owns is in --data: the database (unless --database-url names a PostgreSQL), the key that signs
    tokens. One server works in a directory at a time. SIGTERM ends it within seconds and loses nothing.
    """
    _log_to_stderr(log_level)
    from firmware.hosting.lifecycle import run_process
    from fleet.host.settings import ServeSettings, SettingsError

    try:
        settings = ServeSettings(
            data,
            host,
            port,
            hub,
            hub_password_file,
            _MQTT_PORT[hub_tls] if hub_port is None else hub_port,
            inventory,
            notify_file,
            trace,
            sim_clock,
            hub_host,
            hub_tls,
            rate_limit,
            database_url=database_url,
            database_password_file=database_password_file,
            retention=retention,
            redis_url=redis_url,
            redis_password_file=redis_password_file,
            data_key_file=data_key_file,
        )
        from fleet.host.server import serve as run

        run_process(run(settings))
    except SettingsError as error:
        _leave(EXIT_USAGE, str(error))


hub_app = typer.Typer()
app.add_typer(hub_app, name="hub")


@hub_app.callback(invoke_without_command=True)
def hub(
    context: typer.Context,
    credentials: Annotated[
        Path | None,
        typer.Option(
            envvar=_env("CREDENTIALS"),
            help='JSON: {"manager": {"id": "fleet", "password": "…"}, "gateways": {"gateway-01": "…"}}.',
        ),
    ] = None,
    tls: Annotated[
        bool, typer.Option("--tls", envvar=_env("HUB_TLS"), help="TLS: certificates of --data say who a client is.")
    ] = False,
    data: Data = Path("fleet-data"),
    config: Config = None,
    host: Annotated[str, typer.Option(envvar=_env("HUB_HOST"), help="Address of the broker.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            envvar=_env("HUB_PORT"), min=0, max=65535, help="Port of the broker; 1883, or 8883 with TLS; 0: a free one."
        ),
    ] = None,
    mosquitto_config: Annotated[
        Path | None,
        typer.Option(
            help="Run nothing: write a Mosquitto's configuration, rights and certificates here.", metavar="DIR"
        ),
    ] = None,
    trace: Annotated[Path | None, typer.Option(help="Write refused messages to this file, one JSON line each.")] = None,
    sim_clock: SimClock = False,
    log_level: LogLevel = "warning",
) -> None:
    """Run the Event Hub alone: an MQTT 3.1.1 broker where a gateway publishes and reads only under its own id.

    \b
    fleet hub --credentials hub.json                     passwords, for this machine
    fleet hub --tls --data DIR --host 0.0.0.0            certificates of `fleet pki`
    fleet hub --tls --data DIR --mosquitto-config DIR    the same rights for a Mosquitto
    """
    if context.invoked_subcommand is not None:
        return
    _log_to_stderr(log_level)
    from firmware.hosting.lifecycle import run_process
    from fleet.host.hub_server import HubSettings, serve_hub, write_for_mosquitto
    from fleet.host.settings import SettingsError

    try:
        found = _MQTT_PORT[tls] if port is None else port
        settings = HubSettings(credentials, host, found, sim_clock, trace, tls, data)
        if mosquitto_config is not None:
            print(f"written; run: mosquitto -c {write_for_mosquitto(settings, mosquitto_config)}")
            return
        run_process(serve_hub(settings))
    except SettingsError as error:
        _leave(EXIT_USAGE, str(error))


@hub_app.command()
def doctor(
    address: Annotated[str, typer.Argument(help="The hub, as HOST:PORT.", metavar="HOST:PORT")],
    tls: Annotated[bool, typer.Option("--tls", help="Over TLS, let in by the authority of --data.")] = False,
    data: Data = Path("fleet-data"),
    credentials: Annotated[
        Path | None, typer.Option(help="The hub's passwords, with one for hub-doctor among the gateways.")
    ] = None,
) -> None:
    """Say which broker answers at an address, and where its limits are.

    Exit codes: 0 the fleet can rely on it, 1 it cannot, 2 bad usage, 3 it cannot be reached or lets nobody in.
    """
    from firmware.hosting.lifecycle import EXIT_MISSING, CannotRun
    from fleet.host.doctor import DoctorSettings, run
    from fleet.host.settings import SettingsError

    try:
        findings = run(DoctorSettings(address, credentials, tls, data))
    except SettingsError as error:
        _leave(EXIT_USAGE, str(error))
    except CannotRun as error:
        _leave(EXIT_MISSING, str(error))
    for each in findings:
        print(f"{'ok ' if each.good else 'BAD'}  {each.what}: {each.found}")
    raise SystemExit(not all(each.good for each in findings))


@app.command()
def migrate(
    config: Config = None,
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
        _leave(EXIT_USAGE, str(error))
    except CannotRun as error:
        _leave(EXIT_MISSING, str(error))


@app.command()
def token(
    name: Annotated[str, typer.Option("--for", help="Whom the token is for; it appears with what they do.")],
    data: Data = Path("fleet-data"),
    role: Annotated[str, typer.Option(help="viewer reads, operator also commands, admin also manages.")] = "viewer",
    ttl: Annotated[str, typer.Option(help="How long it is valid, as in 90s, 15m, 24h, 30d.")] = "24h",
) -> None:
    """Print a token for the API of the server that works in --data (running or not)."""
    from fleet.host.tokens import TokenError, issue, load_key, parse_ttl

    try:
        lifetime_s = parse_ttl(ttl)
        print(issue(load_key(data), name, role, lifetime_s))
    except TokenError as error:
        _leave(EXIT_USAGE, str(error))


def _log_to_stderr(level: str) -> None:
    number: Any = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        _leave(EXIT_USAGE, f"--log-level: {level!r} is not one of debug, info, warning, error")
    logging.basicConfig(
        level=number, stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", force=True
    )


def _leave(code: int, message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr, flush=True)
    raise SystemExit(code)


def main() -> None:
    """The console command."""
    app()


if __name__ == "__main__":
    main()
