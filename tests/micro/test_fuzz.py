"""No bytes from a stranger break a parser, on CPython or on MicroPython with the heap of a board."""

import subprocess
import sys

import pytest

from tests.micro import boards

SCRIPT = boards.ROOT / "tests" / "micro" / "fuzz.py"


@pytest.fixture
def rounds(full: bool) -> str:
    return "10000" if full else "1000"


@pytest.mark.parametrize("seed", ["1", "2"])
def test_no_garbage_breaks_a_parser_on_cpython(seed: str, rounds: str) -> None:
    command = [sys.executable, "-m", "tests.micro.fuzz", seed, rounds]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=boards.ROOT)
    assert done.stdout == f"{rounds} inputs\n", done.stdout + done.stderr


@pytest.mark.live
@pytest.mark.parametrize("seed", ["1", "2"])
def test_no_garbage_breaks_a_parser_on_micropython(seed: str, rounds: str) -> None:
    done = boards.run(SCRIPT, seed, rounds)
    assert done.stdout == f"{rounds} inputs\n", done.stdout + done.stderr
