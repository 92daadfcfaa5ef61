"""Maintenance windows and dead letters over the API: who may, what is kept, what is refused."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fleet.host.storage import Storage, sqlite_url
from tests.fleet_host.stand import GATEWAY, NODE, Served, problem, served

FLEET = "/api/v1/fleet"
LATER = "2999-01-01T00:00:00Z"


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as server:
        yield server


async def add(fleet: Served, **window: Any) -> dict[str, Any]:
    response = await fleet.http.post(f"{FLEET}/maintenance", json={"on": "all", "until_utc": LATER} | window)
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()
    return found


async def test_a_window_is_added_changed_and_ended_and_all_of_it_is_in_the_audit_log(fleet: Served) -> None:
    window = await add(fleet, on="site:office", reason="new routers")
    assert (window["state"], window["by"], window["until_utc"]) == ("open", "tester", "2999-01-01T00:00:00.000Z")
    where = f"{FLEET}/maintenance/{window['window_id']}"
    assert (await fleet.http.get(where)).json() == window
    changed = await fleet.http.patch(where, json={"until_utc": "2998-01-01T00:00:00Z", "reason": "and cables"})
    assert changed.json() == window | {"until_utc": "2998-01-01T00:00:00.000Z", "reason": "and cables"}
    ended = await fleet.http.delete(where)
    assert ended.json()["state"] == "over" and (await fleet.http.get(where)).json() == ended.json()
    assert problem(await fleet.http.patch(where, json={"reason": "x"})) == (409, "conflict")
    audit = (await fleet.http.get(f"{FLEET}/audit", headers=fleet.as_role("admin"))).json()["entries"]
    assert [entry["action"].split()[0] for entry in reversed(audit)] == ["POST", "PATCH", "DELETE", "PATCH"]
    assert [entry["result"] for entry in reversed(audit)] == ["done", "done", "done", "refused"]


async def test_windows_are_listed_by_pages_and_by_state(fleet: Served) -> None:
    names = {(await add(fleet, on=f"node:{NODE}"))["window_id"] for _ in range(3)}
    coming = await add(fleet, on=f"node:{GATEWAY}", from_utc="2998-01-01T00:00:00Z")
    assert coming["state"] == "to come"
    seen, cursor = [], {}
    while cursor is not None:
        page = (await fleet.http.get(f"{FLEET}/maintenance", params={"limit": 1} | cursor)).json()
        seen += [window["window_id"] for window in page["windows"]]
        cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else None
    assert seen[0] == coming["window_id"] and sorted(seen[1:]) == sorted(names)
    found = (await fleet.http.get(f"{FLEET}/maintenance", params={"state": "to come"})).json()["windows"]
    assert found == [coming]
    assert problem(await fleet.http.get(f"{FLEET}/maintenance", params={"cursor": "w-0-0"})) == (400, "invalid")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"on": "all"}, 400),
        ({"on": "node:nobody", "until_utc": LATER}, 400),
        ({"on": "site:nowhere", "until_utc": LATER}, 400),
        ({"on": "the barn", "until_utc": LATER}, 400),
        ({"on": "all", "until_utc": "2001-01-01T00:00:00Z"}, 400),
        ({"on": "all", "until_utc": LATER, "from_utc": "2999-01-02T00:00:00Z"}, 400),
        ({"on": "all", "until_utc": 32503680000}, 400),
        ({"on": "all", "until_utc": LATER, "reason": "x" * 201}, 400),
        ({"on": "all", "until_utc": LATER, "who": "me"}, 400),
    ],
    ids=str,
)
async def test_a_window_that_makes_no_sense_is_a_problem(fleet: Served, body: dict[str, Any], status: int) -> None:
    assert problem(await fleet.http.post(f"{FLEET}/maintenance", json=body)) == (status, "invalid")
    assert (await fleet.http.get(f"{FLEET}/maintenance")).json()["windows"] == []


async def test_a_viewer_sees_windows_and_letters_and_changes_none(fleet: Served) -> None:
    window, viewer = await add(fleet), fleet.as_role("viewer")
    for path in ("maintenance", f"maintenance/{window['window_id']}", "dead-letters"):
        assert (await fleet.http.get(f"{FLEET}/{path}", headers=viewer)).status_code == 200
    for method, path in (
        ("POST", "maintenance"),
        ("PATCH", f"maintenance/{window['window_id']}"),
        ("DELETE", f"maintenance/{window['window_id']}"),
        ("POST", "dead-letters/m-1-1/retry"),
        ("DELETE", "dead-letters/m-1-1"),
    ):
        body = {} if method in ("POST", "PATCH") else None
        response = await fleet.http.request(method, f"{FLEET}/{path}", headers=viewer, json=body)
        assert problem(response) == (403, "forbidden"), path


async def test_what_is_not_there_is_a_problem(fleet: Served) -> None:
    for method, path in (
        ("GET", "maintenance/w-0-0"),
        ("PATCH", "maintenance/w-0-0"),
        ("DELETE", "maintenance/w-0-0"),
        ("GET", "dead-letters/m-0-0"),
        ("POST", "dead-letters/m-0-0/retry"),
        ("DELETE", "dead-letters/m-0-0"),
    ):
        body = {} if method == "PATCH" else None
        assert problem(await fleet.http.request(method, f"{FLEET}/{path}", json=body)) == (404, "not_found"), path


def bury(directory: Path, count: int) -> list[str]:
    """Messages that were refused as often as they are tried, in the database of a server that does not run yet."""
    storage = Storage(sqlite_url(directory / "fleet.sqlite"))
    storage.open()
    names = [f"m-2f-{number}" for number in range(count)]
    for number, name in enumerate(names):
        row = {"id": name, "state": "failed", "attempts": 5, "subject": f"subject {number}", "body": "body"}
        row["doc"] = {"kind": "node.down", "severity": "warning", "node": NODE}
        storage.perform([("upsert", "notifications", row)])
    storage.close()
    return names


async def test_dead_letters_are_listed_tried_again_and_given_up_and_outlive_the_server(tmp_path: Path) -> None:
    first, second, third = bury(tmp_path, 3)
    async with served(tmp_path) as fleet:
        page = (await fleet.http.get(f"{FLEET}/dead-letters", params={"limit": 2})).json()
        assert [letter["message_id"] for letter in page["letters"]] == [first, second]
        rest = (await fleet.http.get(f"{FLEET}/dead-letters", params={"cursor": page["next_cursor"]})).json()
        assert [letter["message_id"] for letter in rest["letters"]] == [third] and rest["next_cursor"] is None
        letter = (await fleet.http.get(f"{FLEET}/dead-letters/{first}")).json()
        assert (letter["subject"], letter["attempts"], letter["state"]) == ("subject 0", 5, "failed")
        again = await fleet.http.post(f"{FLEET}/dead-letters/{first}/retry")
        assert again.status_code == 202 and again.json()["message_id"] == first
        assert (await fleet.http.delete(f"{FLEET}/dead-letters/{second}")).status_code == 204
        window = await add(fleet)
        await fleet.settled()
    async with served(tmp_path) as fleet:
        letters = (await fleet.http.get(f"{FLEET}/dead-letters")).json()["letters"]
        assert [letter["message_id"] for letter in letters] == [third]
        assert (await fleet.http.get(f"{FLEET}/maintenance")).json()["windows"] == [window]
