"""What a running server says of itself: its status page and its pace."""

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
