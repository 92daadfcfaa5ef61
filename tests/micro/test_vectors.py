"""The same vectors hold on CPython, on MicroPython as a process and, over its UART, on an emulated Cortex-M3."""

import json
from pathlib import Path

import pytest

from tests.micro import boards
from tests.micro.emulated import EmulatedBoard
from tests.vectors import vectors

FILES = sorted((boards.ROOT / "tests" / "vectors").glob("*.jsonl"))
COUNT = sum(len(path.read_text().splitlines()) for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_vectors_hold_on_cpython(path: Path) -> None:
    assert [wrong for line in path.read_text().splitlines() if (wrong := vectors.check(json.loads(line)))] == []


def test_a_vector_that_does_not_hold_is_told() -> None:
    wrong = vectors.check({"do": "valid_id", "in": ["sensor-01"], "out": False})
    assert wrong == 'valid_id(["sensor-01"]) gives True, not False'


@pytest.mark.live
def test_vectors_hold_on_micropython_with_the_heap_of_a_board() -> None:
    done = boards.run("-m", "vectors", *FILES)
    assert done.stdout.splitlines()[-1] == f"{COUNT} passed, 0 failed", done.stdout + done.stderr
    assert done.returncode == 0


@pytest.mark.live
def test_vectors_hold_on_an_emulated_cortex_m3() -> None:
    lines = [line for path in FILES for line in path.read_text().splitlines()]
    with EmulatedBoard() as board:
        board.run("import vectors, json\ndef check(line): print(vectors.check(json.loads(line)))")
        said = [board.run(f"check({line!a})").strip() for line in lines]
    assert [wrong for wrong in said if wrong] == []
    assert len(said) == COUNT
