"""What nodes seal by themselves: sealed in the database, opened for operators, blind for rules unless allowed."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fleet.host import inventory as inventories
from tests.fleet_host.secrecy import FLEET, SEALING_KEY, SECRET, ask, mark, readings, seals, stored, vault_of
from tests.fleet_host.stand import INVENTORY, NODE, Served, problem, served


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path, vault=vault_of(0)) as server:
        yield server


async def test_what_a_node_sealed_stays_sealed_in_the_database_and_is_opened_for_operators(fleet: Served) -> None:
    key = await seals(fleet, "co2")
    fleet.delivers(readings("b-1", SECRET, sealed_by=key))
    fleet.delivers(readings("b-2", SECRET, first=1))  # a board with old firmware: closed here
    await fleet.settled()
    assert [each[:4] for each in stored(fleet.runtime.storage)] == ["~s1.", "~g1."]
    assert [each["value"] for each in (await ask(fleet, "readings"))["readings"]] == [SECRET, SECRET]
    for path in ("readings", "latest"):
        assert str(SECRET) not in json.dumps(await ask(fleet, path, "viewer"))
    newer = await seals(fleet, "co2")
    fleet.delivers(readings("b-3", 3, first=2, sealed_by=newer))
    await fleet.settled()
    values = [each["value"] for each in (await ask(fleet, "readings"))["readings"]]
    assert values == [SECRET, SECRET, 3] and newer != key, "an earlier key opens what it sealed"


async def test_a_broken_seal_is_stored_counted_and_said(fleet: Served) -> None:
    said: list[Any] = []
    fleet.runtime.events.listeners.append(lambda kind, fields: said.append((kind, fields.get("reason"))))
    fleet.delivers(readings("b-1", SECRET, sealed_by=SEALING_KEY))
    await fleet.settled()
    await seals(fleet, "co2")
    fleet.delivers(readings("b-2", SECRET, first=1, sealed_by=SEALING_KEY))
    fleet.delivers(readings("b-2", SECRET, first=1, sealed_by=SEALING_KEY))
    await fleet.settled()
    unreadable = [reason for kind, reason in said if kind == "reading.unreadable"]
    assert unreadable == ["no sealing key of the node is known", "the seal is broken, or of another key"]
    assert fleet.runtime.events.counts["reading.unreadable"] == 2
    for reading in (await ask(fleet, "readings"))["readings"]:
        assert (reading["value"], reading["sealed"], reading["unreadable"]) == (None, True, True)


async def test_a_rule_sees_sealed_values_only_where_it_is_allowed_to(fleet: Served) -> None:
    admin = fleet.as_role("admin")
    key = await seals(fleet, "co2")
    refused = await fleet.http.put(f"{FLEET}/rules/air", json={"when": "co2 > 1000"}, headers=admin)
    assert problem(refused) == (400, "invalid") and f"co2 is sealed by {NODE}" in refused.text
    await mark(fleet, rules=True)
    assert (await fleet.http.put(f"{FLEET}/rules/air", json={"when": "co2 > 1000"}, headers=admin)).status_code == 201
    message = json.loads(readings("b-1", SECRET, sealed_by=key))
    message["readings"][0]["utc_ms"] = fleet.runtime.clock.utc_ms()
    fleet.delivers(json.dumps(message).encode())
    await fleet.settled()
    (alert,) = (await ask(fleet, "alerts"))["alerts"]
    assert (alert["rule"], alert["value"], alert["sealed"]) == ("air", None, True)


async def test_what_was_decided_here_an_inventory_changes_no_more(fleet: Served, tmp_path: Path) -> None:
    file, inventory = tmp_path / "inventory.json", json.loads(json.dumps(INVENTORY))
    inventory["nodes"][0] |= {"sealed": ["co2"], "sealing_key": SEALING_KEY}
    inventory["sensitive"] = [{"metric": "temp", "in": ["site:office"]}]
    file.write_text(json.dumps(inventory))
    core, now_ms = fleet.runtime.core, fleet.runtime.clock.now_ms()
    for _ in range(2):
        inventories.apply(inventories.load(file), core, now_ms)
        assert await ask(fleet, f"nodes/{NODE}/sealing") == {"node_id": NODE, "metrics": ["co2"], "keys": 1}
        assert list(core.sensitive.rows) == ["temp"]
    await seals(fleet, "door")
    await fleet.http.delete(f"{FLEET}/sensitive/temp", headers=fleet.as_role("admin"))
    inventories.apply(inventories.load(file), core, now_ms)
    assert await ask(fleet, f"nodes/{NODE}/sealing") == {"node_id": NODE, "metrics": ["door"], "keys": 2}
    assert list(core.sensitive.rows) == []
