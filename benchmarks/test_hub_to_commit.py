"""Batches of 60 readings from a gateway's socket through the hub to the commit and back, against the raw database.

All of it is real: gateways that send what ours send, the broker and `fleet serve` as processes, SQLite or PostgreSQL on
the disk. The raw rate is that of the same rows with the same uniqueness, 64 batches a transaction, measured in turn
with it so that both meet the same machine. With CLAWSIM_FULL=1 there are five times as many batches.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import httpx
import pytest

from benchmarks.gateways import KEY, Gateways
from benchmarks.stores import RawPostgresql, RawSqlite, encoded
from benchmarks.test_storing import A_COMMIT, BATCH, NODES, payloads_of, rows_of, took_s
from firmware.wire.auth import mqtt_password
from fleet.core.rows import ReadingRow
from fleet.hub import HubAccess, MosquittoBroker

GATEWAYS = [f"gateway-{number:02}" for number in range(10)]
PASSWORD = "of-the-manager"
IN_FLIGHT = 10 * A_COMMIT
ROUNDS = 1
ROUND_BATCHES = 8 * A_COMMIT
PACED_BATCHES = 150
WARM_UP = 20
START_S = 30.0


@contextmanager
def embedded(directory: Path) -> Iterator[str]:
    """`fleet hub` as a process of its own: its address."""
    credentials = directory / "credentials.json"
    gateways = {name: mqtt_password(bytes.fromhex(KEY)).decode() for name in GATEWAYS}
    credentials.write_text(json.dumps({"manager": {"id": "fleet", "password": PASSWORD}, "gateways": gateways}))
    credentials.chmod(0o600)
    command = [sys.executable, "-m", "fleet.cli", "hub", "--port", "0", "--credentials", str(credentials)]
    with subprocess.Popen([*command, "--log-level", "error"], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout
            yield child.stdout.readline().decode().rpartition("/")[2].strip()
        finally:
            child.terminate()


@contextmanager
def mosquitto(directory: Path) -> Iterator[str]:
    """Mosquitto as a process of its own: its address."""
    access = HubAccess({name: mqtt_password(bytes.fromhex(KEY)) for name in GATEWAYS}, "fleet", PASSWORD.encode())
    with asyncio.Runner() as runner:
        broker = MosquittoBroker(access=access, max_payload_bytes=1 << 18, directory=directory / "hub")
        runner.run(broker.start())
        try:
            yield f"127.0.0.1:{broker.port}"
        finally:
            runner.run(broker.stop())


@contextmanager
def serving(directory: Path, hub: str, *options: str | Path) -> Iterator[int]:
    """A `fleet serve` that knows the gateways and their nodes, connected to the hub: its process."""
    inventory, log = directory / "inventory.json", directory / "serve.log"
    node = {"type": "microclaw", "site": "office", "gateway": GATEWAYS[0], "key": KEY}
    members = {
        "gateways": [{"id": name, "site": "office", "key": KEY} for name in GATEWAYS],
        "nodes": [node | {"id": f"sensor-{number:03}"} for number in range(NODES)],
    }
    rule = {"name": "hot", "when": {"metric": "temp", "op": ">", "value": 300}, "clear": None, "action": "notify"}
    password = directory / "password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    inventory.write_text(json.dumps(members | {"rules": [rule | {"severity": "warning"}]}))
    inventory.chmod(0o600)
    words = [sys.executable, "-m", "fleet.cli", "serve", "--data", directory / "data", "--port", "0", "--hub", hub]
    with log.open("wb") as said:
        child = subprocess.Popen(
            [*map(str, (*words, "--hub-password-file", password, "--inventory", inventory, *options))],
            stdout=subprocess.PIPE,
            stderr=said,
        )
        try:
            assert child.stdout
            ready = child.stdout.readline().decode()
            assert "ready" in ready, log.read_text()
            _until_connected(ready.split()[3])
            yield child.pid
        finally:
            child.terminate()
            child.communicate(timeout=START_S)


def _until_connected(url: str) -> None:
    """What is published before the manager has subscribed is lost, as it is for gateways."""
    deadline_s = time.monotonic() + START_S
    while httpx.get(f"{url}/readyz").status_code != 200:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


class Bench:
    """The same batches to the raw table and through everything, in turn."""

    def __init__(self, raw: RawSqlite | RawPostgresql, hub: str) -> None:
        self._raw, self._gateways = raw, Gateways(GATEWAYS, hub)
        self._sent = 0
        self._since_ms = time.time_ns() // 1_000_000 - 60_000
        self.raw_s: list[float] = []
        self.ours_s: list[float] = []

    def warm_up(self) -> None:
        """Every node is known, every table has been written to."""
        self._gateways.pour(self._packets(WARM_UP), IN_FLIGHT)

    def round(self, times: int) -> None:
        """One measurement of each."""
        batches = times * ROUND_BATCHES
        found = self._rows(self._sent, batches)
        merged = [encoded([*chain.from_iterable(found[at : at + A_COMMIT])]) for at in range(0, batches, A_COMMIT)]
        packets = self._packets(batches)
        self.raw_s.append(took_s(lambda each: [self._raw.store(rows) for rows in each], merged))
        self.ours_s.append(took_s(lambda each: self._gateways.pour(each, IN_FLIGHT), packets))

    def latencies_ms(self, batches: int, per_s: float) -> list[float]:
        """At that load."""
        return [1000 * each for each in self._gateways.pace(self._packets(batches), per_s)]

    def close(self) -> None:
        self._gateways.close()
        self._raw.close()

    def _packets(self, batches: int) -> list[tuple[str, bytes]]:
        first, self._sent = self._sent, self._sent + batches
        return [self._gateways.packet(*each) for each in payloads_of(self._rows(first, batches), first)]

    def _rows(self, first: int, batches: int) -> list[list[ReadingRow]]:
        """Of the last minutes, so that rules look at them."""
        return rows_of(range(first, first + batches), self._since_ms, 1)


HUBS = {"mosquitto": mosquitto, "embedded": embedded}
LEAST_RATIO = {("sqlite", "mosquitto"): 0.08, ("postgresql", "mosquitto"): 0.15, ("sqlite", "embedded"): 0.05}
"""What fails the benchmark; the aim is 0.4."""


@pytest.mark.parametrize(("kind", "broker"), LEAST_RATIO)
def test_batches_through_the_hub_to_their_commit(
    benchmark,
    kind: str,
    broker: str,
    full: bool,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raw: RawSqlite | RawPostgresql
    options: list[str | Path] = []
    if kind == "sqlite":
        raw = RawSqlite(tmp_path / "raw.sqlite")
    else:
        server = request.getfixturevalue("durable_postgres")
        url = server.make_database()
        raw = RawPostgresql(server.connect(url.rpartition("/")[2]))
        options += ["--database-url", url, "--database-password-file", server.password_file]
    with HUBS[broker](tmp_path) as hub, serving(tmp_path, hub, *options):
        bench = Bench(raw, hub)
        bench.warm_up()
        benchmark.pedantic(bench.round, (5 if full else 1,), rounds=ROUNDS, iterations=1)
        readings = BATCH * ROUND_BATCHES * (5 if full else 1)
        batches_per_s = readings / BATCH / min(bench.ours_s)
        took_ms = sorted(bench.latencies_ms(PACED_BATCHES, batches_per_s / 2))
        bench.close()
    figures = {
        "readings_per_s": round(readings / min(bench.ours_s)),
        "raw_readings_per_s": round(readings / min(bench.raw_s)),
        "ratio": round(min(bench.raw_s) / min(bench.ours_s), 2),
        "ack_p50_ms": round(statistics.median(took_ms)),
        "ack_p99_ms": round(took_ms[len(took_ms) * 99 // 100]),
    }
    benchmark.extra_info.update(figures)
    with capsys.disabled():
        print(f"\n{kind}, {broker}: " + ", ".join(f"{name} {value}" for name, value in figures.items()))
    assert figures["ratio"] >= LEAST_RATIO[kind, broker]
