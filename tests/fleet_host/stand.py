"""What the tests of the fleet manager's host stand on: an inventory, a server in-process, real processes, a gateway."""

import asyncio
import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiomqtt
import httpx
import pytest
from sqlalchemy import URL
from starlette.types import ASGIApp

from firmware.hosting.clock import Clock, WallClock
from firmware.hosting.mqtt import Login
from firmware.hosting.trace import NoTrace
from firmware.wire.auth import mqtt_password
from fleet.core.config import FleetConfig
from fleet.core.manager import FleetCore
from fleet.core.rows import ReadingRow
from fleet.core.vault import Vault
from fleet.host.app import make_app
from fleet.host.database import postgresql_url
from fleet.host.keyring import Keyring
from fleet.host.latest import liveness
from fleet.host.limits import Rate, Rates
from fleet.host.redis_latest import RedisLatest
from fleet.host.runtime import Runtime
from fleet.host.stage import Stage
from fleet.host.storage import Storage, sqlite_url
from fleet.host.tokens import issue, load_key
from tests.servers import PostgresServer, RedisServer

GATEWAY, NODE = "gateway-01", "sensor-01"
GATEWAY_KEY, NODE_KEY = "11" * 32, "22" * 32
UTC_MS = 1_767_225_600_000  # 2026-01-01
INVENTORY: dict[str, Any] = {
    "fleet": "clawland",
    "gateways": [{"id": GATEWAY, "site": "office", "role": "primary", "key": GATEWAY_KEY}],
    "nodes": [
        {"id": NODE, "type": "microclaw", "site": "office", "gateway": GATEWAY, "key": NODE_KEY},
        {"id": "sensor-02", "type": "picclaw", "site": "office", "gateway": GATEWAY, "key": "33" * 32},
    ],
    "rules": [],
}


# No test is refused for its pace, unless it is about that.
PATIENT = Rates(Rate(1e6, 1e6), Rate(1e6, 1e6), Rate(1e6, 1e6))


def row(
    seq: int, value: Any = 21.5, *, node: str = NODE, boot: int = 7, metric: str = "temp", at_s: int = 0
) -> ReadingRow:
    """A reading as the core stores it."""
    at_ms = UTC_MS + 1000 * at_s
    return ReadingRow(node, boot, seq, metric, value, "C", at_ms, "exact", GATEWAY, at_ms + 50)


def batch(name: str, seqs: range, *, value: float = 21.5, node: str = NODE, boot: int = 7) -> bytes:
    """A batch as a gateway sends it."""
    readings = [
        {
            "sensor": node,
            "boot": boot,
            "seq": seq,
            "metric": "temp",
            "value": value,
            "unit": "C",
            "utc_ms": UTC_MS + seq,
        }
        for seq in seqs
    ]
    return json.dumps({"v": 1, "batch": name, "readings": readings, "stats": []}).encode()


@dataclass(frozen=True)
class Database:
    """One empty database, and how to reach it."""

    url: str | URL

    @classmethod
    def make(cls, request: pytest.FixtureRequest, directory: Path) -> "Database":
        """Of the kind that the fixture's parameter names."""
        if request.param == "sqlite":
            return cls(sqlite_url(directory / "fleet.sqlite"))
        return cls.postgresql(request.getfixturevalue("postgres"))

    @classmethod
    def postgresql(cls, server: PostgresServer) -> "Database":
        """In a PostgreSQL of the tests' own."""
        return cls.postgresql_of(server.make_database(), server.password_file)

    @classmethod
    def postgresql_of(cls, url: str, password_file: Path) -> "Database":
        """One that is there already."""
        return cls(postgresql_url(url, password_file))

    def open(self, vault: Vault | None = None) -> Storage:
        """A storage on it, ready for use."""
        storage = Storage(self.url, vault)
        storage.open()
        return storage


# --- in this process -------------------------------------------------------------------------------------------------


@dataclass
class Served:
    """A fleet manager without processes: its API by httpx, its hub played by the test."""

    runtime: Runtime
    http: httpx.AsyncClient
    key: bytes
    sent: list[tuple[str, dict[str, Any]]]
    stage: Stage
    app: ASGIApp

    def says(self, verb: str, message: dict[str, Any]) -> None:
        """A message of the gateway arrives."""
        self.runtime.pump.receive("hub", f"clawland/{GATEWAY}/{verb}", json.dumps({"v": 1, **message}).encode())

    def delivers(self, payload: bytes) -> None:
        """A batch of the gateway arrives."""
        self.runtime.pump.receive("hub", f"clawland/{GATEWAY}/batch", payload)

    def hears(self, topic: str, payload: bytes) -> bool:
        """Stands for the hub's connection: keeps what the manager sends."""
        self.sent.append((topic.removeprefix(f"clawland/{GATEWAY}/"), json.loads(payload)))
        return True

    def acknowledged(self) -> list[str]:
        """The batches that were acknowledged, in order."""
        return [found["batch"] for verb, found in self.sent if verb == "batch/ack"]

    async def until_database(self, failing: bool) -> None:
        """Until the manager has noticed that its database fails, or works again."""
        async with asyncio.timeout(10):
            while (self.runtime.writer.failing is not None) != failing:  # noqa: ASYNC110 - a thread's own variable
                await asyncio.sleep(0.01)

    async def settled(self) -> None:
        """Until everything asked to be stored so far is, and what follows from it has happened."""
        for _ in range(3):
            await self.runtime.committed()

    def as_role(self, role: str) -> dict[str, str]:
        """Headers with a token of that role."""
        return {"Authorization": f"Bearer {issue(self.key, 'tester', role, 60)}"}


@contextlib.asynccontextmanager
async def served(
    data: Path,
    clock: Clock | None = None,
    rates: Rates | None = None,
    database: Database | None = None,
    redis: RedisServer | None = None,
    vault: Vault | None = None,
) -> AsyncIterator[Served]:
    """Everything of `fleet serve` but its process, sockets and hub."""
    clock = clock or WallClock()
    storage = (database or Database(sqlite_url(data / "fleet.sqlite"))).open(vault)
    restored = storage.load()
    core = FleetCore(FleetConfig(), restored, random.Random(1), clock.now_ms(), vault)
    core.learn_utc(clock.utc_ms(), clock.now_ms())
    for kind, add in (("gateways", core.add_gateway), ("nodes", core.add_node)):
        for item in INVENTORY[kind]:
            add(item, clock.now_ms())
    latest = RedisLatest(redis.url, redis.password, partial(liveness, core), vault) if redis else None
    stage, key = Stage(), load_key(data)
    runtime = Runtime(core, clock, storage, Login("fleet", b"x"), "127.0.0.1:1", NoTrace(), [], None, latest)
    app = make_app(stage, rates or PATIENT)
    stage.open(runtime, Keyring(data), restored)
    runtime.hub.connect = lambda target=None: runtime.pump.link_up("hub")  # type: ignore[method-assign]
    runtime.start()
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://fleet") as http:
        server = Served(runtime, http, key, [], stage, app)
        runtime.hub.send = server.hears  # type: ignore[method-assign]
        http.headers = httpx.Headers(server.as_role("operator"))
        try:
            yield server
        finally:
            stage.close()
            await runtime.close()


def problem(response: httpx.Response) -> tuple[int, str]:
    """Status and `error` of a problem, after a look at its form."""
    body = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert body["status"] == response.status_code and body["detail"] == body["message"] and body["title"]
    return response.status_code, body["error"]


# --- as processes ----------------------------------------------------------------------------------------------------


def command(*arguments: str | Path) -> list[str]:
    """The console command `fleet` of this interpreter."""
    return [sys.executable, "-m", "fleet.cli", *map(str, arguments)]


class Process:
    """A `fleet` process under a simulator's clock of timescale 1; ends with the `with` block, however that ends."""

    def __init__(self, *arguments: str | Path) -> None:
        self.child = subprocess.Popen(
            command(*arguments, "--sim-clock"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={key: value for key, value in os.environ.items() if not key.startswith("CLAWLAND_")},
        )
        assert self.child.stdout
        line = self.child.stdout.readline()
        assert line, self.child.stderr and self.child.stderr.read().decode()
        self.ready: dict[str, Any] = json.loads(line)
        self._give_clock()

    def _give_clock(self) -> None:
        clock = {"t0_monotonic_ns": time.monotonic_ns(), "timescale": 1, "epoch_utc_ms": UTC_MS}
        assert self.child.stdin
        self.child.stdin.write(json.dumps(clock).encode() + b"\n")
        self.child.stdin.flush()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.communicate()


@dataclass
class Fleet:
    """The files of a fleet, and its hub's address."""

    data: Path
    inventory: Path
    password: Path
    hub: str

    def server(self, *options: str | Path) -> Process:
        """`fleet serve` on a free port."""
        return Process(
            *("serve", "--data", self.data, "--port", "0", "--hub", self.hub, "--hub-password-file", self.password),
            *("--inventory", self.inventory, "--trace", self.data / "trace.jsonl", *options),
        )

    def api(self, server: Process, role: str = "operator") -> httpx.Client:
        """A client with a token of that role."""
        token = issue(load_key(self.data), "tester", role, 600)
        return httpx.Client(
            base_url=f"http://127.0.0.1:{server.ready['http_port']}",
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
        )


def files_of_a_fleet(directory: Path) -> Fleet:
    """Inventory, password and credentials as files."""
    gateway_password = mqtt_password(bytes.fromhex(GATEWAY_KEY)).decode()
    credentials = {"manager": {"id": "fleet", "password": "of-the-manager"}, "gateways": {GATEWAY: gateway_password}}
    files = {"credentials": json.dumps(credentials), "inventory": json.dumps(INVENTORY), "password": "of-the-manager\n"}
    for name, text in files.items():
        (directory / name).write_text(text)
        (directory / name).chmod(0o600)
    data = directory / "data"
    data.mkdir()
    return Fleet(data, directory / "inventory", directory / "password", "")


@contextlib.contextmanager
def fleet_with_hub(directory: Path) -> Iterator[Fleet]:
    """A running `fleet hub`, and what a server needs to use it."""
    fleet = files_of_a_fleet(directory)
    with Process("hub", "--port", "0", "--credentials", directory / "credentials") as hub:
        fleet.hub = f"127.0.0.1:{hub.ready['mqtt_port']}"
        yield fleet


class Gateway:
    """A gateway of the test's: it publishes, and keeps what the manager acknowledges."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self.acknowledged: set[str] = set()
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self._news = asyncio.Event()
        self._numbers = itertools.count(1)

    async def publish(self, verb: str, payload: bytes) -> None:
        """Sends under the gateway's own id."""
        await self._client.publish(f"clawland/{GATEWAY}/{verb}", payload)

    async def heartbeat(self) -> None:
        """Says that it lives, as a gateway does every 30 s."""
        message = {"v": 1, "n": next(self._numbers), "uptime_ms": 1000, "config": 0, "mode": "online"}
        await self.publish("heartbeat", json.dumps(message).encode())

    async def listen(self) -> None:
        """Runs as a task beside the test."""
        await self._client.subscribe(f"clawland/{GATEWAY}/batch/ack")
        await self._client.subscribe(f"clawland/{GATEWAY}/heartbeat/ack")
        await self._client.subscribe(f"clawland/{GATEWAY}/cmd")
        async for message in self._client.messages:
            verb = str(message.topic).partition(f"{GATEWAY}/")[2]
            found = json.loads(bytes(message.payload))  # type: ignore[arg-type]
            self.messages.append((verb, found))
            if verb == "batch/ack":
                self.acknowledged.add(found["batch"])
            self._news.set()

    async def until(self, holds: Any, what: str) -> None:
        """Waits until `holds()`, looking after each message."""
        try:
            async with asyncio.timeout(20):
                while not holds():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"waited in vain for {what}") from None

    async def until_manager_hears(self) -> None:
        """The manager connects to the hub on its own; heartbeats go unanswered before."""
        async with asyncio.timeout(20):
            while not any(verb == "heartbeat/ack" for verb, _ in self.messages):
                await self.heartbeat()
                self._news.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await self._news.wait()


@contextlib.asynccontextmanager
async def gateway_at(hub: str) -> AsyncIterator[Gateway]:
    """A gateway connected to the hub."""
    host, port = hub.split(":")
    password = mqtt_password(bytes.fromhex(GATEWAY_KEY)).decode()
    async with aiomqtt.Client(host, int(port), identifier=GATEWAY, username=GATEWAY, password=password) as client:
        gateway = Gateway(client)
        task = asyncio.create_task(gateway.listen())
        try:
            yield gateway
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def all_rows(api: httpx.Client) -> list[dict[str, Any]]:
    """Every stored reading, page by page."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = api.get("/api/v1/fleet/readings", params={"limit": 1000, **cursor}).raise_for_status().json()
        found += page["readings"]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}
