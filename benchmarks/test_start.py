"""From the start of `fleet serve` to its word that it is ready, with a fleet of ten thousand nodes in its database.

It restores the registry, the latest value of each of two metrics of each node, which readings are stored of which boot,
and a thousand open alerts. Of all that only the second grows with the past: readings are counted, boot by boot.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from sqlalchemy import URL

from benchmarks.large_fleet import fill
from fleet.host.database import postgresql_url, sqlite_url
from fleet.host.storage import Storage
from tests.servers import PostgresServer

NODES, READINGS_EACH = 10_000, 6
STARTS = 1
MOST_S, MOST_CPU_S = 6.0, 3.0
"""What fails the benchmark; the aim is two seconds, on a machine that does nothing else."""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_server_of_ten_thousand_nodes_is_ready_soon(
    benchmark, kind: str, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    data, password, options = tmp_path / "data", tmp_path / "password", []
    data.mkdir()
    password.write_text("of-the-manager")
    password.chmod(0o600)
    url: str | URL = sqlite_url(data / "fleet.sqlite")
    if kind == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        text = server.make_database()
        url, options = postgresql_url(text, server.password_file), ["--database-url", text]
        options += ["--database-password-file", str(server.password_file)]
    storage = Storage(url)
    storage.open()
    fill(storage, NODES, READINGS_EACH, time.time_ns() // 1_000_000)
    storage.close()
    words = ["serve", "--data", data, "--port", "0", "--hub", "127.0.0.1:1", "--hub-password-file", password, *options]
    cpu_s = []

    def start() -> None:
        with subprocess.Popen([sys.executable, "-m", "fleet.cli", *map(str, words)], stdout=subprocess.PIPE) as child:
            assert child.stdout
            said = child.stdout.readline()
            used = psutil.Process(child.pid).cpu_times()
            child.kill()
        assert b"ready" in said and b"Event Hub at" in said, said  # it leads
        cpu_s.append(used.user + used.system)

    benchmark.pedantic(start, rounds=STARTS, iterations=1)
    figures = {"ready_s": round(benchmark.stats.stats.min, 2), "cpu_s": round(statistics.median(cpu_s), 2)}
    benchmark.extra_info.update(figures)
    with capsys.disabled():
        print(f"\n{kind}: " + ", ".join(f"{name} {value}" for name, value in figures.items()))
    assert figures["ready_s"] <= MOST_S
    assert figures["cpu_s"] <= MOST_CPU_S
