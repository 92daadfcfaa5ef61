"""`fleet serve` as a service: what it says to a first user, to systemd and in its logs, and how it ends."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fleet.host.tokens import issue, load_key
from tests.fleet_host.stand import GATEWAY_KEY, NODE, NODE_KEY, Fleet, command, files_of_a_fleet, gateway_at

pytestmark = pytest.mark.live
SERVICE_SECRET = "hunter22hunter22"


class Service:
    """A server on its own clock, started as systemd would start it."""

    def __init__(self, fleet: Fleet, directory: Path) -> None:
        self._systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = directory / f"notify-{time.monotonic_ns()}"
        self._systemd.bind(str(address))
        self._systemd.settimeout(20)
        urls = directory / "urls"
        urls.write_text(f"json://user:{SERVICE_SECRET}@127.0.0.1:1/\n")
        urls.chmod(0o600)
        variables = {"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "400000", "CLAWLAND_LOG_FORMAT": "json"}
        clean = {key: value for key, value in os.environ.items() if not key.startswith("CLAWLAND_")}
        words = ("serve", "--data", fleet.data, "--port", "0", "--hub-port", "0", "--log-level", "debug")
        self.child = subprocess.Popen(
            command(*words, "--inventory", fleet.inventory, "--notify-file", urls),
            stdout=subprocess.PIPE,
            stderr=(directory / "log").open("ab"),
            env=clean | variables,
            text=True,
        )

    def told(self) -> str:
        """The next message to systemd."""
        return self._systemd.recv(4096).decode()

    def until_told(self, word: str) -> str:
        while word not in (said := self.told()):
            pass
        return said

    def close(self) -> None:
        self.child.kill()
        self.child.wait()
        self._systemd.close()


@contextlib.contextmanager
def service(fleet: Fleet, directory: Path) -> Iterator[Service]:
    found = Service(fleet, directory)
    try:
        yield found
    finally:
        found.close()


async def test_a_service_from_its_first_start_to_its_second(tmp_path: Path) -> None:
    fleet = files_of_a_fleet(tmp_path)
    with service(fleet, tmp_path) as first:
        assert "READY=1\nSTATUS=API at http://127.0.0.1:" in first.until_told("READY=1")
        assert [first.until_told("WATCHDOG=1") for _ in range(3)]  # the loop turns
        assert first.child.stdout
        ready, hint = first.child.stdout.readline(), first.child.stdout.readline()
        assert hint == f"a token for the API: fleet token --data {fleet.data} --role admin --for YOUR-NAME\n"
        url, hub = re.findall(r"http://[0-9.:]+|127\.0\.0\.1:\d+(?=,)", ready)
        token = issue(load_key(fleet.data), "alice", "admin", 600)
        async with gateway_at(hub) as gateway, httpx.AsyncClient(base_url=url, timeout=30) as api:
            api.headers["Authorization"] = f"Bearer {token}"
            await gateway.until_manager_hears()
            await gateway.publish("batch", b"not JSON")
            await _ends_while_much_is_open(first, api)
    with service(fleet, tmp_path) as second:
        second.until_told("READY=1")
        second.child.terminate()
        said, _ = second.child.communicate(timeout=20)
        assert second.child.returncode == 0
    assert said.startswith("fleet manager ready: ") and said.count("\n") == 1  # whoever made a token knows how
    _check_log((tmp_path / "log").read_text(), token)


async def _ends_while_much_is_open(server: Service, api: httpx.AsyncClient) -> None:
    """SIGTERM while an event stream is open and a command waits for a node that says nothing."""
    async with api.stream("GET", "/api/v1/events/stream") as events:
        lines = events.aiter_lines()
        assert (await anext(lines)).startswith(":")
        waiting = asyncio.create_task(api.post(f"/api/nodes/{NODE}/restart", params={"timeout": 300}))
        while "command.queued" not in await anext(lines):
            pass
        begun_s = time.monotonic()
        server.child.send_signal(signal.SIGTERM)
        answer = await waiting
        assert (answer.status_code, answer.json()["result"]) == (202, "pending")
        async for _ in lines:
            pass  # the stream ends in order, too
    server.until_told("STOPPING=1")
    assert await asyncio.to_thread(server.child.wait, 10) == 0
    assert time.monotonic() - begun_s < 10


def _check_log(log: str, token: str) -> None:
    """One JSON object a line, of every library too; what a peer said wrong is in it, and no secret is."""
    found = [json.loads(line) for line in log.splitlines()]
    assert all({"event", "level", "timestamp", "logger"} <= set(line) for line in found)
    assert any("rejected" in line["event"] and line["level"] == "warning" for line in found)
    assert any(line["logger"].startswith("uvicorn") for line in found)
    for secret in (token, SERVICE_SECRET, NODE_KEY, GATEWAY_KEY):
        assert secret not in log
