"""What `firmware build` makes of a node's TOML file for a board, which reads JSON and has no room to check it again."""

import json
import os
from pathlib import Path
from typing import Any

from firmware.hal.signals import SignalError
from firmware.hosting.config import ConfigError
from firmware.hosts.micro.ring import SECTOR_BYTES
from firmware.hosts.settings import NodeSettings

NODE_FILE = "node.json"
BOARD_FLASH = "clawland.flash"
"""The ring's directory on a board, where no flashing touches it."""
MOST_READINGS = 100
"""Of a backlog in 48 KB of heap, that of a MicroPython process and of an emulated board: 115 bytes each, beside 21 KB
of the program and what a start needs for a while."""
MOST_READINGS_ON_A_BOARD = 200
"""In the 80 KB that an ESP32 has left of 160 when the bundle is loaded; a Pico W has more."""
_READING_BYTES = 128
"""Of a reading and of the line that forgets it, on flash; most are shorter."""
_SPARE_SECTORS = 4
"""For slots, the newest sector and the free one."""


def node_json(settings: NodeSettings, source: Path) -> dict[str, Any]:
    """The settings as a board reads them; raises `ConfigError` about `source` for what no board can do."""
    _refuse(settings, source)
    core = {**settings.core, "key": settings.core["key"].hex(), "backlog_readings": _backlog(settings, source)}
    if core.pop("seal_block", None) and settings.sealing_key is not None:
        core["sealing_key"] = settings.sealing_key.hex()
    return {
        "core": core,
        "signals": [_portable(settings, index, source) for index in range(len(settings.signals))],
        **({} if settings.board is None else {"board": settings.board}),
        "flash": {
            "directory": str(settings.data.resolve()) if settings.board is None else BOARD_FLASH,
            "sectors": flash_sectors(core["backlog_readings"]),
            "sector_bytes": SECTOR_BYTES,
        },
        "bind_address": settings.bind_address,
        "interface": settings.interface,
        "seed": settings.seed,
        "sample_until_ms": settings.sample_until_ms,
    }


def refuse_board(settings: NodeSettings, source: Path) -> None:
    """Raises `ConfigError` for the configuration of a board where that of a process is wanted."""
    if settings.board is not None:
        raise ConfigError(f"{source}: is a board's configuration ([board]): `firmware flash` brings it there")


def _refuse(settings: NodeSettings, source: Path) -> None:
    """What no board, or no host of MicroPython, can do."""
    if settings.concentrator is not None:
        raise ConfigError(f"{source}: lora: MicroPython has no radio here; `firmware run` takes this file")
    if settings.tls is not None:
        raise ConfigError(
            f"{source}: gateway.tls: boards speak without TLS: leave tls and fingerprint out, and give the gateway's "
            "plain port (port = 1883)"
        )
    if isinstance(settings.seed, str):
        raise ConfigError(f"{source}: node.seed: must be an integer on a board, not {settings.seed!r}")
    if settings.board is None:
        return
    if settings.speed is not None:
        raise ConfigError(
            f"{source}: gateway.serial: the boards' host knows Wi-Fi only: write host and port instead of it"
        )
    if settings.bind_address:
        raise ConfigError(f"{source}: gateway.bind_address: leave it out: a board has one address")
    if settings.sync:
        raise ConfigError(f"{source}: node.sync: a board always waits for its flash")


def _backlog(settings: NodeSettings, source: Path) -> int:
    """How many readings are kept: no more than the heap holds when it has to take them all from flash."""
    most = MOST_READINGS if settings.board is None else MOST_READINGS_ON_A_BOARD
    wanted: int = settings.core["backlog_readings"]
    if not settings.backlog_given:
        return min(wanted, MOST_READINGS)
    if wanted > most:
        where = "in 48 KB of heap" if settings.board is None else "on a board"
        raise ConfigError(f"{source}: node.backlog_readings: must be at most {most} {where}, not {wanted}")
    return wanted


def flash_sectors(backlog_readings: int) -> int:
    """How many sectors the ring needs for a full backlog."""
    return _SPARE_SECTORS + -(-backlog_readings * _READING_BYTES // SECTOR_BYTES)


def write_node(settings: NodeSettings, source: Path, directory: Path) -> Path:
    """Write node.json of a MicroPython process, with the node's keys, for its owner's eyes only.

    Raises OSError and `ConfigError`."""
    refuse_board(settings, source)
    if settings.speed is not None:
        raise ConfigError(f"{source}: gateway.serial: a MicroPython process speaks MQTT only; `firmware run` takes it")
    data = json.dumps(node_json(settings, source), indent=1).encode()
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / NODE_FILE
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
    path.chmod(0o600)
    return path


def _portable(settings: NodeSettings, index: int, source: Path) -> list[Any]:
    try:
        return settings.signals[index].portable()
    except SignalError as error:
        raise ConfigError(f"{source}: sensors[{index}].signal: {error}") from None
