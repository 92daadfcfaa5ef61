"""The boards that scripts/boards.sh builds, brought up to date with the firmware."""

import os
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAP = "48k"


@cache
def micropython() -> str:
    """The path of the interpreter with the present firmware frozen in."""
    done = subprocess.run([ROOT / "scripts" / "boards.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return str(ROOT / ".cache" / "boards" / "micropython")


def command(*arguments: str | Path, heap: str = HEAP) -> list[str]:
    """A command line for the interpreter, with the heap of a board."""
    return [micropython(), "-X", f"heapsize={heap}", *map(str, arguments)]


def environment() -> dict[str, str]:
    """This process's environment, in which only what is frozen into a board is found."""
    return {**os.environ, "MICROPYPATH": ".frozen"}


def run(*arguments: str | Path, heap: str = HEAP, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the interpreter to its end."""
    return subprocess.run(
        command(*arguments, heap=heap), capture_output=True, text=True, check=False, env=environment(), timeout=60,
        input=stdin, cwd="/",
    )  # fmt: skip
