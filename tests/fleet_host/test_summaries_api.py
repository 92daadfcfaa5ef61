"""Summaries as the API shows them: by time, of one metric, a page at a time."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fleet_host.secrecy import vault_of
from tests.fleet_host.stand import NODE, UTC_MS, Served, problem, served

PATH = f"/api/v1/fleet/nodes/{NODE}/summaries"


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as server:
        yield server


def stat(minute: int, metric: str = "temp") -> dict[str, Any]:
    first_ms = UTC_MS + 60_000 * minute
    found = {"sensor": NODE, "metric": metric, "count": 3, "min": 20.0, "mean": 21.5, "max": 23.0}
    return found | {"from_utc_ms": first_ms, "to_utc_ms": first_ms + 40_000}


async def test_summaries_are_shown_by_time_of_one_metric_and_in_pages(fleet: Served) -> None:
    stats = [stat(2), stat(0), stat(1), stat(1, "humidity")]
    for _ in range(2):  # a copy changes nothing
        fleet.says("status", {"item": "gateway-01-1-r1", "status": "summary", "stats": stats})
    await fleet.settled()
    first = (await fleet.http.get(f"{PATH}?metric=temp&limit=2")).json()
    assert [each["first_utc"] for each in first["summaries"]] == [
        "2026-01-01T00:00:00.000Z",
        "2026-01-01T00:01:00.000Z",
    ]
    assert first["summaries"][0] == {
        "metric": "temp", "count": 3, "min": 20.0, "mean": 21.5, "max": 23.0, "gateway": "gateway-01"
    } | {"first_utc": "2026-01-01T00:00:00.000Z", "last_utc": "2026-01-01T00:00:40.000Z"}  # fmt: skip
    second = (await fleet.http.get(f"{PATH}?metric=temp&limit=2&cursor={first['next_cursor']}")).json()
    assert ([each["first_utc"] for each in second["summaries"]], second["next_cursor"]) == (
        ["2026-01-01T00:02:00.000Z"],
        None,
    )
    some = await fleet.http.get(f"{PATH}?from=2026-01-01T00:01:00Z&to=2026-01-01T00:02:00Z")
    assert sorted(each["metric"] for each in some.json()["summaries"]) == ["humidity", "temp"]


@pytest.mark.parametrize("cursor", ["x", "12", ":a", "9" * 20 + ":a"])
async def test_a_cursor_that_no_page_gave_is_refused(fleet: Served, cursor: str) -> None:
    assert problem(await fleet.http.get(f"{PATH}?cursor={cursor}")) == (400, "invalid")


async def test_of_a_sensitive_metric_a_viewer_sees_how_many_and_the_database_keeps_no_figures(tmp_path: Path) -> None:
    async with served(tmp_path, vault=vault_of(0)) as fleet:
        for number, marked in enumerate((False, True)):
            if marked:
                await fleet.http.put("/api/v1/fleet/sensitive/temp", json={}, headers=fleet.as_role("admin"))
            told = {"item": f"gateway-01-1-r{number}", "status": "summary", "stats": [stat(number)]}
            fleet.says("status", told)
            await fleet.settled()
        for role, before in (("viewer", None), ("operator", 21.5)):
            found = (await fleet.http.get(PATH, headers=fleet.as_role(role))).json()["summaries"]
            assert [(each["count"], each["mean"], each["sealed"]) for each in found] == [
                (3, before, True),
                (3, None, True),
            ]
