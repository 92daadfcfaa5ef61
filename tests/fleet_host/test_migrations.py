"""Versions of the database: up and down with the data kept, and never past what the program knows."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import MetaData, text

from fleet.host import readings as queries
from fleet.host.database import make_engine
from fleet.host.migrate import known_versions, migrate, version
from fleet.host.storage import Storage, StorageError
from fleet.host.tables import IDENTITIES, METADATA
from tests.fleet_host.stand import UTC_MS, Database, command, row

KNOWN = known_versions()
WRITES: list[Any] = [
    ("readings", [row(1, 25.0), row(2, True), row(3, "tag-7", at_s=40), row(1, boot=8)]),
    ("upsert", "nodes", {"id": "sensor-01", "doc": {"state": "up"}}),
    ("upsert", "alerts", {"id": "a-1", "node": "sensor-01", "rule": "hot", "state": "raised", "doc": {"value": 31.0}}),
]


def contents(storage: Storage) -> dict[str, Any]:
    with storage.reading() as connection:
        by_time = queries.node_readings(connection, "sensor-01", "temp", UTC_MS, UTC_MS + 60_000, None, 100)
        stored = queries.all_readings(connection, None, 100)
    return storage.load() | {"readings": stored.readings, "by_time": by_time.readings}


@pytest.mark.parametrize("older", KNOWN[:-1])
def test_a_database_goes_down_and_up_again_with_its_data(database: Database, older: str) -> None:
    storage = database.open()
    storage.perform(WRITES)
    before = contents(storage)
    assert migrate(storage.engine, older) == (KNOWN[-1], older)
    assert migrate(storage.engine) == (older, KNOWN[-1])
    assert contents(storage) == before
    storage.perform([("readings", [row(3), row(4)])])
    assert [each["seq"] for each in contents(storage)["readings"]] == [1, 2, 3, 1, 4]
    storage.close()


def test_a_database_from_before_versions_is_upgraded_at_start(database: Database) -> None:
    engine = make_engine(database.url)
    migrate(engine, "0001")
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE alembic_version"))
        columns = "node, boot, seq, metric, value, utc_ms, time_quality, gateway, stored_utc_ms"
        values = "'sensor-01', 7, {seq}, 'temp', '21.5', {utc}, 'exact', 'gateway-01', 1767225600000"
        for seq, utc in ((1, 1767225600500), (2, "NULL")):
            connection.execute(text(f"INSERT INTO readings ({columns}) VALUES ({values.format(seq=seq, utc=utc)})"))
    engine.dispose()
    storage = database.open()
    found = contents(storage)["by_time"]
    assert [(each["seq"], each["value"], each["utc"]) for each in found] == [
        (2, 21.5, "2026-01-01T00:00:00.000Z"),  # its time was unknown: as of when it was stored
        (1, 21.5, "2026-01-01T00:00:00.500Z"),
    ]
    storage.perform([("readings", [row(2), row(3)])])
    assert [each["seq"] for each in contents(storage)["readings"]] == [1, 2, 3]
    storage.close()


def test_a_database_newer_than_the_program_is_refused_and_left_alone(database: Database) -> None:
    storage = database.open()
    with storage.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageError, match=f"version 9999, made by a newer program; this one knows up to {KNOWN[-1]}"):
        Storage(database.url).open()
    with storage.reading() as connection:
        assert version(connection) == "9999"
    storage.close()


def test_a_version_that_nobody_knows_is_an_error_that_lists_the_known(database: Database) -> None:
    with pytest.raises(StorageError, match=r"no version '12' .* known are 0001, 0002"):
        migrate(database.open().engine, "12")


def test_the_migrations_make_exactly_the_tables_of_the_program(database: Database) -> None:
    storage = database.open()
    on_postgresql = storage.engine.dialect.name == "postgresql"
    wanted = MetaData()
    for table in [*METADATA.sorted_tables, *([IDENTITIES] if on_postgresql else [])]:
        table.to_metadata(wanted)

    def ours(_object: object, name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
        partition = kind == "table" and name == "readings_default"
        # SQLite keeps the identity of readings in their table, as one constraint that PostgreSQL cannot have.
        return not partition and name != "readings_identity"

    with storage.reading() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": ours})
        assert compare_metadata(context, wanted) == []
    storage.close()


@pytest.mark.live
def test_a_command_takes_a_database_down_and_a_start_takes_it_up(tmp_path: Path) -> None:
    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command("migrate", "--data", tmp_path, *words), capture_output=True, text=True, timeout=20
        )

    assert run().stdout == f"{tmp_path}/fleet.sqlite is now of version {KNOWN[-1]}, it was empty\n"
    assert run("--to", "0001").stdout == f"{tmp_path}/fleet.sqlite is now of version 0001, it was {KNOWN[-1]}\n"
    refused = run("--to", "12")
    assert (refused.returncode, refused.stderr.count("\n")) == (3, 1)
    assert "there is no version '12' of the database" in refused.stderr
