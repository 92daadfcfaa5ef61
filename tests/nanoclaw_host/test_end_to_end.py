"""A real gateway process and a real node process, paced thirty times faster than life: what is promised is kept."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from firmware.hosting.mqtt import Login, MqttPort
from firmware.hosts.flash import read_flash
from firmware.wire.auth import mqtt_password
from nanoclaw.host.outbox_store import read_outbox
from tests.hosting.test_mqtt_port import Ears
from tests.nanoclaw_host import rig as rigs
from tests.nanoclaw_host.rig import NODE, NODE_KEY, Rig, eventually, rig

pytestmark = pytest.mark.live


@pytest.fixture(params=["embedded", "mosquitto"])
async def running(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path) as made:
        made.broker = request.param
        await made.start()
        yield made


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path) as made:
        await made.start()
        yield made


async def test_readings_reach_the_hub_as_batches_and_received_clears_the_flash(running: Rig) -> None:
    await eventually(lambda: len(running.cloud.acknowledged()) >= 20, "twenty readings in the cloud")
    oldest = min(seq for _, _, seq in running.cloud.acknowledged())
    kept = {seq for _, seq, _ in read_flash(running.node_data)["readings"]}
    assert oldest not in kept
    assert len(kept) < len(running.produced())
    await eventually(lambda: running.gateway.events("gateway.online"), "the gateway online")
    for process in (running.gateway, running.node):
        assert await process.terminate() < 5
        assert process.child.returncode == 0
        assert rigs.secrets_in(process.log.read_text() + process.trace.read_text()) == []
    assert not list(running.gateway_data.glob("mosquitto-*"))


async def test_killing_node_and_gateway_again_and_again_loses_nothing(embedded: Rig) -> None:
    cloud = embedded.cloud
    await eventually(lambda: len(cloud.acknowledged()) >= 5, "the first batch")
    for _ in range(2):
        await embedded.gateway.kill()
        await asyncio.sleep(0.3)
        await embedded.node.kill()
        await embedded.start_gateway()
        await embedded.start_node()
        before = len(cloud.acknowledged())
        await eventually(lambda before=before: len(cloud.acknowledged()) > before + 20, "batches after the crash")
    produced = embedded.produced()
    await embedded.node.kill()

    def accounted() -> bool:
        flash = {(NODE, boot, seq) for boot, seq, _ in read_flash(embedded.node_data)["readings"]}
        return produced <= cloud.acknowledged() | flash | _in_outbox(embedded)

    await eventually(accounted, "every reading in the cloud, on the gateway's disk or in the node's flash")
    assert set(cloud.readings) <= produced


async def test_a_gateway_keeps_on_disk_what_the_cloud_has_not_acknowledged(embedded: Rig) -> None:
    embedded.cloud.acknowledges = False
    await eventually(lambda: embedded.cloud.readings, "a batch that nobody acknowledges")
    await embedded.gateway.kill()
    sent = set(embedded.cloud.readings)
    assert sent <= _in_outbox(embedded)
    embedded.cloud.acknowledges = True
    await embedded.start_gateway()
    await eventually(lambda: sent <= embedded.cloud.acknowledged(), "the batch again after the crash")
    await eventually(lambda: not sent & _in_outbox(embedded), "the disk free of what the cloud has")


async def test_a_node_restarted_by_command_comes_back_on_the_same_clock_with_the_next_boot(embedded: Rig) -> None:
    await eventually(lambda: embedded.cloud.acknowledged(), "the first batch")
    command = {"v": 1, "id": "c1", "action": "restart", "target": NODE, "expires_utc_ms": 1_800_000_000_000}
    pid = embedded.node.child.pid
    await embedded.cloud.broker.publish("clawland/gateway-01/cmd", json.dumps(command).encode())
    boots = await eventually(lambda: _two(embedded.node.events("node.started")), "the node's second boot")
    assert boots[1]["boot"] == boots[0]["boot"] + 1
    assert boots[1]["t_ms"] > boots[0]["t_ms"]
    assert embedded.node.child.pid == pid
    before = len(embedded.node.events("reading.produced"))
    await eventually(lambda: len(embedded.node.events("reading.produced")) > before + 2, "readings of the second boot")
    assert embedded.node.child.stdin is not None
    embedded.node.child.stdin.close()
    async with asyncio.timeout(5):
        await embedded.node.child.wait()


async def test_a_node_with_a_wrong_key_is_refused_and_keeps_its_readings(tmp_path: Path) -> None:
    async with rig(tmp_path) as made:
        await made.cloud.start()
        await made.start_gateway()
        await eventually(lambda: made.gateway.events("config.applied"), "the gateway's configuration")
        rigs.write_key(tmp_path / "wrong.key", bytes(32))
        await made.node.spawn("firmware.cli", rigs.node_config(tmp_path, made.gateway.ready["mqtt_port"], "wrong.key"))
        made.node.give_clock(made.clock)
        await eventually(lambda: made.gateway.events("client.refused"), "the refusal")
        await eventually(lambda: len(made.produced()) >= 3, "readings all the same")
        assert made.cloud.readings == {}
        assert len(read_flash(made.node_data)["readings"]) >= 3
        assert "refused" in made.node.log.read_text()


async def test_garbage_on_any_topic_is_counted_and_nothing_dies(embedded: Rig) -> None:
    await eventually(lambda: embedded.cloud.acknowledged(), "the first batch")
    ears = Ears()
    port = MqttPort("up", Login(NODE, mqtt_password(NODE_KEY)), [], ears, target=_local(embedded))
    garbage = [b"", b"\xff\xfe", b"{", b"[]", b"null", b'{"value":NaN}', b'{"value":1e999}', b"[" * 400, b"x" * 600]
    await embedded.node.kill()
    port.connect()
    await ears.until("up")
    sent = 0
    for verb in ("temp", "heartbeat", "beacon", "ack", "batch", "config", "no-such-thing"):
        for payload in garbage:
            sent += port.send(f"clawland/{NODE}/{verb}", payload)
    assert sent == 63
    await port.close()
    rejected = await eventually(
        lambda: _at_least(embedded.gateway.events("message.rejected"), sent), "all of it rejected, and counted"
    )
    assert rejected
    await embedded.start_node()
    for topic in ("batch/ack", "heartbeat/ack", "cmd", "config"):
        for payload in garbage:
            await embedded.cloud.broker.publish(f"clawland/gateway-01/{topic}", payload)
    before = embedded.cloud.acknowledged()
    await eventually(lambda: len(embedded.cloud.acknowledged()) > len(before) + 10, "readings after the garbage")
    assert "critical" not in embedded.gateway.log.read_text().lower()
    assert "Traceback" not in embedded.gateway.log.read_text() + embedded.node.log.read_text()


async def test_a_process_whose_starter_dies_does_not_stay_behind(embedded: Rig) -> None:
    for process in (embedded.node, embedded.gateway):
        assert process.child.stdin is not None
        process.child.stdin.close()
        async with asyncio.timeout(5):
            assert await process.child.wait() == 0


async def test_both_processes_start_quickly(embedded: Rig) -> None:
    # A loose bound for a busy machine; the design's aim is 0.6 s, and the second start has its bytecode.
    await embedded.gateway.terminate()
    await embedded.node.terminate()
    await embedded.start_gateway()
    await embedded.start_node()
    assert embedded.gateway.ready_s < 3
    assert embedded.node.ready_s < 3


def _in_outbox(running: Rig) -> set[rigs.Identity]:
    rows = [json.loads(body) for _, kind, body in read_outbox(running.gateway_data)["outbox"] if kind == "reading"]
    return {(row["sensor"], row["boot"], row["seq"]) for row in rows}


def _local(running: Rig) -> str:
    return f"127.0.0.1:{running.gateway.ready['mqtt_port']}"


def _two(events: list[dict[str, int]]) -> list[dict[str, int]]:
    return events if len(events) == 2 else []


def _at_least(events: list[dict[str, int]], count: int) -> bool:
    return len(events) >= count
