"""What a node costs: its core on the emulated board, whose pointers and heap are a board's, and a process here."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from firmware.hosts.build import write_node
from firmware.hosts.settings import load_settings
from tests.conftest import FULL
from tests.micro import boards
from tests.micro.desk import Desk
from tests.micro.emulated import EmulatedBoard
from tests.nanoclaw_host.rig import node_config, write_key

pytestmark = pytest.mark.live
HEAP_KB = 48  # of the board
NODES = 100 if FULL else 20

NODE = """
import gc
gc.collect()
before = gc.mem_alloc()
import random
from firmware.core.node import NodeCore
sensor = {"metric": "temp", "unit": "C", "exp": 2, "every_ms": 30000}
home = {"id": "gateway-01", "target": "127.0.0.1:1883"}
config = {"id": "sensor-01", "fleet": "clawland", "key": bytes(32), "home": home, "sensors": [sensor]}
core = NodeCore(config, {}, random, 0)
core.take_outputs()
core.stored(1, 0)
core.take_outputs()
gc.collect()
empty = gc.mem_alloc()
print(empty - before)
"""
READINGS = """
for n in range(100):
    core.sampled(0, 2500 + n, 30000 * n)
    core.take_outputs()
gc.collect()
print((gc.mem_alloc() - empty) // 100)
"""


def test_the_core_free_of_backlog_takes_less_than_30_kb_and_a_reading_less_than_160_bytes(
    record_property: Callable[[str, object], None],
) -> None:
    with EmulatedBoard() as board:
        core_bytes, reading_bytes = int(board.run(NODE)), int(board.run(READINGS))
    record_property("core_bytes", core_bytes)
    record_property("reading_bytes", reading_bytes)
    print(f"the core takes {core_bytes} bytes of RAM on a Cortex-M3, a reading in its backlog {reading_bytes}")
    assert core_bytes < 30_000
    assert reading_bytes < 160


def test_a_whole_node_free_of_backlog_takes_less_than_30_kb_of_an_emulated_board(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """All that is on the heap: the host, the core, the session with the gateway, the flash's index."""
    with Desk(tmp_path, 1) as desk:
        beats = desk.lines[0].heartbeats
        desk.serve_until(lambda: len([beat for _, beat in beats if not beat["backlog"]]) >= 4)
    used_kb = [HEAP_KB - beat["free_memory_kb"] for _, beat in beats if not beat["backlog"]]
    record_property("node_kb", max(used_kb))
    print(
        f"a node on a Cortex-M3 takes {used_kb[0]} KB of RAM after its start and {max(used_kb)} KB in its steady state"
    )
    assert max(used_kb) < 30


def test_a_node_as_a_micropython_process_takes_less_than_half_a_megabyte(tmp_path: Path) -> None:
    write_key(tmp_path / "node.key", bytes(32))
    config = node_config(tmp_path, 1, more="backlog_readings = 100")
    children = []
    try:
        for number in range(NODES):
            text = config.read_text().replace('data = "node"', f'data = "node-{number}"')
            copy = tmp_path / f"{number}.toml"
            copy.write_text(text)
            path = write_node(load_settings(copy), copy, tmp_path / str(number))
            command = boards.command("-m", "firmware.hosts.micro.linux", path, tmp_path / f"trace-{number}")
            children.append(
                subprocess.Popen(command, env=boards.environment(), cwd=tmp_path, stderr=subprocess.DEVNULL)
            )
        wait_for(lambda: all((tmp_path / f"trace-{number}").exists() for number in range(NODES)))
        wait_for(lambda: all("produced" in (tmp_path / f"trace-{n}").read_text() for n in range(NODES)))
        pss_kb = sum(psutil.Process(child.pid).memory_full_info().pss for child in children) // NODES // 1024
    finally:
        for child in children:
            child.kill()
            child.wait()
    print(f"a node as a MicroPython process takes {pss_kb} KB (proportional set size of {NODES})")
    assert pss_kb < 500


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
