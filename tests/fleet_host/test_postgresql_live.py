"""A real PostgreSQL under a real server: what it holds, what happens while it is away, and what never shows."""

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.host import writer
from tests.fleet_host.stand import (
    NODE,
    Database,
    all_rows,
    batch,
    command,
    fleet_with_hub,
    gateway_at,
    served,
)
from tests.servers import PostgresServer

pytestmark = pytest.mark.live


@contextlib.contextmanager
def stopped(postgres: PostgresServer) -> Iterator[None]:
    """Away inside the block, and back after it, whatever happens."""
    postgres.stop()
    try:
        yield
    finally:
        postgres.start()


async def test_while_postgresql_is_away_nothing_is_acknowledged_and_all_resumes_by_itself(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "RETRY_S", 0.05)
    async with served(tmp_path, database=Database.postgresql(postgres)) as fleet:
        fleet.delivers(batch("b-1", range(5)))
        await fleet.settled()
        with stopped(postgres):
            fleet.delivers(batch("b-2", range(5, 10)))
            await fleet.until_database(failing=True)
            for path in ("/api/v1/fleet/nodes", "/api/v1/fleet/readings", "/readyz"):
                response = await fleet.http.get(path)
                assert (response.status_code, response.json()["error"]) == (503, "unavailable")
                assert response.headers["retry-after"].isdigit()
            assert (await fleet.http.post(f"/api/nodes/{NODE}/restart")).status_code == 503
            assert (await fleet.http.get("/healthz")).status_code == 200
            assert fleet.acknowledged() == ["b-1"]
        await fleet.until_database(failing=False)
        for name, seqs in (("b-2", range(5, 10)), ("b-1", range(5))):  # as a gateway does without an acknowledgement
            fleet.delivers(batch(name, seqs))
        await fleet.settled()
        assert fleet.acknowledged() == ["b-1", "b-2", "b-1"]
        readings = (await fleet.http.get("/api/v1/fleet/readings")).json()
        assert ([row["seq"] for row in readings["readings"]], readings["conflicts"]) == (list(range(10)), 0)


async def test_a_connection_that_postgresql_closed_meanwhile_is_replaced_unnoticed(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    async with served(tmp_path, database=Database.postgresql(postgres)) as fleet:
        fleet.delivers(batch("b-1", range(5)))
        await fleet.settled()
        with stopped(postgres):
            pass
        fleet.delivers(batch("b-2", range(5, 10)))
        await fleet.settled()
        assert fleet.acknowledged() == ["b-1", "b-2"]
        assert len((await fleet.http.get("/api/v1/fleet/readings")).json()["readings"]) == 10


async def test_a_server_on_postgresql_keeps_all_through_a_restart_and_the_password_to_itself(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    words = ("--database-url", postgres.make_database(), "--database-password-file", postgres.password_file)
    options = (*words, "--retention", "90d", "--log-level", "debug")
    said = b""
    with fleet_with_hub(tmp_path) as fleet:
        for _ in range(2):  # the second time the server has to know it from its database
            with fleet.server(*options) as server:
                async with gateway_at(fleet.hub) as gateway:
                    await gateway.until_manager_hears()
                    await gateway.publish("batch", batch("b-1", range(60)))
                    await gateway.until(lambda g=gateway: "b-1" in g.acknowledged, "the acknowledgement of b-1")
                with fleet.api(server) as api:
                    assert [row["seq"] for row in all_rows(api)] == list(range(60))
                server.child.send_signal(signal.SIGTERM)
                said += b"".join(server.child.communicate(timeout=10))
                assert server.child.returncode == 0
        assert not (fleet.data / "fleet.sqlite").exists()
    assert postgres.password.encode() not in said


def test_a_server_without_its_postgresql_says_so_in_one_line(postgres: PostgresServer, tmp_path: Path) -> None:
    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        arguments = command("serve", "--data", tmp_path, "--port", "0", "--hub-port", "0", *words)
        return subprocess.run(arguments, capture_output=True, text=True, timeout=20)

    wrong = tmp_path / "wrong"
    wrong.write_text("of-somebody-else")
    wrong.chmod(0o600)
    gone = run("--database-url", "postgresql://fleet@127.0.0.1:1/clawland")
    refused = run("--database-url", postgres.make_database(), "--database-password-file", str(wrong))
    for done, reason in ((gone, "connection failed"), (refused, "password authentication failed")):
        assert (done.returncode, done.stderr.count("\n")) == (3, 1)
        assert done.stderr.startswith("error: postgresql://fleet@127.0.0.1:") and reason in done.stderr
        assert "of-somebody-else" not in done.stderr
