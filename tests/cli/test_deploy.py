"""What was rehearsed can be run for good: the lines that `clawsim deploy` prints start a fleet that works."""

from __future__ import annotations

import shlex
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.command import TINY, assert_refused, clawsim, scenario, until

DOORS = TINY.replace(
    "{metric: temp, every: 20 s, signal: {constant: 21.5}}", "{metric: door, every: 1 s, signal: {constant: true}}"
)
BIN = Path(sys.executable).parent


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; another program may take one before it is used, which is unlikely enough."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@contextmanager
def started(lines: list[str]) -> Iterator[list[subprocess.Popen[str]]]:
    """The commands of `lines`, all running."""
    processes = []
    try:
        for line in lines:
            program, *arguments = shlex.split(line)
            command = [str(BIN / program), *arguments]
            processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def get(port: int, path: str, token: str) -> Any:
    """What the API answers, or None."""
    with suppress(httpx.HTTPError):
        answer = httpx.get(
            f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {token}"}, trust_env=False
        )
        return answer.json()
    return None


@pytest.mark.live
def test_the_printed_lines_start_a_fleet_that_stores_readings(tmp_path: Path) -> None:
    api, hub, gateway = free_ports(3)
    ports = ["--port", str(api), "--hub-port", str(hub), "--gateway-port", str(gateway)]
    done = clawsim("deploy", scenario(tmp_path, DOORS), tmp_path / "site", *ports)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line for line in done.stdout.splitlines() if line and not line.startswith("#")]
    [ask_token] = [line for line in lines if line.startswith("fleet token")]
    lines.remove(ask_token)
    with started(lines) as processes:
        program, *arguments = shlex.split(ask_token)
        token = subprocess.run([BIN / program, *arguments], capture_output=True, text=True, check=True).stdout.strip()
        for node in ("sensor-01", "sensor-02"):
            path = f"/api/v1/fleet/nodes/{node}/readings"
            until(lambda path=path: (get(api, path, token) or {}).get("readings"), f"a reading of {node} is stored")
        for process in reversed(processes):
            process.terminate()
        assert [process.wait(20) for process in processes] == [0, 0, 0, 0]


def test_every_file_is_its_owners_alone_and_no_key_is_printed(tmp_path: Path) -> None:
    done = clawsim("deploy", scenario(tmp_path), tmp_path / "site")
    files = [path for path in (tmp_path / "site").rglob("*") if path.is_file()]
    keys = [path.read_text().strip() for path in files if path.suffix == ".key"]
    assert len(keys) == len(set(keys)) == 3
    assert not any(key in done.stdout + done.stderr for key in keys)
    assert not any(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO) for path in files)


def test_a_directory_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "precious").write_text("mine")
    assert_refused(clawsim("deploy", scenario(tmp_path), tmp_path / "site"), 2, "is not empty")
    assert [path.name for path in (tmp_path / "site").iterdir()] == ["precious"]
