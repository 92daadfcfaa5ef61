"""All that a rule can say is said over the API, and by an inventory file, in the same words."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleet.host import inventory as inventories
from fleet.host.settings import SettingsError
from tests.fleet_host.stand import INVENTORY, NODE, Served, problem, served

FLEET = "/api/v1/fleet"
FULL: dict[str, Any] = {
    "when": "temp > 30 for 5 min",
    "clear": "temp < 29",
    "action": "both",
    "command": {"action": "identify", "params": {"for_s": 10}, "targets": [NODE]},
    "severity": "critical",
    "message": "{node} is at {value}",
    "cooldown_ms": 600_000,
}


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as server:
        server.http.headers = httpx.Headers(server.as_role("admin"))
        yield server


async def test_what_a_rule_says_is_shown_as_it_was_said_and_can_be_put_back(fleet: Served) -> None:
    url = f"{FLEET}/rules/hot"
    assert (await fleet.http.put(url, json=FULL)).status_code == 201
    shown = (await fleet.http.get(url)).json()
    assert {key: shown[key] for key in FULL if key not in ("when", "clear")} == {
        key: value for key, value in FULL.items() if key not in ("when", "clear")
    }
    assert (await fleet.http.put(url, json=shown)).status_code == 200
    assert (await fleet.http.get(url)).json() == shown


async def test_people_read_the_message_of_a_rule_that_was_made_over_the_api(fleet: Served) -> None:
    await fleet.http.put(f"{FLEET}/rules/hot", json={"when": "temp > 30", "message": "{node} is at {value}"})
    now = fleet.runtime.clock.utc_ms()
    reading = {"sensor": NODE, "boot": 7, "seq": 1, "metric": "temp", "value": 33.0, "utc_ms": now}
    fleet.says("batch", {"batch": "b-1", "readings": [reading]})
    await fleet.settled()
    waiting = fleet.runtime.core.notices
    (group,) = waiting._gathering.values()
    assert [row["subject"] for row in group.rows] == [f"{NODE} is at 33"]


@pytest.mark.parametrize(
    "change",
    [
        {"action": "both", "command": None},
        {"action": "notify"},
        {"command": {"action": "explode"}},
        {"command": {"action": "identify", "params": {"x": "y" * 200}}},
        {"message": "{nobody}"},
        {"message": ""},
        {"cooldown_ms": -1},
        {"cooldown_ms": 1.5},
        {"severity": "error"},
        {"name": "cold"},
        {"for": "5 min"},
    ],
)
async def test_a_rule_that_does_not_hold_together_is_refused(fleet: Served, change: dict[str, Any]) -> None:
    assert problem(await fleet.http.put(f"{FLEET}/rules/hot", json=FULL | change)) == (400, "invalid")
    assert (await fleet.http.get(f"{FLEET}/rules")).json()["rules"] == []


async def test_a_command_for_a_node_that_there_is_not_is_refused(fleet: Served) -> None:
    command = {"action": "identify", "targets": ["nobody"]}
    response = await fleet.http.put(f"{FLEET}/rules/hot", json=FULL | {"command": command})
    assert problem(response) == (409, "conflict") and "nobody" in response.json()["message"]


def written(directory: Path, rule: dict[str, Any]) -> Path:
    file = directory / "fleet.json"
    file.write_text(json.dumps(INVENTORY | {"rules": [{"name": "hot", **rule}]}, indent=1))
    return file


def test_an_inventory_file_has_conditions_as_people_write_them(fleet: Served, tmp_path: Path) -> None:
    inventories.apply(inventories.load(written(tmp_path, FULL)), fleet.runtime.core, fleet.runtime.clock.now_ms())
    assert fleet.runtime.core.alerts.rules["hot"]["when"]["for_ms"] == 300_000


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (FULL | {"when": "temp >"}, "rules.0.when: at character"),
        (FULL | {"for": "5 min"}, "unknown key 'for'"),
        (FULL | {"clear": "temp > 29"}, "clear overlaps when"),
    ],
)
def test_a_rule_of_an_inventory_file_that_says_nothing_is_named(
    fleet: Served, tmp_path: Path, rule: dict[str, Any], says: str
) -> None:
    file = written(tmp_path, rule)
    with pytest.raises(SettingsError) as caught:
        inventories.apply(inventories.load(file), fleet.runtime.core, fleet.runtime.clock.now_ms())
    assert str(caught.value).startswith(f"{file}:") and says in str(caught.value)
