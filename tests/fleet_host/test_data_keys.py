"""Data keys: what Redis holds, how everything is closed anew, and what a start misses."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import text

from fleet.core.vault import VaultError
from fleet.host import datakeys, reencrypt
from fleet.host.reencrypt import Reencryption
from fleet.host.settings import SettingsError
from fleet.host.storage import StorageError
from tests.fleet_host.secrecy import SEALING_KEY, SECRET, ask, everything, mark, readings, seals, stored, vault_of
from tests.fleet_host.stand import NODE, Database, row, served
from tests.servers import RedisServer


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

    storage = database.open(vault_of(0))
    storage.perform([("readings", [row(1)])])
    storage.perform([("upsert", "conflicts", {"id": "x", "doc": {}})])
    with storage.writing() as connection:
        connection.execute(text("UPDATE readings SET value = '~g1.x.y'"))
    with pytest.raises(StorageError, match="sensitive readings are stored"):
        migrate(storage.engine, "0003")
    storage.close()
