"""A real gateway and a real node as processes, and a cloud of a few lines that they talk to."""

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from firmware.hosting.mqtt import Login, MqttPort
from firmware.wire.auth import mqtt_password
from firmware.wire.topics import split
from fleet.hub import EmbeddedBroker, HubAccess
from fleet.wire import snapshot
from fleet.wire.uplink import decode_batch, decompress

GATEWAY, NODE = "gateway-01", "sensor-01"
GATEWAY_KEY, NODE_KEY = bytes(range(32)), bytes(range(32, 64))
TIMESCALE = 30
WAIT_S = 30.0

Identity = tuple[str, int, int]


async def eventually(holds: Callable[[], Any], what: str, within_s: float = WAIT_S) -> Any:
    """Wait until `holds()` is true, and return it: processes leave no other way than to look again."""
    deadline = time.monotonic() + within_s
    while not (found := holds()):
        assert time.monotonic() < deadline, f"never came: {what}"
        await asyncio.sleep(0.02)
    return found


HEARD = [f"clawland/+/{verb}" for verb in ("batch", "batch/gz", "heartbeat")]


class Cloud:
    """An Event Hub with a manager that configures the gateway, answers heartbeats and, if told to, acknowledges."""

    def __init__(self) -> None:
        self.readings: dict[Identity, Any] = {}
        self.copies = 0
        self.acknowledges = True
        self.answers: list[str] = []
        self.heartbeats = 0
        self._acknowledged: set[Identity] = set()
        access = HubAccess({GATEWAY: mqtt_password(GATEWAY_KEY)}, "fleet", b"manager")
        self.broker = EmbeddedBroker(access=access, max_payload_bytes=256 * 1024)
        self._port = MqttPort("hub", Login("fleet", b"manager"), HEARD, self)
        self._up = asyncio.Event()

    async def start(self) -> None:
        await self.broker.start()
        self._port.connect(f"127.0.0.1:{self.broker.port}")
        async with asyncio.timeout(10):
            await self._up.wait()

    async def stop(self) -> None:
        await self._port.close()
        await self.broker.stop()

    def acknowledged(self) -> set[Identity]:
        return set(self._acknowledged)

    def link_up(self, port: str) -> None:
        self._up.set()

    def link_down(self, port: str) -> None: ...

    def congested(self) -> bool:
        return False

    def receive(self, port: str, topic: str, payload: bytes) -> None:
        found = split(topic)
        assert found is not None
        if found[1] == "heartbeat":
            self._on_heartbeat(found[0], json.loads(payload))
        else:
            self._on_batch(found[0], decompress(payload) if found[1] == "batch/gz" else payload)

    def _on_heartbeat(self, gateway: str, beat: dict[str, Any]) -> None:
        self.heartbeats += 1
        self._port.send(f"clawland/{gateway}/heartbeat/ack", json.dumps({"v": 1, "n": beat["n"]}).encode())
        if not beat["config_hash"]:
            config = snapshot.build(1, [], {NODE: NODE_KEY}, gateway, GATEWAY_KEY, bytes(12), self.answers)
            self._port.send(f"clawland/{gateway}/config", json.dumps(config).encode())

    def _on_batch(self, gateway: str, payload: bytes) -> None:
        batch, readings, _ = decode_batch(payload)
        identities = [(each["sensor"], each["boot"], each["seq"]) for each in readings]
        for identity, reading in zip(identities, readings, strict=True):
            self.copies += identity in self.readings
            self.readings[identity] = reading["value"]
        if self.acknowledges:
            self._acknowledged.update(identities)
            self._port.send(f"clawland/{gateway}/batch/ack", json.dumps({"v": 1, "batch": batch}).encode())


class Process:
    """A child of the test: its ready line, its stderr, its trace."""

    def __init__(self, name: str, directory: Path) -> None:
        self.trace = directory / f"{name}.trace"
        self.log = directory / f"{name}.log"
        self.ready: dict[str, Any] = {}
        self.ready_s = 0.0
        self.child: asyncio.subprocess.Process

    async def spawn(self, module: str, config: Path, sim_clock: bool = True) -> None:
        command = [sys.executable, "-m", module, "run", "--config", str(config), "--trace", str(self.trace)]
        await self.run(command, child_environment(), sim_clock)

    async def run(self, command: list[str], environment: dict[str, str], sim_clock: bool = True) -> None:
        began_s = time.monotonic()
        with self.log.open("ab") as log:
            self.child = await asyncio.create_subprocess_exec(
                *command,
                *(["--sim-clock"] if sim_clock else []),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=environment,
                cwd=self.trace.parent,
            )
        if sim_clock:
            assert self.child.stdout is not None
            async with asyncio.timeout(WAIT_S):
                line = await self.child.stdout.readline()
            assert line, self.log.read_text()
            self.ready = json.loads(line)
        self.ready_s = time.monotonic() - began_s

    def give_clock(self, clock: dict[str, Any]) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write(json.dumps(clock).encode() + b"\n")

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        if not self.trace.exists():
            return []
        lines = self.trace.read_bytes().split(b"\n")[:-1]
        return [event for event in map(json.loads, lines) if kind in ("", event["kind"])]

    async def kill(self) -> None:
        self.child.kill()
        await self.child.wait()

    async def terminate(self) -> float:
        """SIGTERM; how many seconds it took to end."""
        began_s = time.monotonic()
        self.child.send_signal(signal.SIGTERM)
        async with asyncio.timeout(WAIT_S):
            await self.child.wait()
        return time.monotonic() - began_s


def child_environment() -> dict[str, str]:
    """This process's environment, with the bytecode cache that a user's processes have."""
    root = Path(__file__).resolve().parents[2]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**environment, "PYTHONPATH": str(root), "PYTHONPYCACHEPREFIX": str(root / ".cache" / "pycache")}


class Rig:
    """A cloud, a gateway and a node on one scaled clock."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.cloud = Cloud()
        self.clock = {"t0_monotonic_ns": time.monotonic_ns(), "timescale": TIMESCALE, "epoch_utc_ms": 1_700_000_000_000}
        self.gateway = Process(GATEWAY, directory)
        self.node = Process(NODE, directory)
        self.broker = "embedded"
        write_key(directory / "gateway.key", GATEWAY_KEY)
        write_key(directory / "node.key", NODE_KEY)

    @property
    def gateway_data(self) -> Path:
        return self.directory / "gateway"

    @property
    def node_data(self) -> Path:
        return self.directory / "node"

    async def start(self) -> None:
        await self.cloud.start()
        await self.start_gateway()
        await self.start_node()

    async def start_gateway(self) -> None:
        """Start the gateway on the port that it had before, since nothing here redirects the node."""
        port = self.gateway.ready.get("mqtt_port", 0)
        config = gateway_config(self.directory, self.cloud.broker.port, port, self.broker)
        await self.gateway.spawn("nanoclaw.cli", config)
        self.gateway.give_clock(self.clock)

    async def start_node(self) -> None:
        await self.node.spawn("firmware.cli", node_config(self.directory, self.gateway.ready["mqtt_port"]))
        self.node.give_clock(self.clock)

    def produced(self) -> set[Identity]:
        return {(NODE, event["boot"], event["seq"]) for event in self.node.events("reading.produced")}

    async def stop(self) -> None:
        for process in (self.node, self.gateway):
            if hasattr(process, "child") and process.child.returncode is None:
                await process.kill()
        await self.cloud.stop()


@asynccontextmanager
async def rig(directory: Path) -> AsyncIterator[Rig]:
    made = Rig(directory)
    try:
        yield made
    finally:
        await made.stop()


def write_key(path: Path, key: bytes) -> None:
    path.write_text(key.hex() + "\n")
    path.chmod(0o600)


def gateway_config(directory: Path, hub_port: int, port: int = 0, broker: str = "embedded") -> Path:
    path = directory / "gateway.toml"
    path.write_text(
        f'[gateway]\nid = "{GATEWAY}"\nkey_file = "gateway.key"\n'
        f'[uplink]\nhost = "127.0.0.1"\nport = {hub_port}\n'
        f'[local]\nport = {port}\nbroker = "{broker}"\ndata = "gateway"\n'
        "[discovery]\nenabled = false\n"
    )
    return path


def node_config(directory: Path, port: int, key_file: str = "node.key", more: str = "") -> Path:
    path = directory / "node.toml"
    path.write_text(
        f'[node]\nid = "{NODE}"\nkey_file = "{key_file}"\ndata = "node"\n{more}\n'
        f'[gateway]\nid = "{GATEWAY}"\nport = {port}\n'
        '[[sensors]]\nmetric = "temp"\nunit = "°C"\nexp = 2\nevery_ms = 5000\n'
        'signal = { kind = "sine", mean = 22.0, amplitude = 3.0, period_ms = 600000 }\n'
    )
    return path


def secrets_in(text: str) -> list[str]:
    """The keys and passwords of this rig that `text` shows."""
    shown = [GATEWAY_KEY.hex(), NODE_KEY.hex(), mqtt_password(GATEWAY_KEY).decode(), mqtt_password(NODE_KEY).decode()]
    return [secret for secret in shown if re.search(secret, text)]
