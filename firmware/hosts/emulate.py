"""What `firmware emulate` does: some boards side by side, until it is told to stop."""

import asyncio
import sys
from collections import Counter
from pathlib import Path

from firmware.hosting.config import ConfigError
from firmware.hosting.lifecycle import CannotRun, stop_on_signals, until
from firmware.hosts.build import refuse_board
from firmware.hosts.emulator import EmulatedBoard, Emulation
from firmware.hosts.settings import NodeSettings

LOOK_EVERY_S = 0.5


async def run_boards(nodes: list[tuple[NodeSettings, Path]], emulation: Emulation, port: int) -> None:
    """Run a board for each of `nodes`, settings and where they came from, on ports from `port` on (0: free ones).

    Raises `ConfigError` and `CannotRun`, the latter also once all of them have died."""
    stop = stop_on_signals()
    _refuse(nodes, port)
    emulation.prepare()
    boards: list[EmulatedBoard] = []
    try:
        for index, (settings, source) in enumerate(nodes):
            boards.append(EmulatedBoard(settings, source, emulation, port + index if port else 0))
            print(boards[-1].id, boards[-1].url, flush=True)
        await until(stop, _all_died(boards))
    finally:
        for board in boards:
            board.stop()


async def _all_died(boards: list[EmulatedBoard]) -> None:
    """Look after the boards; raises `CannotRun` once none is left."""
    alive = list(boards)
    while alive:
        await asyncio.sleep(LOOK_EVERY_S)
        for board in [board for board in alive if board.ended() is not None]:
            print(f"error: {board.id}: QEMU has ended ({_how(board.ended() or 0)})", file=sys.stderr, flush=True)
            alive.remove(board)
    raise CannotRun("no board is left")


def _how(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _refuse(nodes: list[tuple[NodeSettings, Path]], port: int) -> None:
    for settings, source in nodes:
        refuse_board(settings, source)
    if port and not 0 < port <= 65536 - len(nodes):
        raise ConfigError(f"--port: {len(nodes)} boards cannot have ports from {port} on: the last one is 65535")
    for what, found in (
        ("id", [s.id for s, _ in nodes]),
        ("data directory", [str(s.data.resolve()) for s, _ in nodes]),
    ):
        twice = [name for name, count in Counter(found).items() if count > 1]
        if twice:
            raise ConfigError(f"two boards cannot have the same {what}: {twice[0]}")
