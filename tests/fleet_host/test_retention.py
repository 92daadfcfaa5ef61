"""Readings past their time go, and do not come back; on PostgreSQL they live in partitions by month."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from fleet.core.rows import ReadingRow
from fleet.host import partitions, upkeep
from fleet.host import readings as queries
from fleet.host.storage import Storage
from fleet.host.upkeep import Upkeep
from tests.fleet_host.stand import UTC_MS, Database, row

DAY_S = 86_400
RETENTION_MS = 90 * DAY_S * 1000


def keep(storage: Storage, day: int, retention_ms: int | None = RETENTION_MS) -> list[int]:
    """All steps that are due `day` days after 2026-01-01; what each removed."""
    removed: list[int] = []
    work = Upkeep(storage, lambda: UTC_MS + day * DAY_S * 1000, retention_ms, removed.append)
    while work.wait_s() == 0:
        work.step()
    return removed


def stored(storage: Storage) -> list[int]:
    with storage.reading() as connection:
        return [each["seq"] for each in queries.all_readings(connection, None, 10_000).readings]


def read_on(*days: int) -> list[ReadingRow]:
    """A reading a day, numbered by it."""
    return [row(day, at_s=day * DAY_S) for day in days]


@pytest.fixture(params=["ahead", "late"])
def order(request: pytest.FixtureRequest) -> Callable[[Storage, list[ReadingRow]], None]:
    """Readings reach partitions that were made for them, or wait in the default one."""

    def store(storage: Storage, rows: list[ReadingRow]) -> None:
        if request.param == "ahead":
            for day in range(0, 200, 30):
                keep(storage, day, None)
        storage.perform([("readings", rows)])

    return store


def test_readings_older_than_the_retention_are_removed_and_younger_ones_stay(
    database: Database, order: Callable[[Storage, list[ReadingRow]], None]
) -> None:
    storage = database.open()
    order(storage, [*read_on(0, 5, 31, 150), row(1, node="sensor-02")])
    assert sum(keep(storage, 31 + 28 + 31 + 90)) == 4  # 2026-04-01 is 90 days ago
    assert stored(storage) == [150]
    assert keep(storage, 181) == []
    storage.close()


def test_without_a_retention_nothing_is_ever_removed(database: Database) -> None:
    storage = database.open()
    storage.perform([("readings", read_on(0, 1))])
    assert keep(storage, 5_000, None) == []
    assert stored(storage) == [0, 1]
    storage.close()


@pytest.mark.parametrize("kind", ["compare", "readings"])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_replay_of_what_was_removed_brings_nothing_back(
    database: Database, kind: str, restarted: bool, order: Callable[[Storage, list[ReadingRow]], None]
) -> None:
    storage = database.open()
    order(storage, read_on(0, 1, 2, 150))
    keep(storage, 181)
    if restarted:
        storage.close()
        storage = database.open()
        assert storage.load()["seen"] == [{"node": "sensor-01", "boot": 7, "ranges": [[0, 2], [150, 150]]}]
    assert storage.perform([(kind, read_on(0, 1, 2, 3, 150))]) == []
    assert stored(storage) == [150, 3]
    storage.close()


def test_much_is_removed_in_bounded_steps(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "STEP_ROWS", 10)
    storage = database.open()
    keep(storage, 0, None)
    storage.perform([("readings", [row(seq, at_s=seq) for seq in range(35)])])
    assert keep(storage, 181) == [10, 10, 10, 5]
    assert stored(storage) == []
    assert storage.load()["seen"] == [{"node": "sensor-01", "boot": 7, "ranges": [[0, 34]]}]
    storage.close()


def test_a_step_that_fails_is_done_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "STEP_ROWS", 2)
    monkeypatch.setattr(upkeep, "AFTER_FAILURE_S", 0.0)
    storage = database.open()
    keep(storage, 0, None)
    storage.perform([("readings", read_on(0, 1, 2))])
    remember, calls = storage.forgotten.remember, []

    def failing(connection: Any, identities: Any) -> None:
        remember(connection, identities)
        calls.append(1)
        if len(calls) == 2:
            connection.execute(text("SELECT * FROM no_such_table"))

    monkeypatch.setattr(storage.forgotten, "remember", failing)
    assert sum(keep(storage, 181)) >= 3
    assert (stored(storage), len(calls) >= 3) == ([], True)
    assert storage.load()["seen"] == [{"node": "sensor-01", "boot": 7, "ranges": [[0, 2]]}]
    storage.close()


# --- partitions ------------------------------------------------------------------------------------------------------


@pytest.fixture
def partitioned(postgres: Any) -> Storage:
    return Database.postgresql(postgres).open()


def rows_by_partition(storage: Storage) -> dict[str, int]:
    query = "SELECT tableoid::regclass::text, count(*) FROM readings GROUP BY 1 ORDER BY 1"
    with storage.reading() as connection:
        return {str(name): int(count) for name, count in connection.execute(text(query))}


def test_partitions_are_made_ahead_of_time(partitioned: Storage) -> None:
    keep(partitioned, 20, None)
    with partitioned.reading() as connection:
        names = [partitions.name_of(month) for month in partitions.months(connection)]
    assert names == ["readings_202512", "readings_202601", "readings_202602", "readings_202603"]
    partitioned.perform([("readings", read_on(-1, 0, 30, 31, 58, 59))])
    assert rows_by_partition(partitioned) == {
        "readings_202512": 1, "readings_202601": 2, "readings_202602": 2, "readings_202603": 1,
    }  # fmt: skip


def test_readings_that_came_before_their_partition_move_into_it(partitioned: Storage) -> None:
    partitioned.perform([("readings", read_on(0, 40, 4_000))])
    assert rows_by_partition(partitioned) == {"readings_default": 3}
    keep(partitioned, 0, None)
    assert rows_by_partition(partitioned) == {"readings_202601": 1, "readings_202602": 1, "readings_default": 1}
    assert stored(partitioned) == [0, 40, 4_000]


def test_a_copy_with_a_time_in_another_partition_is_the_same_reading(partitioned: Storage) -> None:
    keep(partitioned, 0, None)
    assert partitioned.perform([("readings", [row(1, at_s=0)])]) == []
    for kind in ("readings", "compare"):
        assert partitioned.perform([(kind, [row(1, at_s=40 * DAY_S)])]) == []
        assert partitioned.perform([(kind, [row(1, 99, at_s=40 * DAY_S)])]) == [row(1, 99, at_s=40 * DAY_S)]
    assert rows_by_partition(partitioned) == {"readings_202601": 1}


def test_a_month_goes_as_a_whole_once_all_of_it_is_past_its_time(partitioned: Storage) -> None:
    for day in (0, 60):
        keep(partitioned, day, None)
    partitioned.perform([("readings", read_on(0, 30, 31))])
    assert keep(partitioned, 31 + 89) == []
    assert keep(partitioned, 31 + 90) == [2]
    assert "readings_202601" not in rows_by_partition(partitioned)
    assert stored(partitioned) == [31]
    with partitioned.reading() as connection:
        left = connection.execute(text("SELECT seq FROM reading_identities")).scalars().all()
    assert left == [31]


@pytest.mark.parametrize(("year", "month"), [(1970, 1), (2026, 2), (2027, 12), (9999, 11)])
def test_a_month_knows_its_first_moment_and_its_name(year: int, month: int) -> None:
    first_ms = round(datetime(year, month, 1, tzinfo=UTC).timestamp() * 1000)
    number = partitions.month_of(first_ms)
    assert (partitions.starts_ms(number), partitions.month_of(first_ms - 1)) == (first_ms, number - 1)
    assert partitions.name_of(number) == f"readings_{year:04}{month:02}"
