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
MAX_BACKLOG_READINGS = 500
"""More than an hour at one in 10 s: the heap of a board holds each of them."""
_READING_BYTES = 128
"""Of a reading and of the line that forgets it, on flash; most are shorter."""
_SPARE_SECTORS = 4
"""For slots, the newest sector and the free one."""


def node_json(settings: NodeSettings, source: Path) -> dict[str, Any]:
    """The settings as a board reads them; raises `ConfigError` about `source` for what no board can do."""
    if settings.board is not None and settings.sync:
        raise ConfigError(f"{source}: node.sync: a board always waits for its flash")
    core = {**settings.core, "key": settings.core["key"].hex()}
    if core.pop("seal_block", None) and settings.sealing_key is not None:
        core["sealing_key"] = settings.sealing_key.hex()
    if core["backlog_readings"] > MAX_BACKLOG_READINGS:
        raise ConfigError(
            f"{source}: node.backlog_readings: must be at most {MAX_BACKLOG_READINGS} on a board, "
            f"not {core['backlog_readings']}"
        )
    if settings.concentrator is not None:
        raise ConfigError(f"{source}: lora: MicroPython on Linux has no radio; `firmware run` takes this file")
    if isinstance(settings.seed, str):
        raise ConfigError(f"{source}: node.seed: must be an integer on a board, not {settings.seed!r}")
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


def flash_sectors(backlog_readings: int) -> int:
    """How many sectors the ring needs for a full backlog."""
    return _SPARE_SECTORS + -(-backlog_readings * _READING_BYTES // SECTOR_BYTES)


def write_node(settings: NodeSettings, source: Path, directory: Path) -> Path:
    """Write node.json, which holds the node's keys, for its owner's eyes only. Raises OSError and `ConfigError`."""
    if settings.speed is not None:
        raise ConfigError(f"{source}: gateway.serial: a board made by this command speaks MQTT only")
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
