"""`firmware bench`: one measurement (`firmware.hosts.micro.bench`) on this Python, on MicroPython, or on a board."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from firmware.hosts.micro import bench
from firmware.hosts.micro.main import HOLD_FILE, SLOT_FILE
from firmware.hosts.port import BoardPort, PortError

HEAP = "48k"
_ROUNDS_ON_A_BOARD = 3
_ROWS = (
    ("core_bytes", "{:>9,} bytes", "RAM of the core and its program, with no reading in its backlog"),
    ("reading_bytes", "{:>9,} bytes", "RAM of each reading in the backlog"),
    ("free_bytes", "{:>9,} bytes", "of the heap are free then"),
    ("sent_us", "{:>9,.1f} µs   ", "to read, keep and send a value"),
    ("received_us", "{:>9,.1f} µs   ", "to take a message of the gateway"),
)


def measure(port: str | None, micropython: Path | None, wait_s: float) -> dict[str, Any]:
    """What it costs, on the board at `port`, or by the interpreter `micropython`, or here. Raises `PortError`."""
    if port is not None:
        return _on_board(port, wait_s)
    if micropython is not None:
        return _by_interpreter(micropython)
    return bench.measure()


def shown(found: dict[str, Any]) -> str:
    """The figures as a table."""
    rows = [f"{form.format(found[key])}  {what}" for key, form, what in _ROWS if key in found]
    return "\n".join([f"{found['on']} on {found['platform']}:", *rows])


def _on_board(port: str, wait_s: float) -> dict[str, Any]:
    """In the slot that runs, while it does not."""
    board = BoardPort(port, wait_s)
    try:
        slot = board.text(SLOT_FILE)
        if slot is None:
            raise PortError(f"{port}: the board has no firmware of ours: `firmware flash` brings it")
        board.write(HOLD_FILE, b"")
        board.reset()
        board = BoardPort(port, wait_s)
        code = f"import json, sys\nsys.path.insert(0, {slot.strip()!r})\nfrom firmware.hosts.micro import bench\n"
        return _figures(board.run(f"{code}print(json.dumps(bench.measure({_ROUNDS_ON_A_BOARD})))"), port)
    finally:
        board.reset()


def _by_interpreter(program: Path) -> dict[str, Any]:
    command = [str(program.resolve()), "-X", f"heapsize={HEAP}", "-m", "firmware.hosts.micro.bench"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "MICROPYPATH": ".frozen"}, cwd="/"
        )
    except OSError as error:
        raise PortError(f"{program}: cannot be run: {error.strerror}; `make boards` builds one") from None
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"it ended with {done.returncode}"]
        raise PortError(f"{program}: {last[0]}; is it the MicroPython that `make boards` builds?")
    return _figures(done.stdout, str(program))


def _figures(text: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        raise PortError(f"{where}: answers what makes no sense") from None
    return dict(found)
