"""`fleet serve`, and `fleet check`, which takes the same settings."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet.options import (
    EXIT_USAGE,
    MQTT_PORT,
    Data,
    DatabasePasswordFile,
    DatabaseUrl,
    LogFormat,
    LogLevel,
    SimClock,
    config_option,
    env,
    leave,
    start_logs,
    takes,
)

if TYPE_CHECKING:
    from fleet.host.settings import ServeSettings


@dataclass(frozen=True)
class ServeOptions:
    """What `fleet serve` can be told."""

    config: Annotated[Path | None, config_option("serve")] = None
    data: Data = Path("fleet-data")
    host: Annotated[str, typer.Option(envvar=env("HOST"), help="Address of the HTTP API.")] = "127.0.0.1"
    port: Annotated[
        int, typer.Option(envvar=env("PORT"), min=0, max=65535, help="Port of the HTTP API; 0 takes a free one.")
    ] = 8080
    forwarded_allow_ips: Annotated[
        str,
        typer.Option(
            envvar=env("FORWARDED_ALLOW_IPS"),
            help="Proxies whose word on a caller's address counts: addresses and networks, with commas between.",
        ),
    ] = "127.0.0.1,::1"
    hub: Annotated[
        str | None, typer.Option(envvar=env("HUB"), help="Event Hub as HOST:PORT; without it the server runs its own.")
    ] = None
    hub_password_file: Annotated[
        Path | None, typer.Option(envvar=env("HUB_PASSWORD_FILE"), help="File with the manager's password on --hub.")
    ] = None
    hub_port: Annotated[
        int | None,
        typer.Option(
            envvar=env("HUB_PORT"), min=0, max=65535, help="Port of the server's own hub; 1883, or 8883 with TLS."
        ),
    ] = None
    hub_host: Annotated[
        str, typer.Option(envvar=env("HUB_HOST"), help="Address of the server's own hub; beyond loopback with TLS.")
    ] = "127.0.0.1"
    hub_tls: Annotated[
        bool, typer.Option("--hub-tls", envvar=env("HUB_TLS"), help="MQTT over TLS, with certificates; see fleet pki.")
    ] = False
    inventory: Annotated[
        Path | None, typer.Option(envvar=env("INVENTORY"), help="JSON file of gateways, nodes, keys and rules.")
    ] = None
    notify_file: Annotated[
        Path | None,
        typer.Option(envvar=env("NOTIFY_FILE"), help="File of apprise URLs, one a line; else the log."),
    ] = None
    trace: Annotated[
        Path | None, typer.Option(envvar=env("TRACE"), help="Append events to this file, one JSON line each.")
    ] = None
    rate_limit: Annotated[
        float, typer.Option(envvar=env("RATE_LIMIT"), min=0.1, help="Requests a second that one caller may make.")
    ] = 100.0
    database_url: DatabaseUrl = None
    database_password_file: DatabasePasswordFile = None
    encryption_declared: Annotated[
        str | None,
        typer.Option(
            envvar=env("ENCRYPTION_DECLARED"),
            help="What of the PostgreSQL you say is encrypted: disk, backup, or disk,backup; for fleet check.",
        ),
    ] = None
    retention: Annotated[
        str | None,
        typer.Option(envvar=env("RETENTION"), help="Remove readings when they get this old, as in 90d; else never."),
    ] = None
    redis_url: Annotated[
        str | None,
        typer.Option(envvar=env("REDIS_URL"), help="Redis for latest values and liveness, as redis://HOST:6379/0."),
    ] = None
    redis_password_file: Annotated[
        Path | None, typer.Option(envvar=env("REDIS_PASSWORD_FILE"), help="File with the password for --redis-url.")
    ] = None
    data_key_file: Annotated[
        Path | None,
        typer.Option(envvar=env("DATA_KEY_FILE"), help="Keys of sensitive values at rest; see fleet keys."),
    ] = None
    sim_clock: SimClock = False
    log_level: LogLevel = "warning"
    log_format: LogFormat = "text"

    def settings(self) -> "ServeSettings":
        """The same, checked. Raises SettingsError."""
        from fleet.host.settings import ServeSettings

        given = {name: value for name, value in vars(self).items() if name not in ("config", "log_level", "log_format")}
        if self.hub_port is None:
            given["hub_port"] = MQTT_PORT[self.hub_tls]
        return ServeSettings(**given)


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(short_help="Run the fleet manager.")(serve)
    app.command(short_help="Say what is wrong before it runs.")(check)


@takes(ServeOptions)
def serve(options: ServeOptions) -> None:
    """Run the fleet manager: the HTTP API, the rules, and the connection to the Event Hub.

    \b
    Everything that it owns is in --data: the database (unless --database-url names a PostgreSQL), the key that signs
    tokens. One server works in a directory at a time; several may share one PostgreSQL (--database-url) and one hub
    (--hub): one of them leads, and when it is gone, another one does. SIGTERM ends a server within seconds and loses
    nothing.
    """
    start_logs(options.log_level, options.log_format)
    from firmware.hosting.lifecycle import run_process
    from fleet.host.settings import SettingsError

    try:
        settings = options.settings()
        from fleet.host.server import serve as run

        run_process(run(settings))
    except SettingsError as error:
        leave(EXIT_USAGE, str(error))


@takes(ServeOptions)
def check(
    options: ServeOptions, as_json: Annotated[bool, typer.Option("--json", help="Print findings as JSON.")] = False
) -> None:
    """Say what is wrong before the server runs: with its settings, files, ports, database, hub and certificates.

    \b
    Takes what `fleet serve` takes, from the same flags, variables and the same table [serve], and changes nothing.

    Exit codes: 0 the server can run (warnings may be worth a look), 2 a setting or a file is wrong, 3 something is
    missing, taken or out of reach.
    """
    start_logs("error", options.log_format)
    from fleet.host.checks import Finding, exit_code, run
    from fleet.host.settings import SettingsError

    try:
        findings = run(options.settings())
    except SettingsError as error:
        findings = [Finding("settings", str(error), "BAD", EXIT_USAGE)]
    if as_json:
        print(json.dumps([each.json() for each in findings], indent=2))
    else:
        for each in findings:
            print(f"{each.state:4}  {each.what}: {each.found}")
    raise SystemExit(exit_code(findings))
