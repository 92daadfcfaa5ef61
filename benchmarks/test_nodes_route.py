"""GET /api/v1/fleet/nodes of ten thousand nodes, against a bare FastAPI route that returns the same bytes.

Both are processes with the same HTTP server, asked in turn over connections that are kept, several at once so that the
server is what is measured; of each the best round counts. Ours also checks the token, the pace and the parameters,
counts, and finds the page.
"""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector

import httpx
import pytest

from benchmarks.large_fleet import fill
from fleet.host.storage import Storage, sqlite_url
from fleet.host.tokens import issue, load_key

NODES = 10_000
CONNECTIONS, ROUNDS, REQUESTS = 4, 4, 400
PATH = "/api/v1/fleet/nodes"
LEAST_RATIO = 0.3
"""What fails the benchmark; the aim is 0.4."""
START_S = 30.0

BARE = """
import sys, uvicorn
from fastapi import FastAPI, Response
body, app = sys.stdin.buffer.read(), FastAPI()

@app.get("/api/v1/fleet/nodes")
async def nodes() -> Response:
    return Response(body, media_type="application/json")

uvicorn.run(app, fd=int(sys.argv[1]), http="h11", ws="none", lifespan="off", log_config=None, access_log=False)
"""


class Connections:
    """Several to one server, each asking again as soon as it is answered."""

    def __init__(self, address: tuple[str, int], path: str, token: str) -> None:
        self._request = f"GET {path} HTTP/1.1\r\nhost: fleet\r\nauthorization: Bearer {token}\r\n\r\n".encode()
        self._selector = DefaultSelector()
        for _ in range(CONNECTIONS):
            self._selector.register(socket.create_connection(address, START_S), EVENT_READ, bytearray())

    def ask(self, requests: int) -> float:
        """Seconds for so many answers."""
        begun_s, to_send, to_hear = time.perf_counter(), requests, requests
        for key in self._selector.get_map().values():
            key.fileobj.sendall(self._request)  # type: ignore[union-attr]
            to_send -= 1
        while to_hear:
            for key, _ in self._selector.select(START_S):
                if self._answered(key):
                    to_hear -= 1
                    if to_send > 0:
                        key.fileobj.sendall(self._request)  # type: ignore[union-attr]
                        to_send -= 1
        return time.perf_counter() - begun_s

    def _answered(self, key) -> bool:
        """Whether the whole answer has arrived."""
        key.data.extend(key.fileobj.recv(1 << 16))
        head, end, body = bytes(key.data).partition(b"\r\n\r\n")
        if not end:
            return False
        assert head.startswith(b"HTTP/1.1 200"), head
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if len(body) < int(length):
            return False
        key.data.clear()
        return True


@contextmanager
def ended(child: "subprocess.Popen[bytes]") -> Iterator[None]:
    """The child ends with the block."""
    try:
        yield
    finally:
        child.kill()
        child.communicate()


@pytest.mark.parametrize("limit", [20, 100])
def test_a_page_of_ten_thousand_nodes(
    benchmark, limit: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, password = tmp_path / "data", tmp_path / "password"
    data.mkdir()
    password.write_text("of-the-manager")
    password.chmod(0o600)
    storage = Storage(sqlite_url(data / "fleet.sqlite"))
    storage.open()
    fill(storage, NODES, 0, time.time_ns() // 1_000_000)
    storage.close()
    token, path = issue(load_key(data), "dashboard", "viewer", 600), f"{PATH}?limit={limit}"
    words = ["serve", "--data", data, "--port", "0", "--hub", "127.0.0.1:1", "--hub-password-file", password]
    words += ["--rate-limit", "100000"]
    command = [sys.executable, "-m", "fleet.cli", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child, ended(child):
        assert child.stdout
        url = httpx.URL(child.stdout.readline().decode().split()[3])
        answer = httpx.get(url.join(path), headers={"authorization": f"Bearer {token}"})
        assert len(answer.json()["nodes"]) == limit and answer.json()["pagination"]["total"] == NODES
        with bare(answer.content) as address:
            figures = measured(benchmark, Connections((url.host, url.port or 0), path, token),
                               Connections(address, path, token))  # fmt: skip
    with capsys.disabled():
        print(f"\n{limit} nodes: " + ", ".join(f"{name} {value}" for name, value in figures.items()))
    assert figures["ratio"] >= LEAST_RATIO


@contextmanager
def bare(body: bytes) -> Iterator[tuple[str, int]]:
    """The bare server's address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = [sys.executable, "-c", BARE, str(listening.fileno())]
        with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[listening.fileno()]) as child, ended(child):
            assert child.stdin
            child.stdin.write(body)
            child.stdin.close()
            child.stdin = None
            yield listening.getsockname()


def measured(benchmark, ours: Connections, theirs: Connections) -> dict[str, float]:
    """In turn."""
    took_s: dict[str, list[float]] = {"ours": [], "bare": []}
    ours.ask(REQUESTS), theirs.ask(REQUESTS)

    def in_turn() -> None:
        took_s["bare"].append(theirs.ask(REQUESTS))
        took_s["ours"].append(ours.ask(REQUESTS))

    benchmark.pedantic(in_turn, rounds=ROUNDS, iterations=1)
    best_s = {name: min(each) for name, each in took_s.items()}
    figures = {f"{name}_requests_per_s": round(REQUESTS / each_s) for name, each_s in best_s.items()}
    benchmark.extra_info.update(figures | {"ratio": round(best_s["bare"] / best_s["ours"], 2)})
    return benchmark.extra_info
