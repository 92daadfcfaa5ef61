"""The command `firmware`: run a node as a process or on an emulated board, check its file, look into its flash."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from firmware.hosting.config import ConfigError
from firmware.hosting.logs import FORMATS, LEVELS, check_log_options, configure_logs
from firmware.hosting.program import version_option

if TYPE_CHECKING:
    from firmware.hosts.settings import NodeSettings

app = typer.Typer(
    help="A Clawland sensor node (MicroClaw, PicoClaw) as a process of this machine: the firmware that boards run, "
    "with a file for its flash, signals for its sensors, and MQTT or a serial line to its gateway.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def firmware(
    _: Annotated[bool, version_option("firmware")] = False,
) -> None:
    pass


Config = Annotated[Path, typer.Option(help="The node's TOML file; `firmware example` prints one.", metavar="FILE")]
Level = Annotated[str, typer.Option(envvar="CLAWLAND_LOG_LEVEL", help=f"What to log on stderr: {', '.join(LEVELS)}.")]
Format = Annotated[
    str,
    typer.Option(envvar="CLAWLAND_LOG_FORMAT", help=f"{FORMATS[0]} for people, or {FORMATS[1]} lines."),
]


@app.command()
def run(
    config: Config,
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
    log_level: Level = "info",
    log_format: Format = "text",
) -> None:
    """Run a node until SIGTERM or Ctrl-C.

    Readings stay in its flash until a gateway has acknowledged them, so a node may be stopped or killed at any time.
    Exit codes: 0 stopped, 1 a bug, 2 bad configuration, 3 something it needs is missing or taken.
    """
    from firmware.hosting.lifecycle import run_process
    from firmware.hosts.process import run_node

    settings = _load(config)
    _logs(log_level, log_format, settings.id)
    run_process(run_node(settings, trace, sim_clock))


@app.command()
def check(config: Config) -> None:
    """Check a configuration file, its key file and its recordings without running anything."""
    settings = _load(config)
    sensors = ", ".join(sensor["metric"] for sensor in settings.core["sensors"])
    home = settings.core["home"]
    print(f"{config}: {settings.id} measures {sensors} for {home['id']} at {home['target']}")


@app.command()
def build(
    config: Config,
    out: Annotated[Path, typer.Option(help="Where to put node.json; made when it is not there.", metavar="DIR")],
) -> None:
    """Make of a configuration what a board reads: node.json, which holds the node's key.

    A MicroPython process runs it so: micropython -m firmware.hosts.micro.linux DIR/node.json
    """
    from firmware.hosts.build import write_node

    try:
        path = write_node(_load(config), config, out)
    except ConfigError as error:
        _usage_error(str(error))
    except OSError as error:
        _usage_error(f"{error.filename}: cannot be written: {error.strerror}")
    print(f"{path}: keep it to yourself, it holds the node's key")


@app.command()
def emulate(
    configs: Annotated[
        list[Path], typer.Argument(help="A node's TOML file for each board.", metavar="FILE...", show_default=False)
    ],
    port: Annotated[
        int, typer.Option(help="TCP port of the first board's UART; the others follow. 0: any that are free.")
    ] = 0,
    timescale: Annotated[float, typer.Option(help="How much faster than the wall the boards' time goes.")] = 1,
    trace: Annotated[
        Path | None,
        typer.Option(help="Write every event of a board to DIR/ID.trace, one JSON line each.", metavar="DIR"),
    ] = None,
    image: Annotated[
        Path | None, typer.Option(help="Another image than the one that `make boards` builds.", metavar="FILE")
    ] = None,
) -> None:
    """Switch on emulated boards (QEMU, Cortex-M3) and print where their UARTs are, until SIGTERM or Ctrl-C.

    Each line is a node and a socket:// URL, which a gateway takes as a serial port. The gateway of a board is whoever
    connects there, so [gateway] in the FILE gives but its id, and [discovery] nothing. The board's flash is the file
    board.memory in the node's data directory; `firmware flash` reads it, and it outlives the board.
    Exit codes: 0 switched off, 2 bad configuration, 3 something is missing or taken, or all boards have died.
    """
    from firmware.hosting.lifecycle import run_process
    from firmware.hosts.emulate import run_boards
    from firmware.hosts.emulator import IMAGE, Emulation

    nodes = [(_load(config), config) for config in configs]
    try:
        run_process(run_boards(nodes, Emulation(image or IMAGE, timescale, trace), port))
    except ConfigError as error:
        _usage_error(str(error))


@app.command()
def flash(data: Annotated[Path, typer.Argument(help="The node's data directory.", metavar="DIR")]) -> None:
    """Print as JSON what a node's flash holds: its slots and the readings that no gateway has acknowledged."""
    from firmware.hosts.flash import read_flash

    if not data.is_dir():
        _usage_error(f"{data}: is not a directory")
    found = read_flash(data)
    readings = [{"boot": boot, "seq": seq, "reading": reading} for boot, seq, reading in found.get("readings", [])]
    print(json.dumps({"slots": found.get("slots", {}), "readings": readings}, indent=2))


@app.command()
def example() -> None:
    """Print an example of a configuration file."""
    from firmware.hosts.settings import EXAMPLE

    print(EXAMPLE, end="")


def _load(config: Path) -> "NodeSettings":
    from firmware.hosts.settings import load_settings

    try:
        return load_settings(config)
    except ConfigError as error:
        _usage_error(str(error))


def _logs(level: str, style: str, who: str) -> None:
    try:
        check_log_options(level, style)
    except ValueError as error:
        _usage_error(str(error))
    configure_logs(level, style, node=who)


def _usage_error(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def main() -> None:
    """Entry point of the console command."""
    app()


if __name__ == "__main__":
    main()
