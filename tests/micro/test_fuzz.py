"""No bytes from a stranger break a parser, on CPython or on MicroPython with the heap of a board."""

import subprocess
import sys

import pytest

from tests.micro import boards

SCRIPT = boards.ROOT / "tests" / "micro" / "fuzz.py"


@pytest.fixture
def rounds(full: bool) -> str:
    return "10000" if full else "1000"


OF_WHAT = [("1",), ("2",), ("3", "radio"), ("4", "parts")]


@pytest.mark.parametrize("of_what", OF_WHAT, ids=" ".join)
def test_no_garbage_breaks_a_parser_on_cpython(of_what: tuple[str, ...], rounds: str) -> None:
    command = [sys.executable, "-m", "tests.micro.fuzz", of_what[0], rounds, *of_what[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=boards.ROOT)
    assert done.stdout == f"{rounds} inputs\n", done.stdout + done.stderr


@pytest.mark.live
@pytest.mark.parametrize("of_what", OF_WHAT, ids=" ".join)
def test_no_garbage_breaks_a_parser_on_micropython(of_what: tuple[str, ...], rounds: str) -> None:
    done = boards.run(SCRIPT, of_what[0], rounds, *of_what[1:])
    assert done.stdout == f"{rounds} inputs\n", done.stdout + done.stderr
