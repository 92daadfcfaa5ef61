"""What options several commands have in common, and how a command takes a whole set of them.

A set is a dataclass whose fields are options: `takes` makes each field a flag of the command, so that two commands with
the same settings share one list of them.
"""

import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_type_hints

import typer

EXIT_USAGE = 2
EXIT_MISSING = 3
MQTT_PORT = {False: 1883, True: 8883}  # without and with TLS


def env(name: str) -> str:
    """The variable that sets the option `name`."""
    return f"CLAWLAND_{name}"


def leave(code: int, message: str) -> NoReturn:
    """Ends the command with one line on stderr."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    raise SystemExit(code)


def start_logs(level: str, style: str) -> None:
    """Logs to stderr from here on."""
    from firmware.hosting.logs import check_log_options, configure_logs

    try:
        check_log_options(level.lower(), style)
    except ValueError as error:
        leave(EXIT_USAGE, str(error))
    configure_logs(level.lower(), style)


def takes(options: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes the first parameter of a command, of the dataclass `options`, a flag for each of its fields."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(options, include_extras=True)
        shared = {
            field.name: inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
            )
            for field in dataclasses.fields(options)
        }
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

        @functools.wraps(command)
        def called(**given: Any) -> None:
            rest = {parameter.name: given.pop(parameter.name) for parameter in own}
            command(options(**given), **rest)

        positional = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
        signature = inspect.Signature([*positional, *shared.values()])
        called.__signature__ = signature  # type: ignore[attr-defined]  # what inspect, and so Typer, looks at
        called.__annotations__ = {each.name: each.annotation for each in signature.parameters.values()}
        return called

    return decorate


def config_option(section: str) -> Any:
    """`--config`, whose table `section` is below flags and environment."""

    def load(context: typer.Context, path: Path | None) -> Path | None:
        if path is not None and not context.resilient_parsing:
            from fleet.host.settings import SettingsError, read_toml

            known = {parameter.name for parameter in context.command.params if parameter.name} - {"config", "help"}
            try:
                context.default_map = read_toml(path, section, known)
            except SettingsError as error:
                leave(EXIT_USAGE, str(error))
        return path

    return typer.Option(
        "--config",
        envvar=env("CONFIG"),
        callback=load,
        is_eager=True,
        help=f"TOML file; its table [{section}] sets the same by the names of the flags.",
    )


Data = Annotated[Path, typer.Option("--data", envvar=env("DATA"), help="Directory of everything the server keeps.")]
SimClock = Annotated[
    bool,
    typer.Option("--sim-clock", help="Take the clock from a simulator, over stdin and stdout."),
]
LogLevel = Annotated[
    str, typer.Option("--log-level", envvar=env("LOG_LEVEL"), help="debug, info, warning or error; logs go to stderr.")
]
LogFormat = Annotated[
    str,
    typer.Option("--log-format", envvar=env("LOG_FORMAT"), help="text for people, json for one object a line."),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        envvar=env("DATABASE_URL"),
        help="PostgreSQL 15 or newer, as postgresql://USER@HOST:PORT/NAME; without it, SQLite in --data.",
    ),
]
DatabasePasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--database-password-file",
        envvar=env("DATABASE_PASSWORD_FILE"),
        help="File with the password for --database-url; without it, libpq's own ways (PGPASSFILE).",
    ),
]
