"""Real processes: a fleet manager with its hub behind TLS, and a gateway from its first token to its revocation."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet.host.pki import enrolment
from fleet.host.pki.authority import Authority
from tests.nanoclaw_host.rig import (
    GATEWAY,
    GATEWAY_KEY,
    WAIT_S,
    Process,
    child_environment,
    eventually,
    write_key,
)

pytestmark = pytest.mark.live


@dataclass
class Manager:
    """A running `fleet serve --hub-tls`."""

    authority: Authority
    url: str
    hub_port: int


@asynccontextmanager
async def manager(directory: Path) -> AsyncIterator[Manager]:
    authority = Authority(directory / "fleet")
    authority.init([])
    inventory = {"gateways": [{"id": GATEWAY, "site": "site-01", "key": GATEWAY_KEY.hex()}], "nodes": [], "rules": []}
    (directory / "inventory.json").write_text(json.dumps(inventory))
    (directory / "inventory.json").chmod(0o600)
    arguments = ["serve", "--data", str(directory / "fleet"), "--port", "0", "--hub-tls", "--hub-port", "0"]
    arguments += ["--inventory", str(directory / "inventory.json")]
    with (directory / "fleet.log").open("wb") as log:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fleet.cli", *arguments, stdout=-1, stderr=log, env=child_environment()
        )
    try:
        assert child.stdout is not None
        async with asyncio.timeout(WAIT_S):
            line = (await child.stdout.readline()).decode()
        found = re.search(r"(http://\S+) .* Event Hub at \S+:(\d+)", line)
        assert found, (directory / "fleet.log").read_text()
        yield Manager(authority, found[1], int(found[2]))
        child.terminate()
        assert await asyncio.wait_for(child.wait(), WAIT_S) == 0
        assert "Traceback" not in (directory / "fleet.log").read_text()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def enrol(directory: Path, running: Manager, config: Path) -> tuple[int, str]:
    """`nanoclaw enrol` with a fresh token: its exit code and what it says."""
    token = directory / "token"
    token.write_text(enrolment.make_token(running.authority, GATEWAY, 60))
    return await nanoclaw("enrol", "--config", str(config), "--url", running.url, "--token-file", str(token))


async def init(directory: Path, running: Manager, config: Path) -> tuple[int, str]:
    """`nanoclaw init` that enrols at once."""
    token = directory / "token"
    token.write_text(enrolment.make_token(running.authority, GATEWAY, 60))
    where = ("--config", str(config), "--data", str(directory / "gateway"), "--hub", "127.0.0.1")
    return await nanoclaw("init", *where, "--id", GATEWAY, "--url", running.url, "--token-file", str(token))


async def nanoclaw(*arguments: str) -> tuple[int, str]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "nanoclaw.cli", *arguments, stdout=-1, stderr=-1, env=child_environment()
    )
    said, complained = await asyncio.wait_for(child.communicate(), WAIT_S)
    return child.returncode or 0, (said + complained).decode()


async def test_a_gateway_enrols_works_is_revoked_and_enrols_again_without_a_restart(tmp_path: Path) -> None:
    async with manager(tmp_path) as running:
        write_key(tmp_path / "gateway.key", GATEWAY_KEY)
        config = tmp_path / "gateway.toml"
        code, said = await init(tmp_path, running, config)
        assert (code, f"\n{GATEWAY} is enrolled until " in said) == (0, True), said
        text = (
            config.read_text()
            .replace("port = 8883", f"port = {running.hub_port}")
            .replace("enabled = true", "enabled = false")
        )
        config.write_text(text.replace("port = 1883 ", "port = 0 "))
        gateway = Process(GATEWAY, tmp_path)
        await gateway.spawn("nanoclaw.cli", config, sim_clock=False)
        try:
            await eventually(lambda: gateway.events("gateway.online"), "the gateway online over TLS")
            running.authority.revoke(GATEWAY)
            await eventually(lambda: gateway.events("gateway.offline"), "the revoked gateway cut off")
            assert (await enrol(tmp_path, running, config))[0] == 0
            await eventually(lambda: len(gateway.events("gateway.online")) == 2, "the gateway back with a new one")
            assert await gateway.terminate() < 5
        finally:
            if gateway.child.returncode is None:
                await gateway.kill()
    assert "PRIVATE" not in gateway.log.read_text() + (tmp_path / "fleet.log").read_text()
