"""A daemon whose MQTT port is told nonsense: it counts what it refuses, goes on, and grows no larger."""

import asyncio
import json
import random
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from firmware.wire import messages
from firmware.wire.auth import mqtt_password
from nanoclaw.host.status import read_status
from tests.hub.client import connect_packet, packet, publish_packet
from tests.nanoclaw_host.rig import NODE, NODE_KEY, Rig, child_environment, eventually, gateway_config, rig

MOST_GROWTH_BYTES = 15_000_000
A_ROUND = 500


def payloads(rng: random.Random) -> bytes:
    good = messages.encode_reading("21.5", '"°C"', 7, rng.randrange(1 << 20), "age_ms", 5)
    torn = bytearray(good)
    torn[rng.randrange(len(torn))] = rng.randrange(256)
    return rng.choice(
        [
            rng.randbytes(rng.randrange(60)),
            bytes(torn),
            good[: rng.randrange(len(good))],
            b"[" * rng.randrange(1, 500),
            json.dumps({"value": rng.choice([None, [], {}, "x" * 300, 1e400, -0.0])}).encode(),
            json.dumps({"boot": -1, "seq": 2**70, "value": 1}).encode(),
            rng.randbytes(messages.MAX_NODE_MESSAGE_BYTES + rng.randrange(1, 300)),
        ]
    )


def topics(rng: random.Random) -> str:
    own = f"clawland/{NODE}/"
    verbs = ["temp", "heartbeat", "beacon", "ack", "received", "cmd", "Temp", "x" * 40, "a/b", "", "ünï"]
    others = ["clawland/sensor-02/temp", "clawland/gateway-01/heartbeat", "elsewhere", "$SYS/x", "clawland"]
    return rng.choice([own + rng.choice(verbs), own + rng.choice(verbs), rng.choice(others)])


def frames(seed: int) -> Iterator[bytes]:
    """Messages without sense, and now and then bytes that are no MQTT at all."""
    rng = random.Random(seed)
    while True:
        if rng.random() < 0.002:
            yield rng.choice([packet(rng.randrange(256), rng.randbytes(20)), rng.randbytes(30)])
        else:
            yield publish_packet(topics(rng), payloads(rng))


class Fuzzer:
    """A node with its right password, and nothing else right."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.connections = 0

    async def say(self, many: Iterator[bytes], count: int) -> None:
        """So many frames, over as many connections as it takes."""
        for begin in range(0, count, A_ROUND):
            reader, writer = await self._connected()
            try:
                for _ in range(min(A_ROUND, count - begin)):
                    writer.write(next(many))
                    await writer.drain()
                writer.write(packet(0xC0))  # a ping: whoever answers it has read all before it
                await asyncio.wait_for(reader.readexactly(2), 20)
            except (OSError, asyncio.IncompleteReadError):
                pass  # the broker has had enough of this connection
            finally:
                writer.transport.abort()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self.connections += 1
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(connect_packet(NODE, NODE, mqtt_password(NODE_KEY)))
        assert (await reader.readexactly(4))[3] == 0, "the node is still let in"
        return reader, writer


async def start(made: Rig) -> None:
    await made.cloud.start()
    config = gateway_config(made.directory, made.cloud.broker.port)
    with config.open("a") as file:
        file.write("[monitor]\nport = 0\n")
    command = [sys.executable, "-m", "nanoclaw.cli", "run", "--config", str(config), "--log-level", "error"]
    await made.gateway.run(command, child_environment())
    made.gateway.give_clock(made.clock)
    await eventually(lambda: status(made).get("config") == 1, "it is configured")


def status(made: Rig) -> dict[str, Any]:
    return read_status(made.gateway_data)


def refused(made: Rig) -> int:
    """How often the core or its broker refused a message, as Prometheus reads it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{status(made)['monitor_port']}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    found = [line for line in lines if line.startswith('clawland_gateway_events_total{kind="message.rejected"}')]
    return int(float(found[0].split()[-1])) if found else 0


@pytest.mark.live
@pytest.mark.timeout(1200)
async def test_nonsense_on_the_mqtt_port_is_counted_and_costs_neither_the_daemon_nor_memory(
    tmp_path: Path, full: bool
) -> None:
    count = 1_000_000 if full else 4_000
    async with rig(tmp_path) as made:
        await start(made)
        process, fuzzer, many = (
            psutil.Process(made.gateway.child.pid),
            Fuzzer(made.gateway.ready["mqtt_port"]),
            frames(1),
        )
        await fuzzer.say(many, count // 4)
        before_bytes = process.memory_info().rss
        await fuzzer.say(many, count - count // 4)
        assert process.memory_info().rss - before_bytes < MOST_GROWTH_BYTES
        assert await asyncio.to_thread(refused, made) > count // 4
        good = publish_packet(f"clawland/{NODE}/temp", messages.encode_reading("21.5", '"°C"', 77, 0, "age_ms", 5))
        await fuzzer.say(iter([good]), 1)
        await eventually(lambda: (NODE, 77, 0) in made.cloud.readings, "a good reading still goes up")
        assert made.gateway.child.returncode is None
        assert "Traceback" not in made.gateway.log.read_text()
