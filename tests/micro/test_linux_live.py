"""A node on MicroPython, with the heap of a board, behind a real gateway process: what is promised is kept."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from firmware.hosts.build import write_node
from firmware.hosts.flash import read_flash
from firmware.hosts.settings import load_settings
from nanoclaw.host.outbox_store import read_outbox
from tests.micro import boards
from tests.nanoclaw_host import rig as rigs
from tests.nanoclaw_host.rig import NODE, Identity, Rig, eventually

pytestmark = pytest.mark.live

BACKLOG = 100
BEFORE = AFTER = 15  # readings before and after the power cut; the gateway may take a while to come back


class MicroRig(Rig):
    """A cloud and a gateway as in life, and a node on MicroPython that reads every five seconds."""

    async def start_node(self) -> None:
        more = f"backlog_readings = {BACKLOG}"
        config = rigs.node_config(self.directory, self.gateway.ready["mqtt_port"], more=more)
        path = write_node(load_settings(config), config, self.directory / "build")
        command = boards.command("-m", "firmware.hosts.micro.linux", path, self.node.trace)
        await self.node.run(command, boards.environment())
        self.node.give_clock(self.clock)

    def accounted(self, produced: set[Identity]) -> bool:
        """Whether each of `produced` is in the cloud, on the gateway's disk or in the node's flash."""
        flash = {(NODE, boot, seq) for boot, seq, _ in read_flash(self.node_data).get("readings", [])}
        rows = [json.loads(body) for _, kind, body in read_outbox(self.gateway_data)["outbox"] if kind == "reading"]
        outbox = {(row["sensor"], row["boot"], row["seq"]) for row in rows}
        return produced <= self.cloud.acknowledged() | flash | outbox


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[MicroRig]:
    boards.micropython()
    made = MicroRig(tmp_path)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


async def test_a_board_behind_a_gateway_obeys_once_and_loses_nothing_to_an_outage_and_a_power_cut(
    running: MicroRig,
) -> None:
    cloud, node = running.cloud, running.node
    await eventually(lambda: len(cloud.acknowledged()) >= 5, "the first readings in the cloud")

    command = {"v": 1, "id": "c1", "action": "restart", "target": NODE, "expires_utc_ms": 1_800_000_000_000}
    for _ in range(3):
        await cloud.broker.publish("clawland/gateway-01/cmd", json.dumps(command).encode())
    await eventually(lambda: len(node.events("node.started")) == 2, "the restart")
    boots = [event["boot"] for event in node.events("node.started")]
    assert boots[1] == boots[0] + 1
    await eventually(lambda: any(b == boots[1] for _, b, _ in cloud.acknowledged()), "readings of the second boot")

    await running.gateway.kill()
    await more_readings(running, BEFORE)
    await node.kill()
    assert running.accounted(running.produced())
    await running.start_node()
    await more_readings(running, AFTER)
    during = running.produced()
    await running.start_gateway()
    await eventually(lambda: during <= cloud.acknowledged(), "all that was read before and during the outage")
    assert cloud.readings.keys() <= running.produced()
    assert [event["id"] for event in node.events("command.executed")] == ["c1"]
    assert node.events("reading.lost") == []
    assert "Traceback" not in node.log.read_text()
    assert rigs.secrets_in(node.log.read_text() + node.trace.read_text()) == []


async def test_a_board_whose_starter_dies_does_not_stay_behind(running: MicroRig) -> None:
    assert running.node.child.stdin is not None
    running.node.child.stdin.close()
    async with asyncio.timeout(5):
        assert await running.node.child.wait() == 0


async def test_sigterm_ends_a_board_cleanly_and_its_flash_is_for_one_process_at_a_time(running: MicroRig) -> None:
    await eventually(lambda: len(running.produced()) >= 2, "the first readings")
    path = running.directory / "build" / "node.json"
    second = await asyncio.to_thread(boards.run, "-m", "firmware.hosts.micro.linux", path)
    assert second.returncode == 3
    assert second.stderr == f"error: {running.node_data} is in use by another process\n"
    assert await running.node.terminate() < 5
    assert running.node.child.returncode == 0
    assert "Traceback" not in running.node.log.read_text()
    assert running.accounted(running.produced())


async def more_readings(running: MicroRig, count: int) -> None:
    """Wait until the node has read so many more."""
    wanted = len(running.produced()) + count
    await eventually(lambda: len(running.produced()) >= wanted, f"{count} more readings")
