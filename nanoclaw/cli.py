"""The command `nanoclaw`: run a gateway, look at one, check its configuration."""

import json
import sqlite3
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from nanoclaw.host.config import GatewaySettings

app = typer.Typer(
    help="A Clawland gateway (NanoClaw): takes readings from its nodes over its own MQTT broker, keeps them on disk "
    "until the cloud has them, and raises alarms by itself while the cloud is away.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"nanoclaw {version('clawsim')}")
        raise typer.Exit


@app.callback()
def nanoclaw(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


Config = Annotated[Path, typer.Option(help="The gateway's TOML file; `nanoclaw example` prints one.", metavar="FILE")]
Data = Annotated[Path | None, typer.Option(help="Data directory, instead of the file's.", metavar="DIR")]


@app.command()
def run(
    config: Config,
    data: Data = None,
    uplink_host: Annotated[str | None, typer.Option(help="Host of the Event Hub, instead of the file's.")] = None,
    uplink_port: Annotated[int | None, typer.Option(help="Port of the Event Hub, instead of the file's.")] = None,
    uplink_tls: Annotated[bool | None, typer.Option(help="MQTT over TLS to the hub, instead of the file's.")] = None,
    uplink_ca: Annotated[Path | None, typer.Option(help="Certificate of the hub's authority.", metavar="FILE")] = None,
    uplink_certificate: Annotated[
        Path | None, typer.Option(help="The gateway's certificate, or key and certificate in one.", metavar="FILE")
    ] = None,
    uplink_key: Annotated[Path | None, typer.Option(help="The certificate's key.", metavar="FILE")] = None,
    local_port: Annotated[int | None, typer.Option(help="Port for nodes, instead of the file's; 0: any free.")] = None,
    trace: Annotated[
        Path | None, typer.Option(help="Append every event to this file, one JSON line each.", metavar="FILE")
    ] = None,
    sim_clock: Annotated[
        bool,
        typer.Option(
            "--sim-clock",
            help="For simulators: print a ready line, take the clock from a JSON line on stdin, exit when stdin ends.",
        ),
    ] = False,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    log_format: Annotated[str, typer.Option(help="text or json.")] = "text",
) -> None:
    """Run a gateway until SIGTERM or Ctrl-C.

    Readings that nodes were told are received are on disk, so a gateway may be killed at any time.
    Exit codes: 0 stopped, 1 a bug, 2 bad configuration, 3 something it needs is missing or taken (a port, its data).
    """
    flags = {"local.data": data, "uplink.host": uplink_host, "uplink.port": uplink_port, "local.port": local_port}
    flags |= {"uplink.tls": uplink_tls, "uplink.ca": uplink_ca}
    flags |= {"uplink.certificate": uplink_certificate, "uplink.key": uplink_key}
    given = {path: str(value) for path, value in flags.items() if value is not None}
    settings = _load(config, flags)
    _logs(log_level, log_format, settings.core.id)
    from firmware.hosting.lifecycle import run_process
    from nanoclaw.host.config import load_settings
    from nanoclaw.host.daemon import run_gateway

    run_process(run_gateway(lambda: load_settings(config, given), trace, sim_clock))


@app.command()
def enrol(
    config: Config,
    url: Annotated[str, typer.Option(help="The fleet manager, as https://fleet.example.org.")],
    token_file: Annotated[
        Path, typer.Option(help="File with the token of `fleet pki token`; it works once.", metavar="FILE")
    ],
    data: Data = None,
    ca_file: Annotated[
        Path | None, typer.Option(help="Who certified the manager's HTTPS, if not a public authority.", metavar="FILE")
    ] = None,
) -> None:
    """Get this gateway's certificate for MQTT over TLS, and the authority's. The key is made here and stays here.

    The running gateway renews it by itself. Exit codes: 0 done, 1 refused or not reachable, 2 bad usage.
    """
    settings = _load(config, {"local.data": data})
    from nanoclaw.host.certificate import CertificateError
    from nanoclaw.host.certificate import enrol as get

    try:
        token = token_file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        _usage_error(f"--token-file: {token_file}: {getattr(error, 'strerror', None) or 'not a token'}")
    try:
        end = get(settings.core.id, settings.tls, url, token, ca_file)
    except CertificateError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    print(
        f"{settings.core.id} is enrolled until {end:%Y-%m-%d}: {settings.tls.certificate}; set tls = true in [uplink]"
    )


@app.command()
def check(config: Config) -> None:
    """Check a configuration file and its key file without running anything."""
    settings = _load(config, {})
    print(f"{config}: {settings.core.id} ({settings.core.role}, site {settings.core.site}) to {settings.uplink}")


@app.command()
def status(
    data: Annotated[Path, typer.Option(help="The gateway's data directory.", metavar="DIR")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show whether a gateway runs, how its uplink is, and what it keeps for the cloud.

    Exit codes: 0 it runs, 3 it does not.
    """
    from nanoclaw.host.status import is_running, read_status

    if not data.is_dir():
        _usage_error(f"--data: {data} is not a directory")
    found = {**read_status(data), "running": is_running(data), **_kept(data)}
    print(json.dumps(found, indent=2) if as_json else _for_people(found))
    if not found["running"]:
        raise SystemExit(3)


@app.command()
def example() -> None:
    """Print an example of a configuration file."""
    from nanoclaw.host.config import EXAMPLE

    print(EXAMPLE, end="")


def _kept(data: Path) -> dict[str, Any]:
    """What the outbox itself says, which is true also when the daemon is dead."""
    from nanoclaw.host.outbox_store import read_outbox

    try:
        kinds = [kind for _, kind, _ in read_outbox(data)["outbox"]]
    except sqlite3.Error as error:
        return {"outbox_error": str(error)}
    return {"outbox_readings": kinds.count("reading"), "outbox_reports": len(kinds) - kinds.count("reading")}


def _for_people(found: dict[str, Any]) -> str:
    state = "running" if found["running"] else "not running"
    who = found.get("id", "no gateway has used this directory yet")
    lines = [f"{who}: {state}"]
    if found["running"] and "mode" in found:
        lines.append(f"uplink {found.get('uplink')}: {found['mode']}" + _because(found))
        lines.append(f"nodes: {found['nodes_up']} up, {found['nodes_down']} down, on port {found.get('mqtt_port')}")
    if "outbox_error" in found:
        lines.append(f"outbox cannot be read: {found['outbox_error']}")
    else:
        lines.append(f"kept for the cloud: {found['outbox_readings']} readings, {found['outbox_reports']} reports")
    return "\n".join(lines)


def _because(found: dict[str, Any]) -> str:
    failure = found.get("uplink_failure")
    return f" ({failure})" if failure and found["mode"] != "online" else ""


def _load(config: Path, flags: dict[str, Any]) -> "GatewaySettings":
    from nanoclaw.host.config import ConfigError, load_settings

    try:
        return load_settings(config, {path: str(value) for path, value in flags.items() if value is not None})
    except ConfigError as error:
        _usage_error(str(error))


def _logs(level: str, style: str, who: str) -> None:
    from nanoclaw.host.logs import FORMATS, LEVELS, configure_logs

    for option, value, known in (("--log-level", level, LEVELS), ("--log-format", style, FORMATS)):
        if value not in known:
            _usage_error(f"{option}: must be one of {', '.join(known)}, not {value!r}")
    configure_logs(level, style, who)


def _usage_error(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def main() -> None:
    """Entry point of the console command."""
    app()


if __name__ == "__main__":
    main()
