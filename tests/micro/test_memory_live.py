"""What the node's core costs a board, measured on the emulated one, whose pointers and heap are a board's."""

from collections.abc import Callable

import pytest

from tests.micro.emulated import EmulatedBoard

pytestmark = pytest.mark.live

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
