"""A real gateway between concentrators on real UDP sockets and a cloud: frames become batches, answers come in time."""

import asyncio
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from nanoclaw.core.lora import gwmp
from tests.nanoclaw_core.air import EUI, OTHER_EUI, Board
from tests.nanoclaw_core.air import Concentrator as Scripted
from tests.nanoclaw_host.rig import (
    GATEWAY,
    NODE,
    NODE_KEY,
    WAIT_S,
    Cloud,
    Process,
    child_environment,
    eventually,
    write_key,
)
from tests.nanoclaw_host.rig import gateway_config as plain_config

pytestmark = pytest.mark.live


class Concentrator:
    """A packet forwarder with a socket of its own."""

    def __init__(self, port: int, eui: str) -> None:
        self.eui = eui
        self.heard: list[bytes] = []
        self.answered = asyncio.Event()  # it was given something to send
        self._port = port
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def _read(self) -> None:
        self.heard.append(self._socket.recv(4096))
        if self.heard[-1][3] == gwmp.PULL_RESP:
            self.answered.set()

    def raw(self, data: bytes) -> None:
        self._socket.sendto(data, ("127.0.0.1", self._port))

    def say(self, kind: int, body: bytes = b"", token: int = 1) -> None:
        self.raw(bytes([2]) + token.to_bytes(2, "big") + bytes([kind]) + bytes.fromhex(self.eui) + body)

    def hear(self, frame: bytes, **changed: Any) -> None:
        self.say(gwmp.PUSH_DATA, json.dumps({"rxpk": [rxpk(frame, **changed)]}).encode())

    def of(self, kind: int) -> list[bytes]:
        return [data for data in self.heard if data[3] == kind]

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()


def rxpk(frame: bytes, **changed: Any) -> dict[str, Any]:
    tmst_us = time.monotonic_ns() // 1000 % gwmp.TMST_WRAP_US
    return Scripted.rxpk(_Clock(tmst_us), frame, **changed)  # type: ignore[arg-type]


class _Clock:
    def __init__(self, tmst_us: int) -> None:
        self._tmst_us = tmst_us

    def tmst_us(self) -> int:
        return self._tmst_us


class Farm:
    """One gateway process with a LoRa port, on the wall clock since windows are a second long."""

    def __init__(self, directory: Path) -> None:
        self.cloud = Cloud()
        self.cloud.answers = [NODE]
        self.directory = directory
        self.gateway = Process(GATEWAY, directory)
        self.concentrators: list[Concentrator] = []

    async def start(self) -> None:
        """Until both concentrators are acknowledged and the gateway has its configuration."""
        config = plain_config(self.directory, self.cloud.broker.port)
        config.write_text(
            config.read_text()
            + "[tuning]\nwindow_ms = 500\nuplink_heartbeat_ms = 500\n[monitor]\nport = 0\n[lora]\nport = 0\n"
        )
        (self.directory / "gateway" / "status.json").unlink(missing_ok=True)
        await self.gateway.spawn("nanoclaw.cli", config, sim_clock=False)
        status = await eventually(self.status, "its status")
        for concentrator in self.concentrators:
            concentrator.close()
        self.concentrators = [Concentrator(status["lora_port"], eui) for eui in (EUI, OTHER_EUI)]
        await eventually(self._pulled, "both concentrators acknowledged")
        await eventually(lambda: self.gateway.events("config.applied"), "its configuration")

    def status(self) -> dict[str, Any]:
        path = self.directory / "gateway" / "status.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return found if found.get("running") else {}

    def _pulled(self) -> bool:
        for each in self.concentrators:
            each.say(gwmp.PULL_DATA)
        return all(each.of(gwmp.PULL_ACK) for each in self.concentrators)

    async def stop(self) -> None:
        for concentrator in self.concentrators:
            concentrator.close()
        if self.gateway.child.returncode is None:
            await self.gateway.kill()
        await self.cloud.stop()


@pytest.fixture
async def farm(tmp_path: Path) -> AsyncIterator[Farm]:
    from tests.nanoclaw_host.rig import GATEWAY_KEY

    write_key(tmp_path / "gateway.key", GATEWAY_KEY)
    made = Farm(tmp_path)
    await made.cloud.start()
    await made.start()
    yield made
    await made.stop()


async def test_frames_of_two_concentrators_become_batches_and_answers_come_in_time(farm: Farm) -> None:
    first, second = farm.concentrators
    board = Board(NODE, NODE_KEY)
    _garbage(first)
    replay = await _answered(farm, board, lambda: board.readings(0, 1, 2))
    assert {(NODE, board.boot, seq) for seq in range(3)} <= farm.cloud.acknowledged()
    await farm.gateway.kill()
    farm.gateway.trace.unlink()
    await farm.start()
    first, second = farm.concentrators
    first.hear(replay)
    second.hear(Board(NODE, b"x" * 32).readings(9))
    first.hear(Board(NODE, NODE_KEY, fleet="other-fleet").readings(9))
    reasons = await eventually(lambda: _two(farm), "a replay and a wrong key rejected")
    assert reasons == {"a frame that has come before", "a frame under another key"}
    assert not first.of(gwmp.PULL_RESP) + second.of(gwmp.PULL_RESP)
    assert farm.cloud.copies == 0
    await asyncio.to_thread(_shown, farm)
    assert await farm.gateway.terminate() < 5
    assert "Traceback" not in farm.gateway.log.read_text()


def _two(farm: Farm) -> set[str]:
    found = {event["reason"] for event in farm.gateway.events("message.rejected")}
    return found if len(found) == 2 else set()


def _garbage(concentrator: Concentrator) -> None:
    for data in (b"", b"\x02", b"\x01" * 12, b"\xff" * 2000, b'{"rxpk":[]}'):
        concentrator.raw(data)
    concentrator.say(gwmp.PUSH_DATA, b'{"rxpk":[{}, 7, null]}')


async def _answered(farm: Farm, board: Board, made: Callable[[], bytes]) -> bytes:
    """A frame that both concentrators hear, until an answer to one has come: a busy machine may miss a window."""
    first, second = farm.concentrators
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        frame = made()
        second.hear(frame, rssi=-100)
        first.hear(frame, rssi=-60)
        with suppress(TimeoutError):
            await asyncio.wait_for(first.answered.wait(), 1.2)
            break
    (answer,) = first.of(gwmp.PULL_RESP)
    assert not second.of(gwmp.PULL_RESP)
    first.say(gwmp.TX_ACK, token=int.from_bytes(answer[1:3], "big"))
    said = board.opens(json.loads(answer[4:])["txpk"])
    assert [(verb, body["upto"], body["missing"]) for verb, body in said] == [("received", 2, [])]
    await eventually(lambda: farm.gateway.events("downlink.sent"), "the downlink is counted")
    await eventually(lambda: len(farm.cloud.acknowledged()) >= 3, "three readings in the cloud")
    return frame


def _shown(farm: Farm) -> None:
    """What a user sees of it."""
    port = farm.status()["monitor_port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        metrics = answer.read().decode()
    assert f'clawland_gateway_lora_packets_total{{concentrator="{EUI}"}} 2.0' in metrics
    assert 'clawland_gateway_lora_rejected_total{reason="a frame under another key"} 1.0' in metrics
    command = [sys.executable, "-m", "nanoclaw.cli", "status", "--data", str(farm.directory / "gateway")]
    shown = subprocess.run(command, capture_output=True, text=True, env=child_environment(), check=True).stdout
    assert "2 concentrators; 1 frame of others" in shown
    assert "a frame that has come before 1" in shown
