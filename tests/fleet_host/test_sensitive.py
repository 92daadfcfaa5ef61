"""Sensitive metrics: closed in the database, opened for operators, said to nobody else."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from fleet.core.rows import Secret
from fleet.core.vault import VaultError
from tests.fleet_host.secrecy import FLEET, SECRET, ask, everything, mark, readings, stored, vault_of
from tests.fleet_host.stand import NODE, UTC_MS, Database, Served, problem, row, served


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path, vault=vault_of(0)) as server:
        yield server


@pytest.fixture
async def on_either(tmp_path: Path, database: Database) -> AsyncIterator[Served]:
    """The same on each kind of database."""
    async with served(tmp_path, database=database, vault=vault_of(0)) as server:
        yield server


async def test_a_sensitive_value_is_closed_in_the_database_and_shown_to_operators_only(on_either: Served) -> None:
    fleet = on_either
    await mark(fleet)
    fleet.delivers(readings("b-1", SECRET, 20))
    fleet.delivers(readings("b-2", 21.5, metric="temp", first=2))
    await fleet.settled()
    found = stored(fleet.runtime.storage)
    assert [each.startswith("~g1.") for each in found] == [True, True, False] and str(SECRET) not in str(found)
    assert len(found[0]) == len(found[1]), "not even how long the number is"
    for path in (f"nodes/{NODE}/readings", "readings", "latest", f"nodes/{NODE}/latest"):
        for role, expected in (("operator", (20, SECRET, 21.5)), ("viewer", (21.5,))):
            shown = json.dumps(await ask(fleet, path, role))
            assert (str(SECRET) in shown) is (role == "operator" and "latest" not in path), path
            assert all(f'"value": {value}' in shown for value in expected if "latest" not in path or value != SECRET)
            assert '"sealed": true' in shown
    assert "sealed" not in (await ask(fleet, "readings"))["readings"][2]


def test_secrets_among_many_readings_of_a_commit_are_closed_each_for_its_own_row(database: Database) -> None:
    storage = database.open(vault_of(0))
    values = [float(number) for number in range(600)]
    values[3:6] = [Secret(SECRET), "a\tb\\", Secret(True)]  # type: ignore[list-item]
    rows = [row(seq, value) for seq, value in enumerate(values)]
    storage.perform([("readings", rows)])
    found = stored(storage)
    assert [seq for seq, text in enumerate(found) if text.startswith("~g1.")] == [3, 5]
    assert str(SECRET) not in str(found)
    assert storage.perform([("compare", rows)]) == [], "opened, they are what they were"
    storage.close()


async def test_a_server_that_starts_knows_the_latest_value_of_a_sensitive_metric(on_either: Served) -> None:
    await mark(on_either)
    on_either.delivers(readings("b-1", 20, SECRET))
    on_either.delivers(readings("b-2", 21.5, metric="temp", first=2))
    await on_either.settled()
    found = {at["metric"]: at["value"] for at in on_either.runtime.storage.load()["latest"]}
    assert found == {"co2": Secret(SECRET), "temp": 21.5}


async def test_extremes_are_drawn_for_operators_and_refused_to_viewers(fleet: Served) -> None:
    await mark(fleet)
    fleet.delivers(readings("b-1", 5, SECRET, 7))
    await fleet.settled()
    path, asked = f"nodes/{NODE}/readings", {"metric": "co2", "points": 2}
    found = await ask(fleet, path, **asked)
    assert [each["value"] for each in found["readings"]] == [5, SECRET] and found["downsampled_from"] == 3
    assert (await ask(fleet, path, "viewer", **asked))["error"] == "sealed"
    await fleet.http.delete(f"{FLEET}/sensitive/co2", headers=fleet.as_role("admin"))
    assert (await ask(fleet, path, "viewer", **asked))["error"] == "sealed", "what is closed stays closed"


async def test_a_value_that_was_moved_to_another_row_cannot_be_read(fleet: Served) -> None:
    await mark(fleet)
    fleet.delivers(readings("b-1", SECRET, 1))
    await fleet.settled()
    with fleet.runtime.storage.writing() as connection:
        connection.execute(text("UPDATE readings SET value = (SELECT value FROM readings WHERE seq = 0) WHERE seq = 1"))
    first, second = (await ask(fleet, "readings"))["readings"]
    assert first["value"] == SECRET
    assert (second["value"], second["sealed"], second["unreadable"]) == (None, True, True)


async def test_only_places_that_are_named_are_sensitive(fleet: Served) -> None:
    await mark(fleet, **{"in": ["site:farm", "group:doors"]})
    fleet.delivers(readings("b-1", 1))
    await fleet.settled()
    admin = fleet.as_role("admin")
    await fleet.http.put(f"{FLEET}/groups/doors", json={"nodes": [NODE]}, headers=admin)
    fleet.delivers(readings("b-2", 2, first=1))
    await fleet.settled()
    assert [each.startswith("~") for each in stored(fleet.runtime.storage)] == [False, True]
    shown = (await ask(fleet, "readings", "viewer"))["readings"]
    assert [each["value"] for each in shown] == [None, None], "also what was stored before it was sensitive"


async def test_a_copy_is_compared_with_what_is_closed_and_one_that_differs_is_closed_too(on_either: Served) -> None:
    fleet = on_either
    fleet.delivers(readings("b-1", SECRET))
    await fleet.settled()
    await mark(fleet)
    fleet.delivers(readings("b-2", 2, first=1))
    await fleet.settled()
    events = fleet.runtime.events.counts
    fleet.delivers(readings("b-3", SECRET, 2))
    await fleet.settled()
    assert (events.get("reading.redelivered"), events.get("reading.conflict")) == (2, None)
    fleet.delivers(readings("b-4", 3, SECRET + 1))
    await fleet.settled()
    assert events["reading.conflict"] == 2 and str(SECRET + 1) not in everything(fleet.runtime.storage)


async def test_alerts_messages_events_and_the_log_say_that_there_was_something_and_not_what(
    fleet: Served, caplog: pytest.LogCaptureFixture
) -> None:
    await mark(fleet, rules=True)
    said: list[str] = []
    fleet.runtime.events.listeners.append(lambda kind, fields: said.append(f"{kind} {dict(fields)}"))
    core = fleet.runtime.core
    rule = {"name": "air", "action": "notify", "message": "{node}: {metric} is {value}", "severity": "warning"}
    rule |= {"when": {"metric": "co2", "op": ">", "value": 1000}}
    worse = rule | {"name": "foul", "when": {"metric": "co2", "op": ">", "value": 100 * SECRET}}  # a gateway's own word
    fleet.runtime.do(core.set_rules, [rule, worse])
    now = [{"sensor": NODE, "boot": 7, "seq": 0, "metric": "co2", "value": SECRET}]
    now[0]["utc_ms"] = fleet.runtime.clock.utc_ms()
    fleet.delivers(json.dumps({"v": 1, "batch": "b-1", "readings": now, "stats": []}).encode())
    await fleet.settled()
    (alert,) = (await ask(fleet, "alerts"))["alerts"]
    assert (alert["rule"], alert["value"], alert["sealed"]) == ("air", None, True)
    assert any(line.startswith("alert.raised") and "'sealed': True" in line for line in said)
    assert f"{NODE}: co2 is sealed" in everything(fleet.runtime.storage)
    decided = {"sensor": NODE, "status": "alert-raised", "alert": "foul:x:1:2", "rule": "foul", "value": SECRET}
    fleet.says("status", decided | {"item": "i-1", "reading_utc_ms": UTC_MS})
    await fleet.settled()
    assert len((await ask(fleet, "alerts"))["alerts"]) == 2
    for place in (everything(fleet.runtime.storage), str(said), caplog.text, json.dumps(await ask(fleet, "alerts"))):
        assert str(SECRET) not in place


async def test_what_no_rule_may_look_at_no_rule_is_made_about_and_the_other_way_round(fleet: Served) -> None:
    admin = fleet.as_role("admin")
    await mark(fleet)
    rules = f"{FLEET}/rules"
    refused = await fleet.http.put(f"{rules}/air", json={"when": "co2 > 1000"}, headers=admin)
    assert problem(refused) == (400, "invalid") and "co2 is sensitive; mark co2 sensitive with rules" in refused.text
    silent = await fleet.http.put(f"{rules}/silent", json={"when": "absent(co2, 15 min)"}, headers=admin)
    assert silent.status_code == 201, "whether anything was measured is no secret"
    await mark(fleet, rules=True)
    assert (await fleet.http.put(f"{rules}/air", json={"when": "co2 > 1000"}, headers=admin)).status_code == 201
    await fleet.http.put(f"{rules}/hot", json={"when": "temp > 30"}, headers=admin)
    closing = await fleet.http.put(f"{FLEET}/sensitive/temp", json={}, headers=admin)
    assert problem(closing) == (409, "conflict") and "rule hot: temp is sensitive" in closing.text
    assert [each["metric"] for each in (await ask(fleet, "sensitive"))["sensitive"]] == ["co2"]


async def test_only_an_admin_decides_what_is_sensitive_and_anybody_may_know(fleet: Served) -> None:
    for role in ("viewer", "operator"):
        headers = fleet.as_role(role)
        assert problem(await fleet.http.put(f"{FLEET}/sensitive/co2", json={}, headers=headers)) == (403, "forbidden")
        assert problem(await fleet.http.delete(f"{FLEET}/sensitive/co2", headers=headers)) == (403, "forbidden")
        sealing = {"url": f"{FLEET}/nodes/{NODE}/sealing", "json": {"metrics": []}, "headers": headers}
        assert problem(await fleet.http.put(**sealing)) == (403, "forbidden")
        assert await ask(fleet, "sensitive", role) == {"sensitive": []}
    admin = fleet.as_role("admin")
    assert problem(await fleet.http.delete(f"{FLEET}/sensitive/co2", headers=admin)) == (404, "not_found")
    assert problem(await fleet.http.put(f"{FLEET}/sensitive/cmd", json={}, headers=admin)) == (400, "invalid")


async def test_without_a_data_key_nothing_becomes_sensitive(tmp_path: Path) -> None:
    async with served(tmp_path) as fleet:
        admin = fleet.as_role("admin")
        for path, body in ((f"{FLEET}/sensitive/co2", {}), (f"{FLEET}/nodes/{NODE}/sealing", {"metrics": ["co2"]})):
            refused = await fleet.http.put(path, json=body, headers=admin)
            assert problem(refused) == (409, "conflict") and "--data-key-file" in refused.text
        assert await ask(fleet, "sensitive") == {"sensitive": []}


async def test_what_is_marked_outlives_the_server_and_without_its_key_none_starts(tmp_path: Path) -> None:
    async with served(tmp_path, vault=vault_of(0)) as fleet:
        await mark(fleet)
        sealing = await fleet.http.put(
            f"{FLEET}/nodes/{NODE}/sealing", json={"metrics": ["door"]}, headers=fleet.as_role("admin")
        )
        assert len(sealing.json()["sealing_key"]) == 64 and sealing.headers["cache-control"] == "no-store"
        assert sealing.json()["sealing_key"] not in everything(fleet.runtime.storage)
        fleet.delivers(readings("b-1", SECRET))
        await fleet.settled()
    async with served(tmp_path, vault=vault_of(1, 0)) as fleet:
        assert (await ask(fleet, "readings"))["readings"][0]["value"] == SECRET
        assert (await ask(fleet, f"nodes/{NODE}/sealing")) == {"node_id": NODE, "metrics": ["door"], "keys": 1}
    for vault in (None, vault_of(1)):
        with pytest.raises(VaultError, match="data key"):
            async with served(tmp_path, vault=vault):
                pass
