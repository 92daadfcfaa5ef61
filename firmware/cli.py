"""The command `firmware`: run a node as a process or on an emulated board, check its configuration, look into its
flash; build, flash and watch boards."""

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from firmware.hosting.config import ConfigError
from firmware.hosting.logs import FORMATS, LEVELS, check_log_options, configure_logs
from firmware.hosting.program import version_option

if TYPE_CHECKING:
    from firmware.hosts.settings import NodeSettings

EXIT_USAGE, EXIT_MISSING, EXIT_INTERRUPTED = 2, 3, 130

app = typer.Typer(
    help="Clawland sensor nodes (MicroClaw, PicoClaw): run one as a process of this machine, or on an emulated board; "
    "build the firmware of ESP32 and Pico W, bring it to a board, watch and measure it there.",
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


Port = Annotated[
    str,
    typer.Option(
        help="The board's port: /dev/ttyACM0, socket://host:port, or what else pyserial opens.", metavar="URL"
    ),
]
Wait = Annotated[float, typer.Option(min=0, max=3600, help="Seconds to wait for the port to be there.")]


class Kind(StrEnum):
    """The boards that there is a host for."""

    esp32 = "esp32"
    pico_w = "pico-w"


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

    Example: firmware run --config sensor-01.toml
    """
    from firmware.hosting.lifecycle import run_process
    from firmware.hosts.build import refuse_board
    from firmware.hosts.process import run_node

    settings = _load(config)
    try:
        refuse_board(settings, config)
    except ConfigError as error:
        _usage_error(str(error))
    _logs(log_level, log_format, settings.id)
    run_process(run_node(settings, trace, sim_clock))


@app.command()
def check(config: Config) -> None:
    """Check a configuration file, its key file and its recordings without running anything."""
    from firmware.hosts.build import node_json

    settings = _load(config)
    if settings.board is not None:
        with _telling():
            node_json(settings, config)  # whether a board can do it
    sensors = ", ".join(sensor["metric"] for sensor in settings.core["sensors"])
    print(f"{config}: {settings.id} measures {sensors} {_whither(settings)}")


@app.command()
def build(
    out: Annotated[Path, typer.Option(help="Where to put it; made when it is not there.", metavar="DIR")],
    board: Annotated[
        Kind | None,
        typer.Option(help="Build the firmware for these boards: main.py, .mpy files, manifest.json."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Make of this node's TOML file the node.json of a MicroPython process.", metavar="FILE"),
    ] = None,
) -> None:
    """Build the firmware for boards (--board), or of a node's configuration what MicroPython here reads (--config).

    One bundle serves all boards of a kind, and the same sources give the same bytes; `firmware flash` builds it by
    itself, with the node.json of a board ([board] in its FILE), so that this is for whoever wants to keep or compare
    one. node.json holds the node's key; it runs so: micropython -m firmware.hosts.micro.linux DIR/node.json

    Example: firmware build --board pico-w --out bundle
    """
    from firmware.hosts.build import write_node
    from firmware.hosts.bundle import build_bundle

    if board is None and config is None:
        _usage_error("say what to build: --board KIND, --config FILE, or both")
    with _telling():
        if board is not None:
            bundle = build_bundle(board.value, out)
            size = f"{len(bundle.files)} files, {bundle.size >> 10} KB"
            print(f"{out}: firmware {bundle.firmware} for {board.value}, {size}")
        if config is not None:
            path = write_node(_load(config), config, out)
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
    board.memory in the node's data directory; `firmware inspect` reads it, and it outlives the board.
    Exit codes: 0 switched off, 2 bad configuration, 3 something is missing or taken, or all boards have died.

    Example: firmware emulate sensor-01.toml sensor-02.toml --port 7001
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
def flash(
    config: Config,
    port: Port,
    bundle: Annotated[
        Path | None, typer.Option(help="What `firmware build` made, instead of a fresh build.", metavar="DIR")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Put the main.py of another program aside.")] = False,
    wait: Wait = 10.0,
) -> None:
    """Bring firmware, configuration and key to a board with MicroPython, restart it, and show its hello.

    The new firmware is copied beside the one that runs, read back and compared, and only then put in its place; if it
    does not say hello the old one runs again. Readings on the board's flash stay.

    Example: firmware flash --config sensor-01.toml --port /dev/ttyACM0
    """
    from firmware.hosts.build import node_json
    from firmware.hosts.bundle import build_bundle, read_bundle
    from firmware.hosts.flashing import flash as bring
    from firmware.hosts.monitor import told
    from firmware.hosts.port import need_libraries

    settings = _load(config)
    with _telling(), tempfile.TemporaryDirectory() as work:
        if settings.board is None:
            _usage_error(f"{config}: has no [board] table: see `firmware example --board`")
        need_libraries()
        node = node_json(settings, config)
        built = read_bundle(bundle) if bundle is not None else build_bundle(settings.board["kind"], Path(work))
        print(told(bring(port, built, node, print, wait, replace)))


@app.command()
def monitor(port: Port, wait: Wait = 10.0) -> None:
    """Show what a board says, line by line, until Ctrl-C; a port that vanishes is opened again when it is back.

    Example: firmware monitor --port /dev/ttyACM0
    """
    from firmware.hosts.monitor import monitor as watch
    from firmware.hosts.port import need_libraries

    with _telling(), suppress(KeyboardInterrupt):
        need_libraries()
        watch(port, lambda line: print(line, flush=True), wait)


@app.command()
def bench(
    port: Annotated[
        str | None, typer.Option(help="A board that was flashed, instead of this Python.", metavar="URL")
    ] = None,
    micropython: Annotated[
        Path | None, typer.Option(help="The interpreter that `make boards` builds.", metavar="PROGRAM")
    ] = None,
    wait: Wait = 10.0,
) -> None:
    """Measure what the node costs where it runs: RAM, and processor time for each message.

    Example: firmware bench --micropython .cache/boards/micropython
    """
    from firmware.hosts.measuring import measure, shown

    if port is not None and micropython is not None:
        _usage_error("--port and --micropython exclude each other")
    with _telling():
        print(shown(measure(port, micropython, wait)))


@app.command()
def inspect(data: Annotated[Path, typer.Argument(help="The node's data directory.", metavar="DIR")]) -> None:
    """Print as JSON what a node's flash holds: its slots and the readings that no gateway has acknowledged.

    Example: firmware inspect sensor-01
    """
    from firmware.hosts.flash import read_flash

    if not data.is_dir():
        _usage_error(f"{data}: is not a directory")
    found = read_flash(data)
    readings = [{"boot": boot, "seq": seq, "reading": reading} for boot, seq, reading in found.get("readings", [])]
    print(json.dumps({"slots": found.get("slots", {}), "readings": readings}, indent=2))


@app.command()
def example(
    board: Annotated[bool, typer.Option("--board", help="Of a board instead of a process.")] = False,
) -> None:
    """Print an example of a configuration file."""
    from firmware.hosts.board_settings import BOARD_EXAMPLE
    from firmware.hosts.settings import EXAMPLE

    print(BOARD_EXAMPLE if board else EXAMPLE, end="")


def _whither(settings: "NodeSettings") -> str:
    """For whom a node measures, and where."""
    if settings.concentrator is not None:
        host, port = settings.concentrator
        return f"for whichever gateway hears its radio, through the concentrator's port at {host}:{port}"
    home = settings.core["home"]
    text = f"for {home['id']} at {home['target']}"
    if settings.board is None:
        return text
    parts = ", ".join(f"{name} ({part['kind']})" for name, part in settings.board["parts"].items())
    return f"{text}, on a {settings.board['kind']} in the Wi-Fi {settings.board['wifi_ssid']}, parts: {parts or 'none'}"


def _load(config: Path) -> "NodeSettings":
    from firmware.hosts.settings import load_settings

    try:
        return load_settings(config)
    except ConfigError as error:
        _usage_error(str(error))


@contextmanager
def _telling() -> Iterator[None]:
    """What can go wrong with configurations, bundles and ports, in a line; exit code 2 for the first, else 3."""
    from firmware.hosts.bundle import BundleError
    from firmware.hosts.port import PortError

    try:
        yield
    except ConfigError as error:
        _usage_error(str(error))
    except (BundleError, PortError) as error:
        _usage_error(str(error), EXIT_MISSING)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _usage_error(f"{where}cannot be read or written: {error.strerror or error}")
    except KeyboardInterrupt:
        _usage_error("interrupted", EXIT_INTERRUPTED)


def _logs(level: str, style: str, who: str) -> None:
    try:
        check_log_options(level, style)
    except ValueError as error:
        _usage_error(str(error))
    configure_logs(level, style, node=who)


def _usage_error(message: str, code: int = EXIT_USAGE) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(code)


def main() -> None:
    """Entry point of the console command."""
    app()


if __name__ == "__main__":
    main()
