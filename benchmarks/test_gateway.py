"""A gateway daemon as a process: readings a second that it puts on the disk, its memory, its share of a core."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.nodes import Nodes, bare_broker, heartbeat, kept, names_of, prepare, reading, running
from nanoclaw.host.outbox_store import OUTBOX_FILE

NODES, READINGS = 50, 16_000
A_COMMIT = 1000
IN_FLIGHT = 3 * A_COMMIT
LEAST_RATIO = 0.25
"""What fails the benchmark."""
MOST_RESIDENT_MB = 90.0
MOST_CPU_SHARE = 0.25
"""The aims."""
PACED_S = 4.0

Told = Callable[[str], None]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    def say(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}")

    return say


def poured(nodes: Nodes, packets: list[tuple[str, bytes]], arrived: Callable[[], int]) -> float:
    """Seconds until `READINGS` of these have arrived, with at most `IN_FLIGHT` on the way.

    Those beyond push the last ones on, which would wait for a commit to be worth it.
    """
    begun_s = time.perf_counter()
    have = 0
    for number, (name, packet) in enumerate(packets, 1):
        while number - have > IN_FLIGHT:
            have = arrived()
            nodes.hear()
        nodes.say(name, packet)
    while have < READINGS:
        have = arrived()
        assert time.perf_counter() - begun_s < 60, f"{have} of {READINGS} have arrived, and no more"
    return time.perf_counter() - begun_s


class Rows:
    """How many readings are durable, as another process sees it."""

    def __init__(self, data: Path) -> None:
        self._database = sqlite3.connect(f"file:{data / OUTBOX_FILE}?mode=ro", uri=True)

    def count(self) -> int:
        """Ids are given in order, and none has been removed."""
        time.sleep(0.002)  # a look is not free for whoever writes
        return int(self._database.execute("SELECT coalesce(max(id), 0) FROM outbox").fetchone()[0])

    def close(self) -> None:
        self._database.close()


def bare_sqlite_s(path: Path, bodies: list[bytes]) -> float:
    """The same rows in a table as the outbox's, a commit of a thousand at a time."""
    database = sqlite3.connect(path, isolation_level=None)
    for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL"):
        database.execute(statement)
    database.execute("CREATE TABLE outbox (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, body BLOB NOT NULL)")
    rows = [(number, "reading", body) for number, body in enumerate(bodies)]
    begun_s = time.perf_counter()
    for at in range(0, len(rows), A_COMMIT):
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT INTO outbox VALUES (?, ?, ?)", rows[at : at + A_COMMIT])
        database.execute("COMMIT")
    took_s = time.perf_counter() - begun_s
    database.close()
    return took_s


def bare_broker_s(packets: list[tuple[str, bytes]]) -> float:
    """The same messages from the same sockets through the same broker, to a reader that only counts."""
    with bare_broker(NODES) as (port, reader):
        nodes = Nodes(NODES, port)
        reader.setblocking(False)
        heard, each = 0, len(packets[0][1])

        def arrived() -> int:
            nonlocal heard
            try:
                heard += len(reader.recv(1 << 20))
            except BlockingIOError:
                time.sleep(0.0005)
            return heard // each

        took_s = poured(nodes, packets, arrived)
        nodes.close()
    return took_s


def test_readings_from_the_mqtt_port_to_the_durable_outbox(benchmark, tmp_path: Path, told: Told) -> None:
    names = names_of(NODES)
    packets = [(names[n % NODES], reading(names[n % NODES], 100 + n // NODES)) for n in range(READINGS + A_COMMIT)]
    assert len({len(packet) for _, packet in packets}) == 1
    took_s: dict[str, float] = {}

    def all_three() -> None:
        took_s["broker"] = bare_broker_s(packets)
        bodies = [kept(names[n % NODES], n // NODES, 1_767_225_600_000 + n) for n in range(READINGS)]
        took_s["sqlite"] = bare_sqlite_s(tmp_path / "bare.sqlite", bodies)
        with running(prepare(tmp_path, NODES)) as (_, port):
            rows, nodes = Rows(tmp_path / "gateway"), Nodes(NODES, port)
            took_s["gateway"] = poured(nodes, packets, rows.count)
            nodes.close()
            rows.close()

    benchmark.pedantic(all_three, rounds=1, iterations=1)
    figures = {f"{name}_per_s": round(READINGS / each) for name, each in took_s.items()}
    ratio = round((took_s["broker"] + took_s["sqlite"]) / took_s["gateway"], 2)
    benchmark.extra_info.update(figures | {"ratio": ratio})
    told(f"readings: {figures}, ratio {ratio}")
    assert ratio >= LEAST_RATIO


@pytest.mark.parametrize("count", [10, 500])
def test_what_a_gateway_takes_of_memory(benchmark, count: int, tmp_path: Path, told: Told) -> None:
    def resident_mb() -> float:
        with running(prepare(tmp_path, count)) as (process, port):
            nodes = Nodes(count, port)
            for seq in range(4):
                for name in nodes.names:
                    nodes.say(name, heartbeat(name, seq + 1) + reading(name, seq))
            rows = Rows(tmp_path / "gateway")
            while rows.count() < 4 * count:
                nodes.hear()
            found = process.memory_info().rss / 1e6
            nodes.close()
            rows.close()
        return found

    found_mb = benchmark.pedantic(resident_mb, rounds=1, iterations=1)
    benchmark.extra_info["resident_mb"] = round(found_mb, 1)
    told(f"{count} nodes: {found_mb:.1f} MB resident")
    assert found_mb <= MOST_RESIDENT_MB


def test_what_fifty_nodes_that_say_something_every_second_take_of_a_core(benchmark, tmp_path: Path, told: Told) -> None:
    def share() -> float:
        with running(prepare(tmp_path, NODES)) as (process, port):
            nodes = Nodes(NODES, port)
            for name in nodes.names:
                nodes.say(name, heartbeat(name, 1))
            _pace(nodes, 1.0, 0)
            before = process.cpu_times()
            _pace(nodes, PACED_S, 100)
            after = process.cpu_times()
            nodes.close()
        return (after.user + after.system - before.user - before.system) / PACED_S

    found = benchmark.pedantic(share, rounds=1, iterations=1)
    benchmark.extra_info["cpu_share"] = round(found, 3)
    told(f"{NODES} nodes at a message a second: {100 * found:.1f} % of a core")
    assert found <= MOST_CPU_SHARE


def _pace(nodes: Nodes, for_s: float, first_seq: int) -> None:
    """One reading a second of each, evenly spread."""
    begun_s = time.perf_counter()
    for number in range(round(for_s * NODES)):
        if (wait_s := begun_s + number / NODES - time.perf_counter()) > 0:
            time.sleep(wait_s)
        name = nodes.names[number % NODES]
        nodes.say(name, reading(name, first_seq + number // NODES))
        nodes.hear()
