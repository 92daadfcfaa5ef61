"""The command `nanoclaw`: run a gateway, look at one, check its configuration."""

import json
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from firmware.hosting.program import version_option

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


@app.callback()
def nanoclaw(
    _: Annotated[bool, version_option("nanoclaw")] = False,
) -> None:
    pass


Config = Annotated[Path, typer.Option(help="The gateway's TOML file; `nanoclaw example` prints one.", metavar="FILE")]
Data = Annotated[Path | None, typer.Option(help="Data directory, instead of the file's.", metavar="DIR")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


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
    log_level: Annotated[
        str, typer.Option(envvar="CLAWLAND_LOG_LEVEL", help="debug, info, warning or error; logs go to stderr.")
    ] = "info",
    log_format: Annotated[
        str, typer.Option(envvar="CLAWLAND_LOG_FORMAT", help="text for people, json for one object a line.")
    ] = "text",
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
    from nanoclaw.host.run import run_gateway

    run_process(run_gateway(lambda: load_settings(config, given), trace, sim_clock))


Url = Annotated[str, typer.Option(help="The fleet manager, as https://fleet.example.org.")]
TokenFile = Annotated[
    Path, typer.Option(help="File with the token of `fleet pki token`; it works once.", metavar="FILE")
]
WebCa = Annotated[
    Path | None, typer.Option(help="Who certified the manager's HTTPS, if not a public authority.", metavar="FILE")
]


@app.command()
def init(
    config: Config,
    gateway: Annotated[str, typer.Option("--id", help="The gateway's id in the fleet.")],
    hub: Annotated[str, typer.Option(help="Host of the Event Hub.")],
    site: Annotated[str, typer.Option(help="The site's id.")] = "site-01",
    fleet: Annotated[str, typer.Option(help="The fleet's id.")] = "clawland",
    key_file: Annotated[
        str, typer.Option(help="File with the key that the fleet manager knows it by; relative to the configuration.")
    ] = "gateway.key",
    local_host: Annotated[str, typer.Option(help="This machine's address on the sensors' network.")] = "127.0.0.1",
    local_tls: Annotated[bool, typer.Option("--local-tls", help="Nodes speak TLS, and pin a certificate.")] = False,
    local_plain: Annotated[
        bool, typer.Option("--local-plain", help="Nodes may speak without TLS; one of the two beyond this machine.")
    ] = False,
    uplink_interface: Annotated[str | None, typer.Option(help="Interface that leads to the hub, as eth0.")] = None,
    data: Annotated[str, typer.Option(help="Data directory.", metavar="DIR")] = "/var/lib/nanoclaw",
    url: Annotated[str | None, typer.Option(help="The fleet manager, to enrol at once.")] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token of `fleet pki token`; with --url.", metavar="FILE")
    ] = None,
    ca_file: WebCa = None,
) -> None:
    """Write a commented configuration, and with --url and --token-file get the gateway's certificate too.

    Exit codes: 0 done, 1 the fleet manager refuses or is not reachable (the file stays), 2 bad usage.
    """
    from nanoclaw.host.setup import SetupError, check_values, write_config

    if (url is None) != (token_file is None):
        _usage_error("--url and --token-file go together")
    if token_file:
        _token(token_file)
    values: dict[str, str | int | bool] = {"gateway.id": gateway, "gateway.fleet": fleet, "gateway.site": site}
    values |= {"gateway.key_file": key_file, "uplink.host": hub, "local.host": local_host, "local.data": data}
    if uplink_interface:
        values["uplink.interface"] = uplink_interface
    if url:
        values |= {"uplink.port": 8883, "uplink.tls": True}
    values |= {f"local.{key}": True for key, asked in (("tls", local_tls), ("plain", local_plain)) if asked}
    try:
        check_values(values)
        write_config(config, values)
    except SetupError as error:
        _usage_error(str(error))
    print(f"{config} is written; what else there is to set stands in it as comments")
    key = config.parent / key_file
    if not key.exists():
        print(f"missing: {key}, with the key that the fleet manager knows {gateway} by; chmod 600 it")
        if url:
            print("then nanoclaw enrol with the same --url and --token-file")
        return
    if url and token_file:
        _enrol(_load(config, {}), url, token_file, ca_file)
    print(f"next: nanoclaw check --config {config}")


@app.command()
def enrol(config: Config, url: Url, token_file: TokenFile, data: Data = None, ca_file: WebCa = None) -> None:
    """Get this gateway's certificate for MQTT over TLS, and the authority's. The key is made here and stays here.

    The running gateway renews it by itself. Exit codes: 0 done, 1 refused or not reachable, 2 bad usage.
    """
    settings = _load(config, {"local.data": data})
    _enrol(settings, url, token_file, ca_file)
    if not settings.uplink_tls:
        print("set tls = true in [uplink]")


def _enrol(settings: "GatewaySettings", url: str, token_file: Path, ca_file: Path | None) -> None:
    from nanoclaw.host.certificate import CertificateError
    from nanoclaw.host.certificate import enrol as get

    token = _token(token_file)
    try:
        end = get(settings.core.id, settings.tls, url, token, ca_file)
    except CertificateError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    print(f"{settings.core.id} is enrolled until {end:%Y-%m-%d}: {settings.tls.certificate}")


def _token(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        _usage_error(f"--token-file: {file}: {getattr(error, 'strerror', None) or 'not a token'}")


@app.command()
def check(config: Config, data: Data = None, as_json: AsJson = False) -> None:
    """Say what is wrong before the gateway runs: its settings, this machine, its certificate, the hub.

    It changes nothing. Exit codes: 0 nothing is wrong (there may be warnings), 2 bad configuration, 3 something is.
    """
    settings = _load(config, {"local.data": data})
    from nanoclaw.host.checks import ERROR, findings

    found = []
    for finding in findings(settings):
        found.append(finding)
        if not as_json:
            print(f"{finding.level:<8} {finding.what:<12} {finding.text}", flush=True)
    if as_json:
        print(json.dumps([finding._asdict() for finding in found], indent=2))
    if any(finding.level == ERROR for finding in found):
        raise SystemExit(3)


@app.command()
def status(
    data: Annotated[Path | None, typer.Option(help="The gateway's data directory.", metavar="DIR")] = None,
    config: Annotated[Path | None, typer.Option(help="Its TOML file, which names it.", metavar="FILE")] = None,
    as_json: AsJson = False,
) -> None:
    """Show whether a gateway runs, its nodes and uplinks, when the cloud last answered, and what is kept for it.

    Exit codes: 0 it runs, 3 it does not, or this user may not look.
    """
    from nanoclaw.host.status_view import look, table

    with _denied():
        found = look(_directory(data, config))
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(f"{name:<10} {text}" for name, text in table(found)))
    if not found["running"]:
        raise SystemExit(3)


@app.command()
def journal(
    data: Annotated[Path | None, typer.Option(help="The gateway's data directory.", metavar="DIR")] = None,
    config: Annotated[Path | None, typer.Option(help="Its TOML file, which names it.", metavar="FILE")] = None,
    last: Annotated[int, typer.Option(help="So many entries, the latest.", min=1)] = 50,
    as_json: AsJson = False,
) -> None:
    """Show what the gateway decided by itself: when, by which rule, and whether the cloud has been told yet.

    The gateway need not run. Exit codes: 0 shown, 3 its disk cannot be read.
    """
    import sqlite3

    from nanoclaw.host.journal_view import lines, look

    try:
        with _denied():
            found = look(_directory(data, config), last)
    except sqlite3.Error as error:
        print(f"error: the outbox cannot be read: {error}", file=sys.stderr)
        raise SystemExit(3) from None
    print(json.dumps(found, indent=2) if as_json else "\n".join(lines(found)) or "nothing was decided here yet")


@app.command()
def example(
    what: Annotated[
        str,
        typer.Argument(help="config: a configuration file; service: a systemd unit; firewall: an nftables file."),
    ] = "config",
) -> None:
    """Print an example of a file that a gateway's machine needs."""
    from nanoclaw.host.examples import KINDS
    from nanoclaw.host.examples import example as text_of

    if what not in KINDS:
        _usage_error(f"{what!r} is none of {', '.join(KINDS)}")
    print(text_of(what), end="")


def _directory(data: Path | None, config: Path | None) -> Path:
    """The data directory that the user means. Raises PermissionError."""
    from nanoclaw.host.config import ConfigError, data_directory

    if (data is None) == (config is None):
        _usage_error("give --data or --config")
    try:
        directory = data if data is not None else data_directory(config or Path())
    except ConfigError as error:
        _usage_error(str(error))
    try:
        found = stat.S_ISDIR(directory.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        found = False
    if not found:
        _usage_error(f"{directory} is not a directory")
    return directory


@contextmanager
def _denied() -> Iterator[None]:
    """One line where another user's files may not be read."""
    try:
        yield
    except PermissionError as error:
        where = f"{error.filename}: permission denied"
        print(f"error: {where}: run it as root or as the gateway's user, or ask its monitor port", file=sys.stderr)
        raise SystemExit(3) from None


def _load(config: Path, flags: dict[str, Any]) -> "GatewaySettings":
    from nanoclaw.host.config import ConfigError, load_settings

    try:
        return load_settings(config, {path: str(value) for path, value in flags.items() if value is not None})
    except ConfigError as error:
        _usage_error(str(error))


def _logs(level: str, style: str, who: str) -> None:
    from firmware.hosting.logs import check_log_options, configure_logs

    try:
        check_log_options(level, style)
    except ValueError as error:
        _usage_error(str(error))
    configure_logs(level, style, gateway=who)


def _usage_error(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def main() -> None:
    """Entry point of the console command."""
    app()


if __name__ == "__main__":
    main()
