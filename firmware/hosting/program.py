"""What every program of this project can be asked."""

from importlib.metadata import version
from typing import Any

import typer


def version_option(program: str) -> Any:
    """`--version`: prints the program's name and version, and ends it."""

    def show(wanted: bool) -> None:
        if wanted:
            print(f"{program} {version('clawsim')}")
            raise typer.Exit

    return typer.Option("--version", callback=show, is_eager=True, help="Print the version and exit.")
