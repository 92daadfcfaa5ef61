"""A node on the emulated Cortex-M3, at a serial port of a real gateway process: what is promised is kept."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from firmware.wire.sealing import TAG_BYTES, about_of, blob_of, nonce_of
from tests.micro import boards
from tests.micro.desk import SEALING_KEY, Desk
from tests.micro.test_linux_live import BACKLOG, MicroRig, more_readings
from tests.nanoclaw_host import rig as rigs
from tests.nanoclaw_host.rig import NODE, child_environment, eventually

pytestmark = pytest.mark.live

TIMESCALE = 5  # no more, because what is said again on the line is said again so much sooner
BEFORE = AFTER = 8  # readings before and after the power cut
HEARTBEAT_MS, EVERY_MS, WINDOW_MS = 10_000, 1_000, 5_000
SLACK_MS = 2_000 * TIMESCALE  # for what processes take on a busy machine


class EmulatedRig(MicroRig):
    """A cloud and a gateway as in life, and a board under QEMU at the gateway's serial port."""

    url = ""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.clock["timescale"] = TIMESCALE

    async def start(self) -> None:
        await self.cloud.start()
        await self.start_node()
        await self.start_gateway()

    async def start_gateway(self) -> None:
        config = rigs.gateway_config(self.directory, self.cloud.broker.port)
        more = f'[tuning]\nwindow_ms = {WINDOW_MS}\n[[serial]]\nurl = "{self.url}"\n'
        config.write_text(config.read_text() + more)
        await self.gateway.spawn("nanoclaw.cli", config)
        self.gateway.give_clock(self.clock)

    async def start_node(self) -> None:
        """Switch the board on, at the port that it had before."""
        more = f"backlog_readings = {BACKLOG}\nheartbeat_ms = {HEARTBEAT_MS}"
        config = rigs.node_config(self.directory, 1, more=more)
        config.write_text(config.read_text().replace("every_ms = 5000", f"every_ms = {EVERY_MS}"))
        command = [str(boards.ROOT / ".venv" / "bin" / "firmware"), "emulate", str(config)]
        command += ["--timescale", str(TIMESCALE), "--trace", str(self.directory)]
        command += ["--port", self.url.rpartition(":")[2] or "0"]
        await self.node.run(command, child_environment(), sim_clock=False)
        assert self.node.child.stdout is not None
        line = (await self.node.child.stdout.readline()).decode()
        assert line.startswith(f"{NODE} socket://127.0.0.1:"), line + self.node.log.read_text()
        self.url = line.split()[1]

    def now_ms(self) -> int:
        """The gateway's time."""
        return (time.monotonic_ns() - self.clock["t0_monotonic_ns"]) * TIMESCALE // 1_000_000

    async def cut_power(self) -> None:
        """Kill QEMU."""
        self.qemu().kill()
        assert await self.node.child.wait() == 3

    def qemu(self) -> psutil.Process:
        """The board's process; `firmware emulate` is its parent."""
        return psutil.Process(self.node.child.pid).children()[0]


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[EmulatedRig]:
    boards.micropython()
    made = EmulatedRig(tmp_path)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


def test_what_an_emulated_board_seals_only_the_sealing_key_opens(tmp_path: Path) -> None:
    with Desk(tmp_path, 1) as desk:
        line = desk.lines[0]
        desk.serve_until(lambda: len(line.readings) >= 4)
    sealed = [reading for reading in line.readings if "sealed" in reading]
    assert len(sealed) >= 2
    for reading in sealed:
        boot, seq, blob = reading["boot"], reading["seq"], blob_of(reading["sealed"])
        assert "value" not in reading
        assert blob is not None
        about = about_of(line.board.id, "co2", boot, seq)
        value = AESCCM(SEALING_KEY, tag_length=TAG_BYTES).decrypt(nonce_of(boot, seq), blob, about)
        assert json.loads(value) == 600


async def test_a_board_at_a_serial_port_obeys_once_and_loses_nothing_to_an_outage_and_the_death_of_qemu(
    running: EmulatedRig,
) -> None:
    cloud, node, gateway = running.cloud, running.node, running.gateway
    await eventually(lambda: len(cloud.acknowledged()) >= 5, "the first readings in the cloud")

    command = {"v": 1, "id": "c1", "action": "restart", "target": NODE, "expires_utc_ms": 1_800_000_000_000}
    for _ in range(3):
        await cloud.broker.publish("clawland/gateway-01/cmd", json.dumps(command).encode())
    await eventually(lambda: len(node.events("node.started")) == 2, "the restart")
    boots = [event["boot"] for event in node.events("node.started")]
    assert boots[1] == boots[0] + 1
    await eventually(lambda: any(b == boots[1] for _, b, _ in cloud.acknowledged()), "readings of the second boot")

    await running.cut_power()
    died_ms = running.now_ms()
    await eventually(lambda: gateway.events("node.down"), "the gateway's word that the node is down")
    silent_ms = gateway.events("node.down")[0]["t_ms"] - died_ms
    assert 2 * HEARTBEAT_MS - SLACK_MS < silent_ms < 3 * HEARTBEAT_MS + SLACK_MS
    await running.start_node()
    await eventually(lambda: gateway.events("node.up"), "the gateway's word that the node is back")

    await gateway.kill()
    await more_readings(running, BEFORE)
    await running.cut_power()
    assert running.accounted(running.produced())
    await running.start_node()
    await more_readings(running, AFTER)
    during = running.produced()
    await running.start_gateway()
    await eventually(lambda: during <= cloud.acknowledged(), "all that was read before and during the outage")
    assert cloud.readings.keys() <= running.produced()
    assert [event["id"] for event in node.events("command.executed")] == ["c1"]
    assert node.events("reading.lost") == []
    log = node.log.read_text()
    assert "error: sensor-01: QEMU has ended (killed by signal 9)\nerror: no board is left\n" in log
    assert "Traceback" not in log
    assert rigs.secrets_in(log + node.trace.read_text()) == []

    board = running.qemu()
    await node.kill()
    await eventually(lambda: not board.is_running() or board.status() == psutil.STATUS_ZOMBIE, "the board is no orphan")
