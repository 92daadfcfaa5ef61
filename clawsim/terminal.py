"""Standard output and standard error as this command uses them: they may be too narrow, too plain, or gone."""

from __future__ import annotations

import codecs
import io
import os
import sys
from contextlib import suppress

from rich.console import Console

PIPE_WIDTH = 120
"""Columns of the output where no terminal says how wide it is."""
PLAIN = "plain"
"""Name of the error handler that writes a sign in ASCII where the encoding has not got it."""

_IN_ASCII = {
    "✓": "+", "✗": "x", "…": "..", "–": "-", "×": "x", "·": ".", "•": "*", "▲": "^", "▼": "v", "⚡": "# ", "━": "#",
    "─": "-", "°": "deg ", "µ": "u",
}  # fmt: skip


class Output(Console):
    """Standard output, with the texts of scenarios shown as they are."""

    def __init__(self) -> None:
        super().__init__(markup=False, highlight=False, emoji=False)
        if not self.is_terminal:
            self.width = PIPE_WIDTH

    def on_broken_pipe(self) -> None:
        """Whoever read has seen enough: nothing more is said, and the exit code stays that of the work."""
        self.quiet = True
        silence_stdout()


def say(text: str) -> None:
    """Prints `text` for a program to read; it does not matter when nobody reads on. Raises OSError."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        silence_stdout()


def complain(text: object) -> None:
    """Prints `text` on standard error."""
    with suppress(BrokenPipeError):
        print(text, file=sys.stderr, flush=True)


def silence_stdout() -> None:
    """What is still in the buffer goes nowhere, or the interpreter would trip over it as it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def stdout_is_plain() -> bool:
    """Whether standard output has hardly more than ASCII."""
    return not (sys.stdout.encoding or "").lower().startswith("utf")


def use_plain_signs() -> None:
    """From now on a sign that an output's encoding has not got is written in ASCII, and is no error."""
    codecs.register_error(PLAIN, _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=PLAIN)


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(_IN_ASCII.get(sign, "?") for sign in signs), error.end
