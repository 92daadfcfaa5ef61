"""A `nanoclaw run` as a process, and nodes that say what they are given over bare MQTT 3.1.1.

The gateway finds its configuration on its disk, so it knows its nodes without a cloud.
"""

import asyncio
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import orjson
import psutil

from firmware.wire import messages
from firmware.wire.auth import mqtt_password
from fleet.hub import EmbeddedBroker, NodeAccess
from fleet.wire import snapshot, uplink
from fleet.wire.expression import parse
from nanoclaw.host.outbox_store import OutboxStore
from nanoclaw.host.status import read_status
from tests.hub.client import connect_packet, publish_packet, subscribe_packet
from tests.nanoclaw_host.rig import GATEWAY, GATEWAY_KEY, child_environment, gateway_config, write_key

START_S = 30.0
BOOT = 7
_HOT = {"name": "hot", "when": parse("temp > 300"), "clear": parse("temp < 290"), "action": "alert"}


def names_of(count: int) -> list[str]:
    """Ids of so many nodes."""
    return [f"sensor-{number:03}" for number in range(count)]


def key_of(name: str) -> bytes:
    """The key of that node."""
    return name.encode().ljust(32, b"k")


def prepare(directory: Path, nodes: int, outbox: Sequence[bytes] = (), tuning: str = "", hub_port: int = 1) -> Path:
    """Configuration and disk of a gateway with so many nodes, which has kept these readings: its configuration file."""
    config = gateway_config(directory, hub_port)
    with config.open("a") as file:
        file.write(f"[tuning]\n{tuning}\n")
    write_key(directory / "gateway.key", GATEWAY_KEY)
    data = directory / "gateway"
    data.mkdir(mode=0o700)
    keys = {name: key_of(name) for name in names_of(nodes)}
    built = snapshot.build(1, [_HOT], keys, GATEWAY, GATEWAY_KEY, bytes(12))
    store = OutboxStore(data)
    rows = [("add", number, "reading", body) for number, body in enumerate(outbox, 1)]
    asyncio.run(store.write([("put", "snapshot", uplink.encode(built).decode()), *rows]))
    store.close()
    return config


@contextmanager
def running(config: Path) -> Iterator[tuple[psutil.Process, int]]:
    """The gateway by the wall clock: its process, and the port for nodes."""
    log = config.with_name("gateway.log")
    command = [sys.executable, "-m", "nanoclaw.cli", "run", "--config", str(config)]
    with log.open("wb") as said, subprocess.Popen(command, stderr=said, env=child_environment()) as child:
        try:
            yield psutil.Process(child.pid), _until_ready(config.parent / "gateway", log)
        finally:
            child.terminate()


def _until_ready(data: Path, log: Path) -> int:
    deadline_s = time.monotonic() + START_S
    while not (found := read_status(data)).get("running") or "config" not in found or not found["config"]:
        assert time.monotonic() < deadline_s, log.read_text()
        time.sleep(0.02)
    return int(found["mqtt_port"])


class Nodes:
    """Connected nodes, which read what the gateway tells them and make nothing of it."""

    def __init__(self, count: int, port: int) -> None:
        self.names = names_of(count)
        self._selector = selectors.DefaultSelector()
        self._sockets = {name: self._connected(name, port) for name in self.names}
        for each in self._sockets.values():
            self._selector.register(each, selectors.EVENT_READ)

    def _connected(self, name: str, port: int) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", port), START_S)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.sendall(connect_packet(name, name, mqtt_password(key_of(name))))
        assert made.recv(4)[3] == 0, f"{name} is not let in"
        made.sendall(subscribe_packet(f"clawland/{name}/received"))
        return made

    def say(self, name: str, packet: bytes) -> None:
        """One packet of that node."""
        self._sockets[name].sendall(packet)

    def hear(self) -> None:
        """Takes what has come, and forgets it."""
        for key, _ in self._selector.select(0):
            assert key.fileobj.recv(1 << 16), "the gateway has dropped a node"  # type: ignore[union-attr]

    def close(self) -> None:
        """Without a word."""
        self._selector.close()
        for each in self._sockets.values():
            each.close()


def heartbeat(name: str, n: int) -> bytes:
    """The packet."""
    body = messages.encode_heartbeat("clawland", BOOT, n, 1, 60_000, 1000 * n, 0, 0, 0, "1", "")
    return publish_packet(f"clawland/{name}/heartbeat", body)


def reading(name: str, seq: int) -> bytes:
    """The packet of a reading as our firmware says it."""
    value = f"{20 + seq % 1000 / 100:.2f}"
    return publish_packet(f"clawland/{name}/temp", messages.encode_reading(value, '"°C"', BOOT, seq, "age_ms", 40))


def kept(name: str, seq: int, utc_ms: int) -> bytes:
    """A reading as the gateway keeps it."""
    entry = {"sensor": name, "metric": "temp", "value": 20 + seq % 1000 / 100, "unit": "°C"}
    return orjson.dumps(entry | {"boot": BOOT, "seq": seq, "utc_ms": utc_ms})


async def serve_bare(nodes: int) -> None:
    """The gateway's broker alone, with the same rights: prints its port, and runs until it is ended."""
    passwords = {name: mqtt_password(key_of(name)) for name in names_of(nodes)}
    access = NodeAccess(GATEWAY, b"of-the-gateway", passwords)
    async with EmbeddedBroker(access=access, max_payload_bytes=messages.MAX_NODE_MESSAGE_BYTES) as broker:
        print(broker.port, flush=True)
        await asyncio.Event().wait()


@contextmanager
def bare_broker(nodes: int) -> Iterator[tuple[int, socket.socket]]:
    """That as a process: its port, and who reads what the gateway would read."""
    command = [sys.executable, "-m", "benchmarks.nodes", str(nodes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=child_environment()) as child:
        try:
            assert child.stdout
            port = int(child.stdout.readline())
            reader = socket.create_connection(("127.0.0.1", port), START_S)
            reader.sendall(connect_packet(GATEWAY, GATEWAY, b"of-the-gateway") + subscribe_packet("clawland/+/+"))
            answers = b""
            while len(answers) < 9:  # CONNACK and SUBACK
                answers += reader.recv(9 - len(answers))
            yield port, reader
            reader.close()
        finally:
            child.terminate()


if __name__ == "__main__":
    asyncio.run(serve_bare(int(sys.argv[1])))
