"""The public fleet protocol, as an agent speaks it."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleet.host import database, writer
from fleet.host.tokens import issue
from tests.fleet_host.stand import NODE, Served, problem, served

FLEET = "/api/v1/fleet"
AT = "2026-01-01T00:00:05Z"


@pytest.fixture
async def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 10)
    monkeypatch.setattr(writer, "RETRY_S", 0.02)
    async with served(tmp_path) as server:
        yield server


def registration(node: str = "agent-01", **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"node_id": node, "node_type": "picclaw", "hardware": {"chip": "ESP32-S3", "ram_kb": 512}}
    return found | {"capabilities": ["dht22"], "metadata": {"location": "floor-2"}} | changes


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def register(fleet: Served, node: str = "agent-01", **changes: Any) -> dict[str, str]:
    """Headers with the token that the registration gave."""
    response = await fleet.http.post(f"{FLEET}/register", json=registration(node, **changes))
    return bearer(response.raise_for_status().json()["token"])


def reading(value: Any = 21.5, **changes: Any) -> dict[str, Any]:
    found = {"event_type": "sensor_reading", "timestamp": AT, "sensor_type": "dht22", "data": {"temperature": value}}
    return found | changes


async def report(fleet: Served, own: dict[str, str], *events: Any) -> httpx.Response:
    return await fleet.http.post(f"{FLEET}/events", json={"node_id": "agent-01", "events": list(events)}, headers=own)


async def fetched(fleet: Served, own: dict[str, str]) -> dict[str, Any]:
    """The one command that waits for the agent, as soon as there is one."""
    async with asyncio.timeout(10):
        while True:
            await fleet.settled()
            poll = await fleet.http.post(f"{FLEET}/command", json={"node_id": "agent-01"}, headers=own)
            if poll.json()["commands"]:
                (command,) = poll.json()["commands"]
                return dict(command)


async def test_an_agent_registers_reports_and_is_seen(fleet: Served) -> None:
    response = await fleet.http.post(f"{FLEET}/register", json=registration())
    body = response.json()
    assert response.status_code == 200 and response.headers["cache-control"] == "no-store"
    assert (body["node_id"], body["fleet_broker"]) == ("agent-01", "mqtt://127.0.0.1:1")
    assert body["expires_at"].endswith("Z")
    own = bearer(body["token"])
    beat = {"node_id": "agent-01", "uptime_seconds": 60, "free_memory_kb": 200, "sensors_active": 2, "wifi_rssi": -52}
    told = (await fleet.http.post(f"{FLEET}/heartbeat", json=beat, headers=own)).json()
    assert told == {"status": "ok", "next_heartbeat_seconds": 60, "commands_pending": 0, "warnings": []}
    stored = await report(fleet, own, reading(), reading(data={"temperature": 22, "humidity": 60.0}))
    assert stored.json() == {"events_received": 2, "events_stored": 2}
    node = (await fleet.http.get(f"{FLEET}/nodes/agent-01", headers=own)).json()
    shown = {name: node[name] for name in ("node_type", "status", "capabilities", "uptime_seconds", "free_memory_kb")}
    assert shown == {
        "node_type": "picoclaw",
        "status": "online",
        "capabilities": ["dht22"],
        "uptime_seconds": 60,
        "free_memory_kb": 200,
    }
    assert node["hardware"]["chip"] == "ESP32-S3" and node["sensors_active"] == 2 and node["registered_at"]
    rows = (await fleet.http.get(f"{FLEET}/nodes/agent-01/readings")).json()["readings"]
    assert [(row["metric"], row["value"]) for row in rows] == [
        ("temperature", 21.5),
        ("temperature", 22),
        ("humidity", 60.0),
    ]


async def test_events_are_durable_before_they_are_answered_and_stored_once(fleet: Served, tmp_path: Path) -> None:
    own = await register(fleet)
    events = [reading(), {"event_type": "alert", "timestamp": AT, "severity": "warning", "message": "hot"}]
    first, again = await report(fleet, own, *events), await report(fleet, own, *events)
    assert (first.json()["events_stored"], again.json()["events_stored"]) == (2, 0)
    database = sqlite3.connect(tmp_path / "fleet.sqlite")
    assert database.execute("SELECT count(*) FROM readings").fetchone() == (1,)
    assert database.execute("SELECT kind FROM node_events").fetchall() == [("alert",)]
    shown = (await fleet.http.get(f"{FLEET}/nodes/agent-01/events", headers=own)).json()
    assert [(event["event_type"], event["message"]) for event in shown["events"]] == [("alert", "hot")]


async def test_an_agents_events_are_walked_by_cursor_newest_first(fleet: Served) -> None:
    own = await register(fleet)
    for second in range(5):
        stamp = f"2026-01-01T00:00:0{second}Z"
        event = {"event_type": "status_change", "timestamp": stamp, "message": str(second)}
        await report(fleet, own, event, event | {"message": f"{second} too"})
    found, params = [], {"limit": 3}
    while True:
        page = (await fleet.http.get(f"{FLEET}/nodes/agent-01/events", params=params)).raise_for_status().json()
        found += [event["message"] for event in page["events"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert len(found) == len(set(found)) == 10 and found[0].startswith("4") and found[-1].startswith("0")
    wrong = await fleet.http.get(f"{FLEET}/nodes/agent-01/events", params={"cursor": "zzz"})
    assert problem(wrong) == (400, "invalid")


async def test_reports_of_one_agent_that_come_together_are_taken_one_by_one(fleet: Served) -> None:
    own = await register(fleet)
    answers = await asyncio.gather(*(report(fleet, own, reading(float(number))) for number in range(10)))
    assert [answer.json()["events_stored"] for answer in answers] == [1] * 10


async def test_a_command_is_fetched_and_acknowledged(fleet: Served) -> None:
    own = await register(fleet)
    asking = asyncio.create_task(fleet.http.post("/api/nodes/agent-01/restart", json={"params": {"delay": 3}}))
    command = await fetched(fleet, own)
    assert (command["command_type"], command["params"]) == ("restart", {"delay": 3}) and command["issued_at"]
    ack = {"command_id": command["command_id"], "status": "success", "executed_at": AT, "result": {"boots": 4}}
    for _ in range(2):
        answered = await fleet.http.post(f"{FLEET}/command/ack", json=ack, headers=own)
        assert (answered.json()["status"], answered.json()["state"]) == ("ok", "acknowledged")
    response = await asking
    assert (response.status_code, response.json()["command"]["result"]["boots"]) == (200, 4)


async def test_an_action_that_the_protocol_has_no_word_for_is_custom_and_may_fail(fleet: Served) -> None:
    own = await register(fleet)
    asking = asyncio.create_task(fleet.http.post("/api/nodes/agent-01/blink", json={"params": {"times": 2}}))
    command = await fetched(fleet, own)
    assert (command["command_type"], command["params"]) == ("custom", {"action": "blink", "times": 2})
    await fleet.http.post(
        f"{FLEET}/command/ack", json={"command_id": command["command_id"], "status": "timeout"}, headers=own
    )
    response = await asking
    assert problem(response) == (502, "command_failed") and "timeout" in response.json()["message"]


# --- who may ---------------------------------------------------------------------------------------------------------


async def test_a_token_acts_for_its_own_node_only(fleet: Served) -> None:
    own = await register(fleet)
    await register(fleet, "agent-02")
    for path, body in (
        ("heartbeat", {"node_id": "agent-02"}),
        ("events", {"node_id": "agent-02", "events": []}),
        ("command", {"node_id": "agent-02"}),
        ("register", registration("agent-02")),
    ):
        assert problem(await fleet.http.post(f"{FLEET}/{path}", json=body, headers=own)) == (403, "forbidden"), path
    for path in (f"{FLEET}/nodes", f"{FLEET}/nodes/agent-02", f"{FLEET}/nodes/{NODE}/readings", "/api/v1/users"):
        assert problem(await fleet.http.get(path, headers=own)) == (403, "forbidden"), path
    assert problem(await fleet.http.post("/api/nodes/agent-02/restart", headers=own)) == (403, "forbidden")


async def test_an_operators_token_does_not_speak_for_an_agent(fleet: Served) -> None:
    await register(fleet)
    for path, body in (("heartbeat", {"node_id": "agent-01"}), ("command", {"node_id": "agent-01"})):
        assert problem(await fleet.http.post(f"{FLEET}/{path}", json=body)) == (403, "forbidden")


async def test_a_viewer_and_nobody_register_no_agent(fleet: Served) -> None:
    for headers, expected in ((fleet.as_role("viewer"), 403), ({"Authorization": ""}, 401), (bearer("reg_x"), 401)):
        assert problem(await fleet.http.post(f"{FLEET}/register", json=registration(), headers=headers))[0] == expected


async def test_a_registration_token_registers_one_agent_once(fleet: Served) -> None:
    async def invite(**body: Any) -> dict[str, str]:
        response = await fleet.http.post(f"{FLEET}/registration-tokens", json=body)
        assert response.status_code == 201
        return bearer(response.json()["token"])

    async def use(headers: dict[str, str], node: str) -> int:
        return (await fleet.http.post(f"{FLEET}/register", json=registration(node), headers=headers)).status_code

    anyone, bound = await invite(), await invite(node_id="agent-07")
    assert [await use(anyone, "agent-01"), await use(anyone, "agent-02")] == [200, 401]
    assert [await use(bound, "agent-08"), await use(bound, "agent-07"), await use(bound, "agent-07")] == [401, 200, 401]


async def test_an_agent_renews_its_token_and_a_new_registration_outdates_both(fleet: Served) -> None:
    own = await register(fleet)
    renewed = await fleet.http.post("/api/v1/auth/refresh", headers=own)
    fresh = bearer(renewed.json()["token"])
    beat = {"url": f"{FLEET}/heartbeat", "json": {"node_id": "agent-01"}}
    assert [(await fleet.http.post(**beat, headers=each)).status_code for each in (own, fresh)] == [200, 200]
    newest = await register(fleet)
    for old in (own, fresh):
        assert problem(await fleet.http.post(**beat, headers=old)) == (401, "unauthorized")
    assert (await fleet.http.post(**beat, headers=newest)).status_code == 200


async def test_an_agent_that_is_not_there_is_refused(fleet: Served) -> None:
    stranger = bearer(issue(fleet.key, "stranger", "node", 60, gen=1))
    response = await fleet.http.post(f"{FLEET}/heartbeat", json={"node_id": "stranger"}, headers=stranger)
    assert problem(response) == (401, "unauthorized")


async def test_a_command_of_another_agent_is_not_found(fleet: Served) -> None:
    await register(fleet)
    other = await register(fleet, "agent-02")
    command = (await fleet.http.post("/api/nodes/agent-01/restart", params={"timeout": 0})).json()["command"]
    ack = {"command_id": command["id"], "status": "success"}
    assert problem(await fleet.http.post(f"{FLEET}/command/ack", json=ack, headers=other)) == (404, "not_found")


# --- what is wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"hardware": {"chip": "other"}}, (409, "conflict")),
        ({"node_id": NODE}, (409, "conflict")),
        ({"node_id": "Not An Id"}, (400, "invalid")),
        ({"node_type": "toaster"}, (400, "invalid")),
        ({"hardware": None}, (400, "invalid")),
        ({"hardware": {"ram_kb": -1}}, (400, "invalid")),
        ({"hardware": {"ram_kb": True}}, (400, "invalid")),
        ({"hardware": {"colour": "red"}}, (400, "invalid")),
        ({"capabilities": ["x"] * 65}, (400, "invalid")),
        ({"metadata": {"big": "x" * 5_000}}, (413, "too_large")),
        ({"metadata": {"number": 10**30}}, (400, "invalid")),
        ({"metadata": {"zero": "\x00"}}, (400, "invalid")),
    ],
)
async def test_a_registration_that_is_wrong_is_a_problem(
    fleet: Served, change: dict[str, Any], expected: tuple[int, str]
) -> None:
    await register(fleet)
    assert problem(await fleet.http.post(f"{FLEET}/register", json=registration(**change))) == expected


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([reading()] * 101, (413, "too_large")),
        ([reading(data={"big": "x" * 9_000})], (413, "too_large")),
        ([reading(data={"temperature": {"nested": 1}})], (400, "invalid")),
        ([reading(data={"temperature": 10**30})], (400, "invalid")),
        ([reading(timestamp="yesterday")], (400, "invalid")),
        ([reading(timestamp="0001-01-01T00:00:00Z")], (400, "invalid")),
        ([reading(event_type="gossip")], (400, "invalid")),
        ([reading(severity="loud")], (400, "invalid")),
        ([reading(message="\x00")], (400, "invalid")),
        ("none", (400, "invalid")),
    ],
)
async def test_a_report_that_is_wrong_is_a_problem_and_stores_nothing(
    fleet: Served, events: Any, expected: tuple[int, str]
) -> None:
    own = await register(fleet)
    response = await fleet.http.post(f"{FLEET}/events", json={"node_id": "agent-01", "events": events}, headers=own)
    assert problem(response) == expected
    assert (await fleet.http.get(f"{FLEET}/readings")).json()["readings"] == []


async def test_a_result_that_is_too_long_is_413(fleet: Served) -> None:
    own = await register(fleet)
    ack = {"command_id": "c-1", "status": "success", "result": {"big": "x" * 5_000}}
    assert problem(await fleet.http.post(f"{FLEET}/command/ack", json=ack, headers=own)) == (413, "too_large")


async def test_while_the_database_fails_an_agents_report_is_503_and_stored_when_it_comes_again(
    fleet: Served, tmp_path: Path
) -> None:
    own = await register(fleet)
    blocker = sqlite3.connect(tmp_path / "fleet.sqlite", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    response = await report(fleet, own, reading())
    assert problem(response) == (503, "unavailable")
    blocker.execute("ROLLBACK")
    await fleet.until_database(failing=False)
    assert (await report(fleet, own, reading())).json()["events_stored"] == 1
