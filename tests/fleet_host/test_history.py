"""Alerts and commands of any age are listed from the database; a start reads only what it needs of them."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleet.host import history
from fleet.host.storage import Storage
from tests.fleet_host.stand import GATEWAY, NODE, Database, Served, problem, served

FLEET = "/api/v1/fleet"


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as server:
        server.http.headers = httpx.Headers(server.as_role("admin"))
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.xdist_group("postgresql"))])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    opened = Database.make(request, tmp_path).open()
    yield opened
    opened.close()


def command(number: int, state: str, target: str = NODE) -> dict[str, Any]:
    doc = {"action": "restart", "params": {}, "by": "anna", "expires_utc_ms": 9, "key": None}
    return {"id": f"c-{number:03}", "target": target, "state": state, "created_utc_ms": number, "doc": doc}


def alert(number: int, state: str, begun_ms: int | None) -> dict[str, Any]:
    row = {"id": f"hot:{number:03}", "node": NODE, "rule": "hot", "state": state, "raised_utc_ms": begun_ms}
    return row | {"cleared_utc_ms": None, "doc": {"severity": "warning"}}


async def follow(fleet: Served, path: str, name: str, **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        asked = params | ({} if cursor is None else {"cursor": cursor})
        body = (await fleet.http.get(f"{FLEET}/{path}", params=asked)).json()
        found += body[name]
        cursor = body["next_cursor"]
        if cursor is None:
            return found


async def test_commands_are_listed_latest_first_by_node_and_state(fleet: Served) -> None:
    for target in (NODE, "sensor-02", NODE):
        await fleet.http.post(f"/api/nodes/{target}/identify", params={"timeout": 0})
    listed = await follow(fleet, "commands", "commands", limit=2)
    assert [each["target"] for each in listed] == [NODE, "sensor-02", NODE]
    assert listed[0]["action"] == "identify" and listed[0]["by"] == "tester"
    assert [each["target"] for each in await follow(fleet, "commands", "commands", node_id="sensor-02")] == [
        "sensor-02"
    ]
    first = listed[-1]["id"]
    fleet.says("ack", {"id": first, "target": NODE, "status": "done"})
    await fleet.settled()
    assert [each["id"] for each in await follow(fleet, "commands", "commands", state="acknowledged")] == [first]
    assert len(await follow(fleet, "commands", "commands", state="open", node_id=NODE)) == 1


async def test_what_the_core_has_long_forgotten_is_still_shown(fleet: Served) -> None:
    old = [("upsert", "commands", command(n, "acknowledged")) for n in range(3)]
    await fleet.runtime.save([*old, ("upsert", "alerts", alert(1, "cleared", 5))])
    assert (await fleet.http.get(f"{FLEET}/commands/c-001")).json()["action"] == "restart"
    assert [each["id"] for each in await follow(fleet, "commands", "commands", limit=1)] == ["c-002", "c-001", "c-000"]
    assert [each["alert_id"] for each in await follow(fleet, "alerts", "alerts", rule="hot")] == ["hot:001"]
    assert await follow(fleet, "alerts", "alerts", rule="cold") == []


@pytest.mark.parametrize("path", ["commands", "alerts", "alerts?state=open", "gateways"])
async def test_a_cursor_of_another_list_is_refused(fleet: Served, path: str) -> None:
    wrong = await fleet.http.get(f"{FLEET}/{path}", params={**dict(httpx.URL(path).params), "cursor": "nowhere"})
    assert problem(wrong) == (400, "invalid")


async def test_commands_are_for_people_and_a_state_is_a_known_one(fleet: Served) -> None:
    agent = (await fleet.http.post("/api/v1/tokens", json={"name": GATEWAY, "role": "gateway"})).json()["token"]
    own = {"Authorization": f"Bearer {agent}"}
    assert problem(await fleet.http.get(f"{FLEET}/commands", headers=own)) == (403, "forbidden")
    assert problem(await fleet.http.get(f"{FLEET}/commands", params={"state": "lost"})) == (400, "invalid")


async def test_gateways_come_in_pages(fleet: Served) -> None:
    for name in ("gateway-09", "gateway-05"):
        await fleet.http.post(f"{FLEET}/gateways", json={"gateway_id": name, "site": "barn"})
    found = await follow(fleet, "gateways", "gateways", limit=1)
    assert [each["gateway_id"] for each in found] == [GATEWAY, "gateway-05", "gateway-09"]


def test_a_start_reads_what_is_open_and_the_latest_of_what_is_over(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "KEPT", 3)
    rows: list[Any] = [("upsert", "commands", command(n, "sent" if n == 1 else "expired")) for n in range(9)]
    rows += [("upsert", "alerts", alert(n, "raised" if n == 0 else "cleared", n or None)) for n in range(9)]
    message = {"subject": "", "body": "", "attempts": 0, "doc": {}}
    rows += [("upsert", "notifications", message | {"id": state, "state": state}) for state in ("sent", "failed")]
    storage.perform(rows)
    found = storage.load()
    assert [row["id"] for row in found["commands"]] == ["c-001", "c-006", "c-007", "c-008"]
    assert [row["id"] for row in found["alerts"]] == ["hot:000", "hot:006", "hot:007", "hot:008"]
    assert [row["id"] for row in found["notifications"]] == ["failed"]


def test_pages_neither_repeat_nor_leave_out_rows_of_one_moment(storage: Storage) -> None:
    storage.perform([("upsert", "alerts", alert(n, "cleared", 7 if n % 2 else None)) for n in range(6)])
    walked: list[str] = []
    cursor = None
    with storage.reading() as connection:
        while not walked or cursor is not None:
            rows, cursor = history.page(connection, "alerts", {"node": (NODE,)}, cursor, 2)
            walked += [row["id"] for row in rows]
    assert walked == ["hot:005", "hot:003", "hot:001", "hot:004", "hot:002", "hot:000"]
