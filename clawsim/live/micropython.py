"""Nodes on MicroPython: where the interpreter is, and what a node with the heap of a board can hold."""

from __future__ import annotations

import os
from pathlib import Path

from clawsim.scenario.plan import Plan
from firmware.hosts.build import MOST_READINGS

HEAP = "48k"
VARIABLE = "CLAWSIM_MICROPYTHON"
_BUILT = Path(__file__).resolve().parents[2] / ".cache" / "boards" / "micropython"


class NoInterpreter(Exception):
    """There is no MicroPython with the firmware in it; the message says how to get one."""


def interpreter() -> str:
    """The path of the MicroPython that `make boards` builds; :class:`NoInterpreter`."""
    given = os.environ.get(VARIABLE)
    path = Path(given) if given else _BUILT
    if not os.access(path, os.X_OK) or path.is_dir():
        where = f"{VARIABLE} names {path}, which is no program" if given else f"there is no {path}"
        raise NoInterpreter(f"nodes as micropython need its interpreter, and {where}: run `make boards`")
    return str(path)


def remarks(plan: Plan, real: frozenset[str]) -> list[str]:
    """What of ``plan`` is otherwise on MicroPython."""
    cut = sum(node.id in real and node.backlog_readings > MOST_READINGS for node in plan.nodes)
    return (
        [f"on MicroPython {cut} nodes keep {MOST_READINGS} readings, not as many as the scenario says"] if cut else []
    )
