"""Emulated boards on a desk, each at a line of a gateway that does nothing but listen and say that it has received."""

import json
import random
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from firmware.hosts.emulator import EmulatedBoard, Emulation
from firmware.hosts.settings import load_settings
from firmware.wire.auth import Sealer
from firmware.wire.messages import encode_received
from firmware.wire.serial import SESSION_BITS
from firmware.wire.topics import split
from nanoclaw.core.serial_line import SerialLine
from tests.micro import boards
from tests.nanoclaw_host.rig import write_key

KEY, SEALING_KEY = bytes(range(32)), bytes(range(64, 96))
WAIT_S = 60.0


@dataclass
class Line:
    """A board, and what was heard of it: heartbeats with the wall's seconds, and readings."""

    board: EmulatedBoard
    heartbeats: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    readings: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        host, port = self.board.url.removeprefix("socket://").split(":")
        self.socket = socket.create_connection((host, int(port)))
        self._sealer = Sealer(KEY)
        self._end = SerialLine(lambda node: self._sealer, lambda: random.getrandbits(SESSION_BITS))

    def serve(self, readable: bool) -> None:
        """Take what has come, if anything, and send what is to be sent."""
        now_ms = time.monotonic_ns() // 1_000_000
        self._end.on_timer(now_ms)
        for event in self._end.receive(self.socket.recv(65536), now_ms) if readable else []:
            if event[0] == "message":
                self._on_message(event[1], json.loads(event[2]), now_ms)
        while self._end.out:
            self._end.sent(self.socket.send(self._end.out))

    def _on_message(self, topic: str, body: dict[str, Any], now_ms: int) -> None:
        _, verb = split(topic) or ("", "")
        if verb == "heartbeat":
            self.heartbeats.append((time.monotonic(), body))
        elif verb != "beacon":
            self.readings.append(body)
        span = (0, self.readings[-1]["seq"]) if self.readings else None
        n = self.heartbeats[-1][1]["n"] if self.heartbeats else 0
        name = f"clawland/{self.board.id}/received"
        self._end.send(name, self._sealer.seal(name, encode_received(body["boot"], span, [], n)), now_ms)


class Desk:
    """`count` boards that are switched on for the length of a `with`. They say how they are every second."""

    def __init__(self, directory: Path, count: int) -> None:
        self._directory = directory
        self._count = count
        self.lines: list[Line] = []

    def __enter__(self) -> Self:
        boards.micropython()
        write_key(self._directory / "node.key", KEY)
        write_key(self._directory / "sealing.key", SEALING_KEY)
        try:
            for number in range(1, self._count + 1):
                config = self._write_config(f"sensor-{number:02d}")
                self.lines.append(Line(EmulatedBoard(load_settings(config), config, Emulation())))
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._stop()

    def serve_until(self, holds: Callable[[], bool]) -> None:
        """Serve all lines until `holds()`."""
        deadline_s = time.monotonic() + WAIT_S
        while not holds():
            assert time.monotonic() < deadline_s, [len(line.heartbeats) for line in self.lines]
            readable, _, _ = select.select([line.socket for line in self.lines], [], [], 0.05)
            for line in self.lines:
                line.serve(line.socket in readable)

    def _stop(self) -> None:
        for line in self.lines:
            line.socket.close()
            line.board.stop()

    def _write_config(self, who: str) -> Path:
        path = self._directory / f"{who}.toml"
        path.write_text(
            f'[node]\nid = "{who}"\nkey_file = "node.key"\ndata = "{who}"\nheartbeat_ms = 1000\n'
            'sealing_key_file = "sealing.key"\nbacklog_readings = 100\n'
            '[gateway]\nid = "gateway-01"\n'
            '[[sensors]]\nprofile = "temp"\nevery_ms = 2000\n'
            'signal = { kind = "sine", mean = 22.0, amplitude = 3.0, period_ms = 60000 }\n'
            '[[sensors]]\nprofile = "co2"\nsealed = true\nevery_ms = 2000\n'
            'signal = { kind = "constant", value = 600 }\n'
        )
        return path
