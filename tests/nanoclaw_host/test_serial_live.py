"""A node process and a gateway process at the two ends of a cable: whatever happens, all is accounted for."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from firmware.hosts.flash import read_flash
from nanoclaw.host.outbox_store import read_outbox
from tests.cable.cable import GATEWAY, Cable
from tests.nanoclaw_host import rig as rigs
from tests.nanoclaw_host.rig import NODE, Rig, eventually

pytestmark = pytest.mark.live


class Cabled(Rig):
    """A rig whose node has no network, but a cable to its gateway."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.cable = Cable(directory)

    async def start_gateway(self) -> None:
        config = rigs.gateway_config(self.directory, self.cloud.broker.port)
        config.write_text(config.read_text() + f'[[serial]]\nname = "barn"\nurl = "{self.cable.gateway}"\n')
        await self.gateway.spawn("nanoclaw.cli", config)
        self.gateway.give_clock(self.clock)

    async def start_node(self) -> None:
        config = rigs.node_config(self.directory, 1)
        config.write_text(config.read_text().replace("port = 1\n", f'serial = "{self.cable.node}"\n'))
        await self.node.spawn("firmware.cli", config)
        self.node.give_clock(self.clock)

    async def more(self, count: int, what: str) -> None:
        before = len(self.cloud.acknowledged())
        await eventually(lambda: len(self.cloud.acknowledged()) >= before + count, what)

    def accounted(self) -> bool:
        flash = {(NODE, boot, seq) for boot, seq, _ in read_flash(self.node_data)["readings"]}
        rows = [json.loads(body) for _, kind, body in read_outbox(self.gateway_data)["outbox"] if kind == "reading"]
        outbox = {(row["sensor"], row["boot"], row["seq"]) for row in rows}
        return self.produced() <= self.cloud.acknowledged() | flash | outbox

    def status(self) -> dict[str, object]:
        found = json.loads((self.gateway_data / "status.json").read_text())["serial"][0]
        assert isinstance(found, dict)
        return found


@pytest.fixture
async def cabled(tmp_path: Path) -> AsyncIterator[Cabled]:
    made = Cabled(tmp_path)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()
        made.cable.close()


async def test_a_killed_gateway_a_drawn_plug_and_noise_cost_no_reading(cabled: Cabled) -> None:
    await cabled.more(10, "readings over the cable")
    await cabled.gateway.kill()
    await cabled.start_gateway()
    await cabled.more(10, "readings after the gateway was killed")
    cabled.cable.unplug(GATEWAY)
    cabled.cable.plug(GATEWAY)
    await cabled.more(10, "readings after the plug was drawn")
    cabled.cable.put(GATEWAY, bytes(range(256)) * 8)
    await cabled.node.kill()
    await cabled.start_node()
    await cabled.more(10, "readings after noise and a power cut of the node")
    command = {"v": 1, "id": "c1", "action": "identify", "target": NODE, "expires_utc_ms": 1_800_000_000_000}
    await cabled.cloud.broker.publish("clawland/gateway-01/cmd", json.dumps(command).encode())
    await eventually(lambda: "IDENTIFY" in cabled.node.log.read_text(), "a command over the cable")
    view = await eventually(lambda: cabled.status() if cabled.status()["nodes"] else None, "the node in the status")
    assert (view["name"], view["state"], view["nodes"]) == ("barn", "up", [NODE])
    await cabled.node.kill()
    await eventually(cabled.accounted, "every reading in the cloud, in the outbox or in the flash")
    assert set(cabled.cloud.readings) <= cabled.produced()
    assert await cabled.gateway.terminate() < 5
    told = cabled.gateway.log.read_text() + cabled.node.log.read_text()
    assert "serial port barn is open" in told and "Traceback" not in told
    assert rigs.secrets_in(told + cabled.gateway.trace.read_text()) == []
