"""The node's core asks, and each of its hosts must be able to do it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OF_THE_HOST_ITSELF = {"Event", "Store"}  # the virtual host and the asyncio pump have these built in


def asked_for() -> set[str]:
    """The names of all outputs that the node's core makes."""
    found = set()
    for path in (ROOT / "firmware/core").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "firmware.wire.outputs":
                found |= {alias.name for alias in node.names}
    return found - OF_THE_HOST_ITSELF


def performed() -> dict[str, set[str]]:
    """By file, the outputs in its table of what to do for each, of hosts that drive a node."""
    found = {}
    for path in [*(ROOT / "firmware/hosts").rglob("*.py"), ROOT / "clawsim/virtual/machines/node.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Dict):
                names = {key.id for key in node.keys if isinstance(key, ast.Name)}
                if {"Sample", "Restart"} <= names:
                    found[str(path.relative_to(ROOT))] = names
    return found


@pytest.mark.parametrize("host", performed())
def test_a_host_performs_whatever_the_nodes_core_may_ask_for(host: str) -> None:
    assert asked_for() - performed()[host] == set()


def test_the_hosts_are_found() -> None:
    assert len(performed()) >= 2
    assert {"Identify", "Sleep", "Alarm", "Sample"} <= asked_for()
