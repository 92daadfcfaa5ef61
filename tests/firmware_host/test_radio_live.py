"""A node's process that speaks to a real gateway's port for concentrators, on real sockets."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.nanoclaw_host.rig import GATEWAY_KEY, NODE, NODE_KEY, Process, eventually, node_config, write_key
from tests.nanoclaw_host.test_lora_live import Farm

pytestmark = pytest.mark.live


@pytest.fixture
async def farm(tmp_path: Path) -> AsyncIterator[Farm]:
    write_key(tmp_path / "gateway.key", GATEWAY_KEY)
    write_key(tmp_path / "node.key", NODE_KEY)
    made = Farm(tmp_path)
    await made.cloud.start()
    await made.start()
    yield made
    await made.stop()


async def test_its_readings_become_batches_and_the_answer_in_the_receive_window_clears_its_flash(farm: Farm) -> None:
    config = node_config(farm.directory, 1)
    head, _, rest = config.read_text().partition("[gateway]")
    port = farm.status()["lora_port"]
    radio = f'[lora]\nsf = 7\nconcentrator = "127.0.0.1:{port}"\n[[sensors]]'
    config.write_text(head + radio + rest.partition("[[sensors]]")[2].replace("every_ms = 5000", "every_ms = 1000"))
    node = Process("node", farm.directory)
    await node.spawn("firmware.cli", config, sim_clock=False)
    await eventually(lambda: len(farm.cloud.acknowledged()) >= 3, "readings in the cloud")
    await eventually(lambda: farm.gateway.events("downlink.sent"), "an answer")
    assert {who for who, _, _ in farm.cloud.acknowledged()} == {NODE}
    assert await node.terminate() < 5
    assert not node.events("message.rejected") and "Traceback" not in node.log.read_text()
