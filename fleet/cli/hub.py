"""`fleet hub`: the Event Hub alone, and an examination of one."""

from pathlib import Path
from typing import Annotated

import typer

from fleet.options import (
    EXIT_USAGE,
    MQTT_PORT,
    Data,
    LogFormat,
    LogLevel,
    SimClock,
    config_option,
    env,
    leave,
    start_logs,
)

app = typer.Typer()


@app.callback(invoke_without_command=True)
def hub(
    context: typer.Context,
    credentials: Annotated[
        Path | None,
        typer.Option(
            envvar=env("CREDENTIALS"),
            help='JSON: {"manager": {"id": "fleet", "password": "…"}, "gateways": {"gateway-01": "…"}}.',
        ),
    ] = None,
    tls: Annotated[
        bool, typer.Option("--tls", envvar=env("HUB_TLS"), help="TLS: certificates of --data say who a client is.")
    ] = False,
    data: Data = Path("fleet-data"),
    config: Annotated[Path | None, config_option("hub")] = None,
    host: Annotated[str, typer.Option(envvar=env("HUB_HOST"), help="Address of the broker.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            envvar=env("HUB_PORT"), min=0, max=65535, help="Port of the broker; 1883, or 8883 with TLS; 0: a free one."
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
    log_format: LogFormat = "text",
) -> None:
    """Run the Event Hub alone: an MQTT 3.1.1 broker where a gateway publishes and reads only under its own id.

    \b
    fleet hub --credentials hub.json                     passwords, for this machine
    fleet hub --tls --data DIR --host 0.0.0.0            certificates of `fleet pki`
    fleet hub --tls --data DIR --mosquitto-config DIR    the same rights for a Mosquitto
    """
    if context.invoked_subcommand is not None:
        return
    start_logs(log_level, log_format)
    from firmware.hosting.lifecycle import run_process
    from fleet.host.hub_server import HubSettings, serve_hub, write_for_mosquitto
    from fleet.host.settings import SettingsError

    try:
        found = MQTT_PORT[tls] if port is None else port
        settings = HubSettings(credentials, host, found, sim_clock, trace, tls, data)
        if mosquitto_config is not None:
            print(f"written; run: mosquitto -c {write_for_mosquitto(settings, mosquitto_config)}")
            return
        run_process(serve_hub(settings))
    except SettingsError as error:
        leave(EXIT_USAGE, str(error))


@app.command()
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
        leave(EXIT_USAGE, str(error))
    except CannotRun as error:
        leave(EXIT_MISSING, str(error))
    for each in findings:
        print(f"{'ok ' if each.good else 'BAD'}  {each.what}: {each.found}")
    raise SystemExit(not all(each.good for each in findings))
