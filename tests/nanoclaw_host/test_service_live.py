"""A real gateway as systemd and an operator see it: readiness, signs of life, status, reload, two uplinks, its end."""

import asyncio
import json
import signal
import socket
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from firmware.hosting.mqtt import Login
from nanoclaw.cli import app
from nanoclaw.host.attempt import refused_because
from nanoclaw.host.config import load_settings
from tests.nanoclaw_host.rig import (
    GATEWAY_KEY,
    Cloud,
    child_environment,
    eventually,
    gateway_config,
    secrets_in,
    write_key,
)

pytestmark = pytest.mark.live


@dataclass
class Service:
    """A gateway started as systemd would, and what it said."""

    child: asyncio.subprocess.Process
    ear: socket.socket
    directory: Path
    said: list[str]

    def listen(self) -> list[str]:
        while True:
            try:
                self.said.append(self.ear.recv(4096).decode())
            except BlockingIOError:
                return self.said

    def status(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.directory / "gateway" / "status.json").read_text()))
        except OSError:
            return {}

    def ask(self, path: str) -> str:
        port = self.status()["monitor_port"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()


@asynccontextmanager
async def service(directory: Path, config: Path) -> AsyncIterator[Service]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as ear:
        ear.bind(str(directory / "notify"))
        environ = {**child_environment(), "NOTIFY_SOCKET": str(directory / "notify"), "WATCHDOG_USEC": "600000"}
        with (directory / "log").open("wb") as log:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "nanoclaw.cli", "run", "--config", str(config), stderr=log, env=environ
            )
        running = Service(child, ear, directory, [])
        asyncio.get_running_loop().add_reader(ear, running.listen)
        try:
            yield running
        finally:
            asyncio.get_running_loop().remove_reader(ear)
            if child.returncode is None:
                child.kill()
                await child.wait()


def nanoclaw(*arguments: str | Path) -> tuple[int, str]:
    """The command, in this process since a new one takes a second."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.output


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    made = Cloud()
    await made.start()
    yield made
    await made.stop()


def configured(directory: Path, primary: int, backup: int) -> Path:
    """A primary and a backup that lead to two ports, from two addresses."""
    write_key(directory / "gateway.key", GATEWAY_KEY)
    path = gateway_config(directory, primary)
    text = path.read_text().replace("[uplink]\n", '[uplink]\nname = "ethernet"\nbind_address = "127.0.0.2"\n')
    text += f'[backup]\nname = "4g"\nport = {backup}\nbind_address = "127.0.0.3"\ndaily_mb = 50\n[monitor]\nport = 0\n'
    path.write_text(text)
    return path


async def test_a_gateway_is_ready_lives_uses_its_backup_reloads_and_ends(tmp_path: Path, cloud: Cloud) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        closed = elsewhere.getsockname()[1]
    hub = cloud.broker.port
    config = configured(tmp_path, closed, hub)
    async with service(tmp_path, config) as running:
        await eventually(lambda: any(text.startswith("READY=1\nSTATUS=") for text in running.listen()), "READY=1")
        assert running.said[0].startswith("READY=1"), "no sign of life before it works"
        await eventually(lambda: "WATCHDOG=1" in running.listen(), "a sign of life")
        await eventually(lambda: running.status().get("mode") == "online", "the gateway online over its backup")
        assert [line["used"] for line in running.status()["uplinks"]] == [False, True]

        assert json.loads(running.ask("/healthz")) == {"healthy": True, "mode": "online", "failures": []}
        assert 'clawland_gateway_uplink_used{uplink="4g"} 1.0' in running.ask("/metrics")
        code, told = await asyncio.to_thread(nanoclaw, "status", "--config", config)
        assert code == 0
        assert "4g: up, in use" in told and "of 50 MB today" in told and "ethernet: down" in told
        code, told = await asyncio.to_thread(nanoclaw, "check", "--config", config)
        assert (code, told.count("not tried, since the gateway is running")) == (0, 3)

        config.write_text(config.read_text().replace(f"port = {closed}", f"port = {hub}").replace('"gateway"', '"x"'))
        running.child.send_signal(signal.SIGHUP)
        await eventually(lambda: "configuration reloaded" in running.log, "the reload")
        assert "a restart is needed" in running.log and "local.data" in running.log
        config.write_text("garbage [")
        running.child.send_signal(signal.SIGHUP)
        await eventually(lambda: "not reloaded" in running.log, "the refusal of a mistake")

        running.child.terminate()
        assert await asyncio.wait_for(running.child.wait(), 5) == 0
        assert running.listen()[-1] == "STOPPING=1"
        assert not secrets_in(running.log)
        assert "Traceback" not in running.log
    code, told = nanoclaw("status", "--data", tmp_path / "gateway")
    assert (code, "not running" in told, "last answered" in told) == (3, True, True)


async def test_check_says_whether_the_hub_lets_the_gateway_in(tmp_path: Path, cloud: Cloud) -> None:
    write_key(tmp_path / "gateway.key", GATEWAY_KEY)
    config = gateway_config(tmp_path, cloud.broker.port)
    assert await asyncio.to_thread(refused_because, *asked(config)) is None
    write_key(tmp_path / "gateway.key", bytes(32))
    failure = await asyncio.to_thread(refused_because, *asked(config))
    assert failure is not None and failure.startswith("refused: ")
    assert repr(Login("gateway-01", b"secret")) == "Login('gateway-01')"


def asked(config: Path) -> tuple[Any, Any]:
    settings = load_settings(config, environ={})
    return settings, settings.ways[0]


def test_init_check_and_examples_as_a_user_types_them(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    words = ("init", "--config", config, "--id", "gateway-01", "--hub", "127.0.0.1", "--data", tmp_path / "data")
    code, told = nanoclaw(*words)
    assert code == 0
    assert f"missing: {tmp_path}/gateway.key" in told
    code, told = nanoclaw(*words)
    assert (code, "is there already" in told) == (2, True)
    write_key(tmp_path / "gateway.key", GATEWAY_KEY)
    config.write_text(config.read_text().replace("port = 1883                      # 8883", "port = 1 # 8883"))
    code, told = nanoclaw("check", "--config", config)
    assert code == 3
    assert "error    hub          ethernet: 127.0.0.1:1: Connection refused" in told
    assert not (tmp_path / "data").exists(), "a check changes nothing"
    code, told = nanoclaw("example", "service")
    assert (code, "Type=notify" in told) == (0, True)
