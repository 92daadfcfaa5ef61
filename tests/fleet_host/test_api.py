"""The REST API over a real core and database, in this process; the test plays the hub."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleet.host import database, gate, writer
from fleet.host.views import alert_json
from tests.fleet_host.stand import GATEWAY, NODE, UTC_MS, Served, batch, problem, served


@pytest.fixture
async def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 10)
    monkeypatch.setattr(writer, "RETRY_S", 0.02)
    async with served(tmp_path) as server:
        server.says("heartbeat", {"n": 1, "uptime_ms": 1, "config": 0})
        yield server


async def sent_command(fleet: Served) -> dict[str, Any]:
    """The command that the manager sends, as soon as it does."""
    async with asyncio.timeout(10):
        while not (found := [message for verb, message in fleet.sent if verb == "cmd"]):
            await fleet.runtime.committed()
    return found[0]


# --- commands --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_body", [False, True])
async def test_a_command_waits_for_the_nodes_answer(fleet: Served, by_body: bool) -> None:
    url, body = (
        (f"/api/nodes/{NODE}/command", {"action": "restart"}) if by_body else (f"/api/nodes/{NODE}/restart", None)
    )
    asking = asyncio.create_task(fleet.http.post(url, json=body))
    command = await sent_command(fleet)
    assert not asking.done()
    fleet.says("ack", {"id": command["id"], "target": NODE, "status": "restarted"})
    response = await asking
    assert (response.status_code, response.json()["result"]) == (200, "success")
    shown = response.json()["command"]
    assert (shown["action"], shown["target"], shown["status"], shown["by"]) == ("restart", NODE, "restarted", "tester")


async def test_a_command_without_an_answer_yet_is_202_with_its_url(fleet: Served) -> None:
    response = await fleet.http.post(f"/api/nodes/{NODE}/restart", params={"timeout": 0.05})
    assert (response.status_code, response.json()["result"]) == (202, "pending")
    shown = await fleet.http.get(response.headers["location"])
    assert (shown.status_code, shown.json()["state"]) == (200, "sent")


async def test_a_command_that_failed_on_the_node_is_502_with_its_reason(fleet: Served) -> None:
    asking = asyncio.create_task(fleet.http.post(f"/api/nodes/{NODE}/identify"))
    command = await sent_command(fleet)
    fleet.says("ack", {"id": command["id"], "target": NODE, "status": "failed", "reason": "no such action"})
    response = await asking
    assert problem(response) == (502, "command_failed")
    assert "no such action" in response.json()["message"] and response.json()["command"]["state"] == "failed"


async def test_a_command_that_expires_is_504(fleet: Served) -> None:
    response = await fleet.http.post(f"/api/nodes/{NODE}/restart", json={"ttl": 0.05})
    assert problem(response) == (504, "command_expired")


async def test_a_command_is_in_the_database_before_it_is_answered_for(fleet: Served, tmp_path: Path) -> None:
    response = await fleet.http.post(f"/api/nodes/{NODE}/restart", params={"timeout": 0})
    stored = sqlite3.connect(tmp_path / "fleet.sqlite").execute("SELECT id FROM commands").fetchall()
    assert stored == [(response.json()["command"]["id"],)]


async def test_an_idempotency_key_stands_for_one_command(fleet: Served) -> None:
    async def ask(action: str, key: str, role: str = "operator") -> httpx.Response:
        headers = {"Idempotency-Key": key} | fleet.as_role(role)
        return await fleet.http.post(f"/api/nodes/{NODE}/{action}", params={"timeout": 0}, headers=headers)

    first, again, other = await ask("restart", "k-1"), await ask("restart", "k-1"), await ask("restart", "k-2")
    ids = [response.json()["command"]["id"] for response in (first, again, other)]
    assert ids[0] == ids[1] != ids[2]
    assert problem(await ask("identify", "k-1")) == (422, "key_reused")


@pytest.mark.parametrize(
    ("path", "body", "params", "expected"),
    [
        ("/api/nodes/sensor-99/restart", None, {}, (404, "not_found")),
        ("/api/nodes/../restart", None, {}, (404, "not_found")),
        (f"/api/nodes/{NODE}/RM -RF", None, {}, (400, "invalid")),
        (f"/api/nodes/{NODE}/command", None, {}, (400, "invalid")),
        (f"/api/nodes/{NODE}/restart", {"action": "alert"}, {}, (400, "invalid")),
        (f"/api/nodes/{NODE}/restart", {"tiemout": 3}, {}, (400, "invalid")),
        (f"/api/nodes/{NODE}/restart", {"params": {"text": "x" * 300}}, {}, (400, "invalid")),
        (f"/api/nodes/{NODE}/restart", {"ttl": 0}, {}, (400, "invalid")),
        (f"/api/nodes/{NODE}/restart", [], {}, (400, "invalid")),
        (f"/api/nodes/{NODE}/restart", None, {"timeout": "soon"}, (400, "invalid")),
        (f"/api/nodes/{NODE}/restart", None, {"timeout": "nan"}, (400, "invalid")),
        (f"/api/nodes/{NODE}/restart", None, {"timeout": 1e9}, (400, "invalid")),
    ],
)
async def test_a_request_that_is_wrong_is_a_problem_that_says_so(
    fleet: Served, path: str, body: Any, params: dict[str, Any], expected: tuple[int, str]
) -> None:
    assert problem(await fleet.http.post(path, json=body, params={"timeout": 0} | params)) == expected
    assert not [verb for verb, _ in fleet.sent if verb == "cmd"]


async def test_a_body_that_is_not_json_is_a_problem(fleet: Served) -> None:
    for body in (b"{", b"\xff\xfe", b"[" * 50_000):
        response = await fleet.http.post(
            f"/api/nodes/{NODE}/restart", content=body, headers={"Content-Type": "application/json"}
        )
        assert problem(response) == (400, "invalid")


async def test_a_body_above_the_limit_is_413(fleet: Served) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100_000

    for body in (b"x" * (gate.MAX_BODY_BYTES + 1), chunks()):
        assert problem(await fleet.http.post(f"/api/nodes/{NODE}/restart", content=body)) == (413, "too_large")


# --- who may ---------------------------------------------------------------------------------------------------------


async def test_every_api_route_needs_a_token(fleet: Served) -> None:
    schema = (await fleet.http.get("/openapi.json")).json()
    paths = [
        (method, path) for path, methods in schema["paths"].items() for method in methods if path.startswith("/api")
    ]
    assert len(paths) >= 8
    paths.remove(("post", "/api/v1/auth/login"))  # where one gets a token from
    for method, path in paths:
        response = await fleet.http.request(
            method, path.replace("{", "").replace("}", ""), headers={"Authorization": ""}
        )
        assert problem(response) == (401, "unauthorized"), path
        assert response.headers["www-authenticate"].startswith("Bearer")


async def test_a_viewer_reads_and_does_not_command(fleet: Served) -> None:
    viewer = fleet.as_role("viewer")
    assert (await fleet.http.get("/api/v1/fleet/nodes", headers=viewer)).status_code == 200
    assert problem(await fleet.http.post(f"/api/nodes/{NODE}/restart", headers=viewer)) == (403, "forbidden")


# --- what there is ---------------------------------------------------------------------------------------------------


async def test_a_page_of_nodes_shows_what_has_changed_since_it_was_last_asked_for(fleet: Served) -> None:
    async def first() -> dict[str, Any]:
        found: dict[str, Any] = (await fleet.http.get("/api/v1/fleet/nodes")).json()["nodes"][0]
        return found

    doc = fleet.runtime.core.registry.nodes[NODE]["doc"]
    assert (await first())["status"] == (await first())["status"] == "offline"
    doc["state"] = "up"
    assert (await first())["status"] == "online"
    doc["heard_utc_ms"] = UTC_MS
    assert (await first())["last_heartbeat"] == "2026-01-01T00:00:00.000Z"
    doc["metadata"] = {"location": "hall"}
    assert (await first())["metadata"]["location"] == "hall"
    doc["metadata"]["location"] = "attic"
    assert (await first())["metadata"]["location"] == "attic"


async def test_nodes_are_listed_by_page_and_filter(fleet: Served) -> None:
    async def ask(**params: Any) -> tuple[list[str], int]:
        body = (await fleet.http.get("/api/v1/fleet/nodes", params=params)).json()
        return [node["node_id"] for node in body["nodes"]], body["pagination"]["total"]

    assert await ask() == (["sensor-01", "sensor-02"], 2)
    assert await ask(page=2, limit=1) == (["sensor-02"], 2)
    assert await ask(node_type="picclaw") == await ask(node_type="picoclaw") == (["sensor-02"], 1)
    assert await ask(status="online") == ([], 0)
    assert await ask(status="offline", location="office") == (["sensor-01", "sensor-02"], 2)
    for wrong in ({"page": 0}, {"limit": 101}, {"status": "asleep"}, {"node_type": "toaster"}):
        assert problem(await fleet.http.get("/api/v1/fleet/nodes", params=wrong)) == (400, "invalid")


async def test_a_node_and_its_gateway_show_their_state_and_no_secret(fleet: Served) -> None:
    fleet.says("status", {"sensor": NODE, "status": "up", "attach": 1, "boot": 7, "item": "i-1"})
    node = await fleet.http.get(f"/api/v1/fleet/nodes/{NODE}")
    assert (node.json()["status"], node.json()["node_type"]) == ("online", "microclaw")
    gateways = await fleet.http.get("/api/v1/fleet/gateways")
    assert [(each["gateway_id"], each["status"]) for each in gateways.json()["gateways"]] == [(GATEWAY, "online")]
    assert "1111" not in gateways.text and "2222" not in node.text
    assert problem(await fleet.http.get("/api/v1/fleet/nodes/sensor-99")) == (404, "not_found")


async def test_an_alert_is_listed_open_and_then_cleared(fleet: Served) -> None:
    rule = {"name": "hot", "when": {"metric": "temp", "op": ">", "value": 30}, "clear": None, "action": "alert"}
    fleet.runtime.do(fleet.runtime.core.set_rules, [rule])
    for name, seq, value in (("b-1", 1, 33.0), ("b-2", 2, 20.0)):
        now = fleet.runtime.clock.utc_ms()
        reading = {"sensor": NODE, "boot": 7, "seq": seq, "metric": "temp", "value": value, "utc_ms": now}
        fleet.says("batch", {"batch": name, "readings": [reading]})
        await fleet.settled()
        states = ["open", "cleared"] if value > 30 else ["cleared", "open"]
        for state, count in zip(states, (1, 0), strict=True):
            body = (await fleet.http.get("/api/v1/fleet/alerts", params={"state": state})).json()
            assert len(body["alerts"]) == count, (state, value)
    alert = (await fleet.http.get("/api/v1/fleet/alerts", params={"node_id": NODE})).json()["alerts"][0]
    assert (alert["rule"], alert["value"], alert["decided_by"], alert["state"]) == ("hot", 33.0, "cloud", "cleared")


async def test_readings_come_back_by_cursor_with_conflicts_counted(fleet: Served) -> None:
    fleet.delivers(batch("b-1", range(25)))
    fleet.delivers(batch("b-2", range(1), value=99.0))
    await fleet.settled()
    assert fleet.acknowledged() == ["b-1", "b-2"]
    found: list[int] = []
    params: dict[str, Any] = {"limit": 10}
    while True:
        body = (await fleet.http.get("/api/v1/fleet/readings", params=params)).json()
        found += [row["seq"] for row in body["readings"]]
        if body["next_cursor"] is None:
            break
        params["cursor"] = body["next_cursor"]
    assert (found, body["conflicts"]) == (list(range(25)), 1)


async def test_one_nodes_readings_are_cut_by_time_and_metric(fleet: Served) -> None:
    fleet.delivers(batch("b-1", range(10)))
    await fleet.settled()

    async def seqs(**params: str) -> list[int]:
        body = (await fleet.http.get(f"/api/v1/fleet/nodes/{NODE}/readings", params=params)).raise_for_status().json()
        return [row["seq"] for row in body["readings"]]

    assert await seqs() == list(range(10))
    assert await seqs(**{"from": "2026-01-01T00:00:00.003Z", "to": "2026-01-01T00:00:00.006Z"}) == [3, 4, 5]
    assert await seqs(**{"from": "2026-01-01T01:00:00.003+01:00", "metric": "temp"}) == list(range(3, 10))
    assert await seqs(metric="co2") == []


@pytest.mark.parametrize(
    "query",
    ["cursor=zzz", "cursor=%ff", "cursor=MTIz.4", "limit=0", "limit=10001", "from=yesterday", "from=99999-01-01T00:00"],
)
async def test_a_bad_question_about_readings_is_400(fleet: Served, query: str) -> None:
    assert problem(await fleet.http.get(f"/api/v1/fleet/nodes/{NODE}/readings?{query}")) == (400, "invalid")


async def test_an_unknown_route_and_a_wrong_method_are_problems_too(fleet: Served) -> None:
    assert problem(await fleet.http.get("/api/nowhere")) == (404, "not_found")
    assert problem(await fleet.http.delete("/api/v1/fleet/nodes")) == (405, "method_not_allowed")


# --- when the database fails -----------------------------------------------------------------------------------------


async def test_while_the_database_fails_nothing_is_acknowledged_and_all_resumes_by_itself(
    fleet: Served, tmp_path: Path
) -> None:
    blocker = sqlite3.connect(tmp_path / "fleet.sqlite", isolation_level=None)
    await fleet.settled()
    blocker.execute("BEGIN IMMEDIATE")
    fleet.delivers(batch("b-1", range(5)))
    await fleet.until_database(failing=True)
    for response in (await fleet.http.get("/api/v1/fleet/nodes"), await fleet.http.post(f"/api/nodes/{NODE}/restart")):
        assert problem(response) == (503, "unavailable")
        assert response.headers["retry-after"].isdigit()
    assert problem(await fleet.http.get("/readyz"))[0] == 503
    assert (await fleet.http.get("/healthz")).status_code == 200
    assert fleet.acknowledged() == []
    blocker.execute("ROLLBACK")
    await fleet.until_database(failing=False)
    fleet.delivers(batch("b-1", range(5)))  # as the gateway does, since it was not acknowledged
    await fleet.settled()
    assert fleet.acknowledged() == ["b-1"]
    assert len((await fleet.http.get("/api/v1/fleet/readings")).json()["readings"]) == 5


async def test_a_command_that_cannot_be_stored_is_503_and_can_be_asked_for_again(fleet: Served, tmp_path: Path) -> None:
    await fleet.settled()
    blocker = sqlite3.connect(tmp_path / "fleet.sqlite", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    ask = {"url": f"/api/nodes/{NODE}/restart", "params": {"timeout": 0}, "headers": {"Idempotency-Key": "k"}}
    assert problem(await fleet.http.post(**ask))[0] == 503
    assert not [verb for verb, _ in fleet.sent if verb == "cmd"]
    blocker.execute("ROLLBACK")
    await fleet.until_database(failing=False)
    assert (await fleet.http.post(**ask)).status_code == 202


# --- looking at it ---------------------------------------------------------------------------------------------------


async def test_metrics_are_named_and_bounded(fleet: Served) -> None:
    fleet.delivers(batch("b-1", range(5)))
    await fleet.settled()
    for number in range(30):
        await fleet.http.get(f"/api/v1/fleet/nodes/sensor-{number}")
    lines = (await fleet.http.get("/metrics")).text.splitlines()
    names = {line.split("{")[0].split(" ")[0] for line in lines if not line.startswith("#")}
    assert all(name.startswith("clawland_") for name in names)
    assert "clawland_readings_stored_total 5.0" in lines
    assert len([line for line in lines if line.startswith("clawland_http_requests_total")]) < 6


async def test_the_documentation_names_every_route_and_problem(fleet: Served) -> None:
    schema = (await fleet.http.get("/openapi.json")).json()
    assert "Problem" in schema["components"]["schemas"]
    assert "422" in schema["paths"]["/api/nodes/{node_id}/{action}"]["post"]["responses"]
    assert "422" not in schema["paths"]["/api/v1/fleet/nodes"]["get"]["responses"]
    assert (await fleet.http.get("/docs")).status_code == 200


def test_an_alert_that_a_gateway_decided_says_over_how_many_nodes_and_what_it_commanded() -> None:
    told = {"by": "gateway", "judged": 2, "members": 5, "commands": [{"id": "g:1:1", "action": "identify"}]}
    row = {"id": "e", "node": None, "rule": "pens", "state": "raised", "doc": told}
    shown = alert_json(row)
    assert {name: shown[name] for name in ("judged", "members", "commands")} == {
        name: told[name] for name in ("judged", "members", "commands")
    }
    assert "judged" not in alert_json(row | {"doc": {"by": "cloud"}})
