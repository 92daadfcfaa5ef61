"""Nodes, gateways, sites, groups, rules and alerts by the operator's hand, over the API."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleet.host import inventory as inventories
from tests.fleet_host.stand import GATEWAY, INVENTORY, NODE, NODE_KEY, Served, problem, served

FLEET = "/api/v1/fleet"


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as server:
        server.http.headers = httpx.Headers(server.as_role("admin"))
        server.says("heartbeat", {"n": 1, "uptime_ms": 1, "config": 0})
        yield server


async def test_a_node_is_added_with_a_key_that_is_shown_once(fleet: Served) -> None:
    body = {"node_id": "sensor-07", "gateway": GATEWAY, "hardware": {"chip": "RP2040"}, "metadata": {"shelf": 3}}
    response = await fleet.http.post(f"{FLEET}/nodes", json=body)
    assert response.status_code == 201 and len(response.json()["key"]) == 64
    assert response.headers["cache-control"] == "no-store"
    shown = await fleet.http.get(f"{FLEET}/nodes/sensor-07")
    assert response.json()["key"] not in shown.text
    assert shown.json()["metadata"] == {"shelf": 3, "site": "office", "gateway": GATEWAY, "home": GATEWAY}
    assert (shown.json()["status"], shown.json()["hardware"]["chip"]) == ("offline", "RP2040")
    assert problem(await fleet.http.post(f"{FLEET}/nodes", json=body)) == (409, "conflict")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (400, "invalid")),
        ({"node_id": "sensor-07"}, (400, "invalid")),
        ({"node_id": "SENSOR", "gateway": GATEWAY}, (400, "invalid")),
        ({"node_id": "sensor-07", "gateway": "gateway-99"}, (409, "conflict")),
        ({"node_id": "sensor-07", "gateway": GATEWAY, "site": "farm"}, (409, "conflict")),
        ({"node_id": GATEWAY, "gateway": GATEWAY}, (409, "conflict")),
        ({"node_id": "sensor-07", "gateway": GATEWAY, "key": "11" * 32}, (400, "invalid")),
        ({"node_id": "sensor-07", "gateway": GATEWAY, "metadata": {"big": "x" * 5000}}, (413, "too_large")),
    ],
)
async def test_a_node_that_cannot_be_added_is_a_problem(
    fleet: Served, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    assert problem(await fleet.http.post(f"{FLEET}/nodes", json=body)) == expected


async def test_a_gateway_is_added_and_shown(fleet: Served) -> None:
    body = {"gateway_id": "gateway-07", "site": "farm"}
    response = await fleet.http.post(f"{FLEET}/gateways", json=body)
    assert response.status_code == 201 and len(response.json()["key"]) == 64
    assert (await fleet.http.get(f"{FLEET}/gateways/gateway-07")).json()["site"] == "farm"
    assert problem(await fleet.http.post(f"{FLEET}/gateways", json=body)) == (409, "conflict")
    assert problem(await fleet.http.get(f"{FLEET}/gateways/gateway-99")) == (404, "not_found")


async def test_a_board_is_replaced_under_the_same_id(fleet: Served) -> None:
    response = await fleet.http.post(f"{FLEET}/nodes/{NODE}/replace", json={"hardware": {"chip": "RP2350"}})
    assert response.json()["node"]["hardware"]["chip"] == "RP2350"
    assert response.json()["key"] not in (None, NODE_KEY)


async def test_a_stolen_agents_token_is_refused_at_once(fleet: Served) -> None:
    registration = {"node_id": "agent-01", "node_type": "picoclaw", "hardware": {"chip": "x"}}
    token = (await fleet.http.post(f"{FLEET}/register", json=registration)).json()["token"]
    own = {"Authorization": f"Bearer {token}"}
    beat = {"url": f"{FLEET}/heartbeat", "json": {"node_id": "agent-01"}, "headers": own}
    assert (await fleet.http.post(**beat)).status_code == 200
    assert (await fleet.http.post(f"{FLEET}/nodes/agent-01/stolen")).json()["stolen"] is True
    assert problem(await fleet.http.post(**beat)) == (401, "unauthorized")
    assert problem(await fleet.http.post(f"{FLEET}/register", json=registration)) == (409, "conflict")
    assert problem(await fleet.http.post("/api/nodes/agent-01/restart")) == (409, "stolen")
    replaced = await fleet.http.post(f"{FLEET}/nodes/agent-01/replace")
    assert replaced.json()["key"] is None and replaced.json()["node"]["stolen"] is False
    assert (await fleet.http.post(f"{FLEET}/register", json=registration)).status_code == 200


async def test_a_node_is_moved_and_decommissioned(fleet: Served) -> None:
    await fleet.http.post(f"{FLEET}/gateways", json={"gateway_id": "gateway-07", "site": "farm"})
    moved = await fleet.http.post(f"{FLEET}/nodes/{NODE}/move", json={"gateway": "gateway-07"})
    assert (moved.json()["metadata"]["site"], moved.json()["metadata"]["gateway"]) == ("farm", "gateway-07")
    assert problem(await fleet.http.post(f"{FLEET}/nodes/{NODE}/move", json={})) == (400, "invalid")
    assert (await fleet.http.delete(f"{FLEET}/nodes/{NODE}")).status_code == 204
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/replace"),
        ("POST", "/stolen"),
        ("GET", "/configuration"),
        ("GET", "/readings"),
    ):
        assert problem(await fleet.http.request(method, f"{FLEET}/nodes/{NODE}{path}")) == (404, "not_found"), path


@pytest.mark.parametrize("path", ["nodes", "gateways", f"nodes/{NODE}/replace", f"nodes/{NODE}/move"])
async def test_only_an_admin_changes_members(fleet: Served, path: str) -> None:
    for role in ("viewer", "operator"):
        response = await fleet.http.post(f"{FLEET}/{path}", json={}, headers=fleet.as_role(role))
        assert problem(response) == (403, "forbidden")


async def test_what_was_changed_here_an_inventory_file_changes_no_more(tmp_path: Path) -> None:
    async with served(tmp_path) as fleet:
        admin = fleet.as_role("admin")
        await fleet.http.delete(f"{FLEET}/nodes/sensor-02", headers=admin)
        key = (await fleet.http.post(f"{FLEET}/nodes/{NODE}/replace", headers=admin)).json()["key"]
        await fleet.http.put(f"{FLEET}/rules/hot", json={"when": "temp > 30"}, headers=admin)
        file = tmp_path / "inventory.json"
        file.write_text(json.dumps(INVENTORY))
        inventories.apply(inventories.load(file), fleet.runtime.core, fleet.runtime.clock.now_ms())
        core = fleet.runtime.core
        assert core.registry.nodes[NODE]["doc"]["key"] == key and "sensor-02" not in core.registry.nodes
        assert list(core.alerts.rules) == ["hot"]


async def test_a_nodes_desired_and_reported_configuration_differ_until_it_has_it(fleet: Served) -> None:
    url = f"{FLEET}/nodes/{NODE}/configuration"
    assert (await fleet.http.get(url)).json()["difference"] == {}
    put = await fleet.http.put(url, json={"interval_s": 5})
    assert put.json()["difference"] == {"interval_s": {"desired": 5, "reported": None}}
    await fleet.settled()
    (command,) = [message for verb, message in fleet.sent if verb == "cmd"]
    fleet.says("ack", {"id": command["id"], "target": NODE, "status": "done"})
    await fleet.settled()
    shown = (await fleet.http.get(url)).json()
    assert (shown["reported"], shown["difference"], shown["delivery"]) == ({"interval_s": 5}, {}, "acknowledged")
    assert problem(await fleet.http.put(url, json={"big": "x" * 300})) == (400, "invalid")
    assert problem(await fleet.http.put(url, json=[])) == (400, "invalid")


async def test_a_gateways_configuration_differs_until_it_reports_the_version_in_force(fleet: Served) -> None:
    url = f"{FLEET}/gateways/{GATEWAY}/configuration"
    version = fleet.runtime.core.config_version
    assert (await fleet.http.get(url)).json()["difference"] == {"version": {"desired": version, "reported": 0}}
    fleet.says("heartbeat", {"n": 2, "uptime_ms": 1, "config": version})
    assert (await fleet.http.get(url)).json()["difference"] == {}
    refused = {"version": version, "reason": "rule odd: no"}
    fleet.says("heartbeat", {"n": 3, "uptime_ms": 1, "config": 0, "config_refused": refused})
    assert (await fleet.http.get(url)).json()["reported"]["refused"] == refused


async def test_a_gateways_own_token_reads_its_own_state_only(fleet: Served) -> None:
    issued = await fleet.http.post("/api/v1/tokens", json={"name": GATEWAY, "role": "gateway"})
    own = {"Authorization": f"Bearer {issued.json()['token']}"}
    assert (await fleet.http.get(f"{FLEET}/gateways/{GATEWAY}", headers=own)).status_code == 200
    assert (await fleet.http.get(f"{FLEET}/gateways/{GATEWAY}/configuration", headers=own)).status_code == 200
    for path in ("gateways", "gateways/gateway-02", "nodes", f"nodes/{NODE}", "readings"):
        assert problem(await fleet.http.get(f"{FLEET}/{path}", headers=own)) == (403, "forbidden"), path


# --- sites and groups ------------------------------------------------------------------------------------------------


async def test_sites_are_described_and_counted(fleet: Served) -> None:
    assert (await fleet.http.put(f"{FLEET}/sites/attic", json={"title": "Attic", "latitude": 48.1})).status_code == 201
    assert (await fleet.http.put(f"{FLEET}/sites/attic", json={"title": "Loft"})).status_code == 200
    sites = (await fleet.http.get(f"{FLEET}/sites")).json()["sites"]
    assert [(site["site_id"], site["title"], site["nodes"]) for site in sites] == [
        ("attic", "Loft", 0),
        ("office", "", 2),
    ]
    assert (await fleet.http.get(f"{FLEET}/sites/attic")).json()["title"] == "Loft"
    assert problem(await fleet.http.delete(f"{FLEET}/sites/office")) == (409, "conflict")
    assert (await fleet.http.delete(f"{FLEET}/sites/attic")).status_code == 204
    for method in ("GET", "DELETE"):
        assert problem(await fleet.http.request(method, f"{FLEET}/sites/attic")) == (404, "not_found")
    assert problem(await fleet.http.put(f"{FLEET}/sites/attic", json={"latitude": 91})) == (400, "invalid")


async def test_groups_are_defined_by_their_nodes(fleet: Served) -> None:
    url = f"{FLEET}/groups/doors"
    assert (await fleet.http.put(url, json={"nodes": ["sensor-02", NODE, NODE]})).status_code == 201
    assert (await fleet.http.get(url)).json()["nodes"] == [NODE, "sensor-02"]
    assert (await fleet.http.put(url, json={"title": "Doors", "nodes": [NODE]})).status_code == 200
    groups = (await fleet.http.get(f"{FLEET}/groups")).json()["groups"]
    assert groups == [{"group_id": "doors", "title": "Doors", "nodes": [NODE]}]
    assert problem(await fleet.http.put(url, json={"nodes": ["stranger"]})) == (409, "conflict")
    assert problem(await fleet.http.put(url, json={})) == (400, "invalid")
    assert (await fleet.http.delete(url)).status_code == 204
    for method in ("GET", "DELETE"):
        assert problem(await fleet.http.request(method, url)) == (404, "not_found")


# --- rules and alerts ------------------------------------------------------------------------------------------------


async def test_a_rule_is_added_takes_effect_and_is_removed(fleet: Served) -> None:
    rule = {"when": "temp > 30", "clear": "temp < 29", "action": "notify", "severity": "critical"}
    assert (await fleet.http.put(f"{FLEET}/rules/hot", json=rule)).status_code == 201
    shown = (await fleet.http.get(f"{FLEET}/rules/hot")).json()
    assert shown["when"] == {"metric": "temp", "op": ">", "value": 30} and shown["severity"] == "critical"
    now = fleet.runtime.clock.utc_ms()
    reading = {"sensor": NODE, "boot": 7, "seq": 1, "metric": "temp", "value": 33.0, "utc_ms": now}
    fleet.says("batch", {"batch": "b-1", "readings": [reading]})
    await fleet.settled()
    (alert,) = (await fleet.http.get(f"{FLEET}/alerts")).json()["alerts"]
    assert (alert["state"], alert["acknowledged_by"]) == ("open", None)
    seen = await fleet.http.post(f"{FLEET}/alerts/{alert['alert_id']}/acknowledge")
    assert seen.json()["acknowledged_by"] == "tester" and seen.json()["acknowledged_utc"]
    assert (await fleet.http.put(f"{FLEET}/rules/hot", json=rule | {"when": shown["when"]})).status_code == 200
    assert (await fleet.http.delete(f"{FLEET}/rules/hot")).status_code == 204
    assert (await fleet.http.get(f"{FLEET}/rules")).json()["rules"] == []
    assert [each["state"] for each in (await fleet.http.get(f"{FLEET}/alerts")).json()["alerts"]] == ["cleared"]


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"when": "temp >"},
        {"when": {"metric": "temp"}},
        {"when": "temp > 30", "clear": "co2 < 5"},
        {"when": "temp > 30", "action": "explode"},
        {"when": "temp > 30", "name": "other"},
    ],
)
async def test_a_rule_that_means_nothing_is_a_problem(fleet: Served, rule: dict[str, Any]) -> None:
    assert problem(await fleet.http.put(f"{FLEET}/rules/hot", json=rule)) == (400, "invalid")
    assert (await fleet.http.get(f"{FLEET}/rules")).json()["rules"] == []


async def test_rules_and_alerts_that_are_not_there_are_404_and_roles_hold(fleet: Served) -> None:
    for method in ("GET", "DELETE"):
        assert problem(await fleet.http.request(method, f"{FLEET}/rules/none")) == (404, "not_found")
    assert problem(await fleet.http.post(f"{FLEET}/alerts/none/acknowledge")) == (404, "not_found")
    operator, viewer = fleet.as_role("operator"), fleet.as_role("viewer")
    put = await fleet.http.put(f"{FLEET}/rules/hot", json={"when": "temp > 30"}, headers=operator)
    assert problem(put) == (403, "forbidden")
    assert problem(await fleet.http.post(f"{FLEET}/alerts/none/acknowledge", headers=viewer)) == (403, "forbidden")
