"""Sensitive metrics: closed in the database and in Redis, opened for operators, said to nobody else."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from firmware.hosting.aes import aes_block
from firmware.wire.sealing import seal
from fleet.core.rows import Secret
from fleet.core.vault import Vault, VaultError
from fleet.host import datakeys, reencrypt
from fleet.host import inventory as inventories
from fleet.host.reencrypt import Reencryption
from fleet.host.settings import SettingsError
from fleet.host.storage import Storage, StorageError
from tests.fleet_host.stand import INVENTORY, NODE, UTC_MS, Database, Served, problem, row, served
from tests.servers import RedisServer

FLEET = "/api/v1/fleet"
SECRET = 8314.4626  # looks like nothing else that is stored
KEYS = [bytes([number]) * 32 for number in range(3)]
SEALING_KEY = "5e" * 32


def vault_of(*numbers: int) -> Vault:
    return Vault([KEYS[number] for number in numbers], os.urandom)


def readings(name: str, *values: Any, metric: str = "co2", first: int = 0, sealed_by: str | None = None) -> bytes:
    """A batch; sealed under that key."""
    found = []
    for seq, value in enumerate(values, first):
        reading = {"sensor": NODE, "boot": 7, "seq": seq, "metric": metric, "value": value, "utc_ms": UTC_MS + seq}
        if sealed_by is not None:
            block = aes_block(bytes.fromhex(sealed_by))
            reading["sealed"] = seal(block, NODE, metric, 7, seq, json.dumps(reading.pop("value")))[1:]
        found.append(reading)
    return json.dumps({"v": 1, "batch": name, "readings": found, "stats": []}).encode()


async def mark(fleet: Served, metric: str = "co2", **doc: Any) -> None:
    response = await fleet.http.put(f"{FLEET}/sensitive/{metric}", json=doc, headers=fleet.as_role("admin"))
    assert response.status_code in (200, 201), response.text


async def ask(fleet: Served, path: str, role: str = "operator", **params: Any) -> Any:
    return (await fleet.http.get(f"{FLEET}/{path}", params=params, headers=fleet.as_role(role))).json()


def stored(storage: Storage) -> list[str]:
    """The texts of all values, in the order of storage."""
    with storage.reading() as connection:
        return [found for (found,) in connection.execute(text("SELECT value FROM readings ORDER BY id"))]


def everything(storage: Storage) -> str:
    """All that the database holds, as text."""
    tables = (
        "readings",
        *("alerts", "conflicts", "notifications", "nodes", "slots", "sealing", "audit", "node_events"),
    )
    with storage.reading() as connection:
        return str([connection.execute(text(f"SELECT * FROM {table}")).all() for table in tables])


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
    fleet.runtime.do(core.set_rules, [rule])
    now = [{"sensor": NODE, "boot": 7, "seq": 0, "metric": "co2", "value": SECRET}]
    now[0]["utc_ms"] = fleet.runtime.clock.utc_ms()
    fleet.delivers(json.dumps({"v": 1, "batch": "b-1", "readings": now, "stats": []}).encode())
    await fleet.settled()
    (alert,) = (await ask(fleet, "alerts"))["alerts"]
    assert (alert["rule"], alert["value"], alert["sealed"]) == ("air", None, True)
    assert any(line.startswith("alert.raised") and "'sealed': True" in line for line in said)
    assert f"{NODE}: co2 is sealed" in everything(fleet.runtime.storage)
    decided = {"sensor": NODE, "status": "alert-raised", "alert": "air:x:1:2", "rule": "air", "value": SECRET}
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


# --- sealed by the node ---------------------------------------------------------------------------------------------


async def seals(fleet: Served, *metrics: str) -> str:
    """The node seals these; its new key."""
    url = f"{FLEET}/nodes/{NODE}/sealing"
    response = await fleet.http.put(url, json={"metrics": list(metrics)}, headers=fleet.as_role("admin"))
    return str(response.json()["sealing_key"])


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


# --- Redis, and other keys ------------------------------------------------------------------------------------------


def redis_texts(redis: RedisServer) -> str:
    """All latest values that Redis holds."""
    client = redis.client()
    return "".join(str(client.hgetall(key)) for key in client.scan_iter(match="*:latest:*"))


async def test_redis_never_has_the_text(tmp_path: Path, redis_server: RedisServer) -> None:
    async with served(tmp_path, redis=redis_server, vault=vault_of(0)) as fleet:
        fleet.delivers(readings("b-1", SECRET))
        await fleet.settled()
        async with asyncio.timeout(10):
            while str(SECRET) not in redis_texts(redis_server):
                await ask(fleet, "latest")
                await asyncio.sleep(0.01)
        await mark(fleet)
        fleet.delivers(readings("b-2", SECRET, first=1))
        await fleet.settled()
        async with asyncio.timeout(10):
            while str(SECRET) in (texts := redis_texts(redis_server)) or "sealed" not in texts:
                await ask(fleet, "latest")
                await asyncio.sleep(0.01)
        assert (await ask(fleet, f"nodes/{NODE}/latest"))["latest"][0]["value"] == SECRET
        assert (await ask(fleet, f"nodes/{NODE}/latest", "viewer"))["latest"][0]["value"] is None


async def test_a_sealed_value_that_nobody_can_open_is_no_trouble_for_redis(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with served(tmp_path, redis=redis_server) as fleet:
        fleet.delivers(readings("b-1", SECRET, sealed_by=SEALING_KEY))
        await fleet.settled()
        async with asyncio.timeout(10):
            while "sealed" not in redis_texts(redis_server):
                await ask(fleet, "latest")
                await asyncio.sleep(0.01)
        (shown,) = (await ask(fleet, f"nodes/{NODE}/latest"))["latest"]
        assert (shown["value"], shown["sealed"], shown["unreadable"]) == (None, True, True)


async def test_everything_is_closed_anew_with_the_newest_key_and_an_interrupted_pass_goes_on(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reencrypt, "STEP_ROWS", 2)
    async with served(tmp_path, database=database, vault=vault_of(0)) as fleet:
        fleet.delivers(readings("b-1", SECRET, 2, 3))
        await fleet.settled()
        await mark(fleet)
        await seals(fleet, "door")
        fleet.delivers(readings("b-2", 4, first=3))
        fleet.delivers(readings("b-3", 99))
        await fleet.settled()
    storage = database.open(vault_of(1, 0))

    def power_cut(seen: int, closed: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        Reencryption(storage).run(power_cut)
    assert [each.partition(".")[2][:8] == storage.vault.newest for each in stored(storage)] == [
        True,
        True,
        False,
        False,
    ]
    again, steps = Reencryption(storage), []
    closed, _ = again.run(lambda seen, closed: steps.append((seen, closed)))
    assert again.resumed and steps == [(2, 2)] and closed == 4, (
        "two readings, a copy that was kept aside, a sealing key"
    )
    assert all(each.startswith(f"~g1.{storage.vault.newest}.") for each in stored(storage))
    assert str(SECRET) not in everything(storage)
    assert Reencryption(storage).run(lambda *_: None) == (0, [])
    storage.close()
    async with served(tmp_path, database=database, vault=vault_of(1)) as fleet:
        found = (await ask(fleet, "readings"))["readings"]
        assert [each["value"] for each in found] == [SECRET, 2, 3, 4]


def test_a_key_that_is_needed_is_missed_at_the_start_and_one_that_is_not_is_told(database: Database) -> None:
    storage = database.open(vault_of(0))
    datakeys.settle(storage)
    storage.close()
    storage = database.open(vault_of(1))
    with pytest.raises(VaultError, match=r"the data key \w{8} is missing"):
        datakeys.settle(storage)
    storage.close()
    storage = database.open(vault_of(1, 0))
    with pytest.raises(VaultError, match="start it again"):
        Reencryption(storage)
    datakeys.settle(storage)
    _, gone = Reencryption(storage).run(lambda *_: None)
    assert gone == vault_of(0).ids and datakeys.needed(storage) == vault_of(1).ids
    storage.close()


def test_the_file_of_keys_is_for_its_owner_and_keeps_the_older_ones(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    names = [datakeys.rotate(file) for _ in range(3)]
    assert datakeys.vault_of(file).ids == names[::-1] and file.stat().st_mode & 0o777 == 0o600
    for wrong in ("", "12\n", "xx" * 32, "11" * 32 + "\n22\n"):
        file.write_text(wrong)
        with pytest.raises(SettingsError, match="64 hexadecimal digits") as refused:
            datakeys.vault_of(file)
        assert "11" * 32 not in str(refused.value)


def test_a_running_server_reads_what_a_newer_key_closed_once_that_is_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    datakeys.rotate(file)
    running = datakeys.vault_of(file)
    datakeys.rotate(file)
    closed = datakeys.vault_of(file).close(b"[1]", b"there")
    assert running.open(closed, b"there").strip() == b"[1]"
    assert running.newest != datakeys.vault_of(file).newest
    with pytest.raises(VaultError, match="not what was stored here"):
        running.open(closed, b"elsewhere")


def test_the_database_goes_down_to_a_version_that_knows_nothing_of_it_only_without_closed_values(
    database: Database,
) -> None:
    from fleet.host.migrate import migrate
    from tests.fleet_host.stand import row

    storage = database.open(vault_of(0))
    storage.perform([("readings", [row(1)])])
    storage.perform([("upsert", "conflicts", {"id": "x", "doc": {}})])
    with storage.writing() as connection:
        connection.execute(text("UPDATE readings SET value = '~g1.x.y'"))
    with pytest.raises(StorageError, match="sensitive readings are stored"):
        migrate(storage.engine, "0003")
    storage.close()
