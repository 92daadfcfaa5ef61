"""What a running server says of itself: its status page, its pace, and its words to systemd."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import pytest_asyncio
import typer
from typer.testing import CliRunner

from fleet.host.pace import SPAN_S, Pace
from fleet.host.storage import StorageError
from fleet.host.systemd import Supervisor
from fleet.options import takes
from tests.fleet_host.stand import NODE, Served, batch, served


@pytest_asyncio.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as server:
        yield server


async def test_the_status_has_connections_counts_and_rates_for_every_viewer(fleet: Served) -> None:
    fleet.delivers(batch("b-1", range(30)))
    await fleet.settled()
    await fleet.http.post(f"/api/nodes/{NODE}/restart", params={"timeout": 0})
    answer = await fleet.http.get("/api/v1/fleet/status", headers=fleet.as_role("viewer"))
    found = answer.json()
    assert answer.status_code == 200 and found["database"]["failure"] is None and found["commands_waiting"] == 1
    assert sum(found["nodes"].values()) == 2 and sum(found["gateways"].values()) == 1
    assert found["per_s"]["readings_stored"] > 0 and found["dead_letters"] == 0
    assert (await fleet.http.get("/api/v1/fleet/status", headers={"Authorization": ""})).status_code == 401


async def test_the_status_answers_while_the_database_fails(fleet: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise StorageError("disk full")

    monkeypatch.setattr(fleet.runtime.storage, "perform_all", fails)
    monkeypatch.setattr(fleet.runtime.storage, "probe", fails)
    fleet.delivers(batch("b-1", range(3)))
    await fleet.until_database(failing=True)
    assert (await fleet.http.get("/api/v1/fleet/nodes")).status_code == 503
    answer = await fleet.http.get("/api/v1/fleet/status")
    assert (answer.status_code, answer.json()["database"]["failure"]) == (200, "disk full")
    monkeypatch.undo()
    await fleet.until_database(failing=False)


def test_a_rate_is_of_the_last_minute_or_since_the_start() -> None:
    counts = {"readings": 100}
    pace = Pace(lambda: counts, 0.0)
    counts["readings"] = 200
    assert pace.per_s(10.0) == {"readings": 10.0}
    for second in range(5, 125, 5):
        counts["readings"] = 200 + second
        pace.sample(float(second))
    assert pace.per_s(120.0) == {"readings": pytest.approx(1.0, abs=0.2)}
    assert len(pace._samples) <= SPAN_S / 5 + 2


# --- systemd ---------------------------------------------------------------------------------------------------------


def listening(path: str) -> socket.socket:
    found = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    found.bind(path)
    found.settimeout(5)
    return found


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears_ready_and_stopping(tmp_path: Path, abstract: bool) -> None:
    name = f"clawland-test-{os.getpid()}"
    bound, given = (f"\0{name}", f"@{name}") if abstract else (str(tmp_path / "s"), str(tmp_path / "s"))
    with listening(bound) as systemd:
        supervisor = Supervisor({"NOTIFY_SOCKET": given})
        supervisor.ready("API at http://127.0.0.1:8080")
        assert systemd.recv(999) == b"READY=1\nSTATUS=API at http://127.0.0.1:8080"
        supervisor.stopping()
        assert systemd.recv(999).startswith(b"STOPPING=1\n")


async def test_the_watchdog_is_fed_twice_in_its_time_and_only_when_it_is_ours(tmp_path: Path) -> None:
    given = {"NOTIFY_SOCKET": str(tmp_path / "s"), "WATCHDOG_USEC": "20000", "WATCHDOG_PID": str(os.getpid())}
    with listening(given["NOTIFY_SOCKET"]) as systemd:
        watching = asyncio.create_task(Supervisor(given).watch())
        for _ in range(3):
            assert await asyncio.to_thread(systemd.recv, 999) == b"WATCHDOG=1"
        watching.cancel()
        await Supervisor(given | {"WATCHDOG_PID": "1"}).watch()  # another's: nothing to do
        await Supervisor(given | {"WATCHDOG_USEC": "soon"}).watch()


@pytest.mark.parametrize("given", [{}, {"NOTIFY_SOCKET": "/nowhere/socket"}, {"NOTIFY_SOCKET": "vsock:2:1"}])
async def test_where_there_is_no_systemd_nobody_is_told(given: dict[str, str]) -> None:
    supervisor = Supervisor(given | {"WATCHDOG_USEC": "1000"})
    supervisor.ready("x")
    supervisor.stopping()
    await supervisor.watch()


# --- options that commands share --------------------------------------------------------------------------------------


def test_a_command_takes_a_set_of_options_and_its_own() -> None:
    @dataclass(frozen=True)
    class Shared:
        port: Annotated[int, typer.Option(min=0, envvar="X_PORT")] = 1
        name: str | None = None

    app = typer.Typer()

    @app.command()
    @takes(Shared)
    def show(shared: Shared, what: str, loud: bool = False) -> None:
        """Shows."""
        print(shared.port, shared.name, what, loud)

    assert CliRunner().invoke(app, ["it", "--port", "2", "--loud"]).stdout == "2 None it True\n"
    assert CliRunner().invoke(app, ["it", "--name", "n"], env={"X_PORT": "3"}).stdout == "3 n it False\n"
    assert CliRunner().invoke(app, ["it", "--port", "-1"]).exit_code == 2
    assert "Shows." in CliRunner().invoke(app, ["--help"]).stdout
