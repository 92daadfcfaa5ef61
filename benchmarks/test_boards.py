"""How many emulated boards a machine bears: what they cost it, and whether their time goes as fast as the wall's."""

import os
import time
from pathlib import Path

import psutil

from tests.micro.desk import Desk, Line

BOARDS = 16
FOR_S = 6.0
MOST_DRIFT_MS = 500
MOST_SHARE = 0.8
"""Of the processors of this machine. Both bounds leave room for one that is slow and busy; the figures are printed."""
LEAST_HEARTBEATS = 0.7 * FOR_S
"""A board says how it is every second."""


def test_16_boards_keep_real_time_on_this_machine_and_leave_some_of_it(benchmark, tmp_path: Path) -> None:
    with Desk(tmp_path, BOARDS) as desk:
        desk.serve_until(lambda: all(len(line.heartbeats) >= 2 for line in desk.lines))

        def listen() -> tuple[float, float]:
            children = [psutil.Process(line.board.pid) for line in desk.lines]
            began_s, before_s = time.monotonic(), used_s(children)
            desk.serve_until(lambda: time.monotonic() >= began_s + FOR_S)
            return used_s(children) - before_s, time.monotonic() - began_s

        cpu_s, wall_s = benchmark.pedantic(listen, rounds=1, iterations=1)
        drift_ms = max(drift_of_ms(line) for line in desk.lines)
    share = cpu_s / wall_s / (os.cpu_count() or 1)
    benchmark.extra_info.update(cpu_per_board=cpu_s / wall_s / BOARDS, share=share, drift_ms=drift_ms)
    print(f"{BOARDS} boards: {cpu_s / wall_s / BOARDS:.3f} of a core each, {share:.0%} of this machine, "
          f"{drift_ms:.0f} ms of drift in {wall_s:.0f} s")  # fmt: skip
    assert min(len(line.heartbeats) for line in desk.lines) >= LEAST_HEARTBEATS
    assert all(len(line.readings) >= 4 for line in desk.lines)
    assert share < MOST_SHARE
    assert drift_ms < MOST_DRIFT_MS


def used_s(processes: list[psutil.Process]) -> float:
    """Processor seconds so far."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def drift_of_ms(line: Line) -> float:
    """How far the board's uptime went away from the wall between the first and the second half of its heartbeats.

    Each heartbeat arrives late by some time; the least late of each half are compared."""
    behind_ms = [1000 * heard_s - beat["uptime_ms"] for heard_s, beat in line.heartbeats]
    half = len(behind_ms) // 2
    return abs(min(behind_ms[half:]) - min(behind_ms[:half]))
