"""Whatever was answered with success is on disk, also when the database refuses one transaction and takes the next."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleet.host.storage import StorageError
from tests.fleet_host.stand import GATEWAY, NODE, Served, problem, served

FLEET = "/api/v1/fleet"
DEEDS: list[tuple[str, str, Any]] = [
    ("POST", "gateways", {"gateway_id": "gateway-07", "site": "barn"}),
    ("POST", "nodes", {"node_id": "sensor-07", "gateway": GATEWAY}),
    ("DELETE", f"nodes/{NODE}", None),
    ("PUT", "groups/doors", {"nodes": [NODE]}),
    ("PUT", "sites/barn", {"title": "Barn"}),
    ("PUT", f"nodes/{NODE}/configuration", {"interval_s": 5}),
    ("POST", "maintenance", {"on": "all", "until_utc": "2099-01-01T00:00:00Z"}),
]


@pytest.fixture
async def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    monkeypatch.setattr("fleet.host.writer.MAX_GROUP", 1)  # as when the writer is quicker than the request
    async with served(tmp_path) as server:
        server.http.headers = httpx.Headers(server.as_role("admin"))
        await server.settled()
        yield server


@pytest.mark.parametrize(
    ("method", "path", "body", "bad_data"), [*((*deed, False) for deed in DEEDS), (*DEEDS[0], True)]
)
async def test_a_change_that_was_rolled_back_is_503_though_the_next_transaction_goes_well(
    fleet: Served, monkeypatch: pytest.MonkeyPatch, method: str, path: str, body: Any, bad_data: bool
) -> None:
    perform, refused = fleet.runtime.storage.perform_all, []

    def refuses_the_first(groups: Any) -> Any:
        if any(groups) and not refused:
            refused.append(groups)
            raise StorageError("database or disk is full", bad_data)
        return perform(groups)

    monkeypatch.setattr(fleet.runtime.storage, "perform_all", refuses_the_first)
    answer = await fleet.http.request(method, f"{FLEET}/{path}", json=body)
    assert problem(answer) == (503, "unavailable") and refused
    await fleet.until_database(failing=False)
    again = await fleet.http.request(method, f"{FLEET}/{path}", json=body)
    assert again.is_success, "nothing of it was done, so that it can be asked again"


async def test_the_database_is_not_said_to_work_again_by_a_transaction_that_wrote_nothing(
    fleet: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(groups: Any) -> Any:
        if any(groups):
            raise StorageError("database or disk is full")
        return [[] for _ in groups]

    def no_probe() -> None:
        raise StorageError("database or disk is full")

    monkeypatch.setattr(fleet.runtime.storage, "perform_all", full)
    monkeypatch.setattr(fleet.runtime.storage, "probe", no_probe)
    for _ in range(3):
        assert problem(await fleet.http.put(f"{FLEET}/groups/doors", json={"nodes": []}))[0] == 503
        assert fleet.runtime.writer.failing == "database or disk is full"
    monkeypatch.undo()
    await fleet.until_database(failing=False)
