"""The database: each reading once, transactions whole, and what a restart gets back."""

import itertools
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.rows import ReadingRow
from fleet.host import database as database_module
from fleet.host import readings as queries
from fleet.host import writer as writer_module
from fleet.host.bulk import STATEMENT_ROWS
from fleet.host.storage import Storage, StorageError, sqlite_url
from fleet.host.writer import Job, Writer
from tests.fleet_host.stand import UTC_MS, Database, row

BOOTS = itertools.count()
# A partition's index has a name of its own, made of its columns.
INDEX_NAMES = {
    "sqlite": ("readings_by_time", "readings_by_metric"),
    "postgresql": ("readings_default_node_utc_ms_id_idx", "readings_default_node_metric_utc_ms_id_idx"),
}
NODE_ROW = {"id": "sensor-01", "doc": {"state": "up"}}


@pytest.fixture
def storage(database: Database) -> Iterator[Storage]:
    made = database.open()
    yield made
    made.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def one_storage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    """One for all examples of a test: each takes a boot of its own."""
    made = Database.make(request, tmp_path_factory.mktemp("storage")).open()
    yield made
    made.close()


def stored(storage: Storage) -> list[dict[str, Any]]:
    with storage.reading() as connection:
        return queries.all_readings(connection, None, 10_000).readings


def test_a_reading_is_stored_once_however_often_it_comes(storage: Storage) -> None:
    assert storage.perform([("readings", [row(1), row(2)])]) == []
    assert storage.perform([("readings", [row(2), row(3)])]) == []
    assert storage.perform([("compare", [row(1), row(3)])]) == []
    assert [each["seq"] for each in stored(storage)] == [1, 2, 3]


def test_a_write_of_many_readings_stores_each_once_and_the_first_of_two_that_are_alike(storage: Storage) -> None:
    many = [row(seq, seq / 4) for seq in range(3 * STATEMENT_ROWS + 1)]
    assert storage.perform([("readings", [*many[:700], *many])]) == []
    assert [(each["seq"], each["value"]) for each in stored(storage)] == [(each.seq, each.value) for each in many]


@pytest.mark.parametrize("unit", [None, "C", "°C", "a\\b", "\t", "\n\r", "\\N", "", "m/s²"])
def test_a_unit_comes_back_as_it_was_sent(storage: Storage, unit: str | None) -> None:
    storage.perform([("readings", [row(1)._replace(unit=unit), row(2)])])
    assert [each["unit"] for each in stored(storage)] == [unit, "C"]


@pytest.mark.parametrize("value", [21, 21.5, -0.01, 25.0, 1e22, True, "tag-7", "", "a\0b", "\\\\.\\t\\n", "°", 2**40])
def test_a_value_comes_back_as_it_was_sent(storage: Storage, value: Any) -> None:
    storage.perform([("readings", [row(1, value)])])
    found = stored(storage)[0]["value"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("first", "copy"),
    [(row(1, 20), row(1, 21)), (row(1, 1), row(1, True)), (row(1), row(1, metric="co2")), (row(1, "a"), row(1, "b"))],
)
@pytest.mark.parametrize("kind", ["compare", "readings"])
def test_a_copy_with_other_content_is_reported_and_not_stored(
    storage: Storage, kind: str, first: ReadingRow, copy: ReadingRow
) -> None:
    storage.perform([("readings", [first])])
    assert storage.perform([(kind, [copy, row(9)])]) == [copy]
    assert stored(storage)[0]["value"] == first.value


def test_a_copy_with_another_time_is_the_same_reading(storage: Storage) -> None:
    storage.perform([("readings", [row(1, at_s=0)])])
    assert storage.perform([("compare", [row(1, at_s=5)])]) == []


def test_a_reading_that_only_the_core_remembers_is_stored_all_the_same(storage: Storage) -> None:
    assert storage.perform([("compare", [row(1)])]) == []
    assert [each["seq"] for each in stored(storage)] == [1]


def test_a_restart_gets_rows_and_the_ranges_of_what_is_stored(storage: Storage, database: Database) -> None:
    rows = [row(seq) for seq in (1, 2, 3, 7, 9, 10)] + [row(0, boot=8), row(5, node="sensor-02")]
    storage.perform([("readings", rows), ("upsert", "nodes", NODE_ROW), ("upsert", "nodes", {"id": "gone", "doc": {}})])
    storage.perform([("upsert", "nodes", NODE_ROW | {"doc": {"state": "down"}}), ("delete", "nodes", "gone")])
    again = Storage(database.url)
    found = again.load()
    assert found["nodes"] == [{"id": "sensor-01", "doc": {"state": "down"}}]
    assert found["seen"] == [
        {"node": "sensor-01", "boot": 7, "ranges": [[1, 3], [7, 7], [9, 10]]},
        {"node": "sensor-01", "boot": 8, "ranges": [[0, 0]]},
        {"node": "sensor-02", "boot": 7, "ranges": [[5, 5]]},
    ]
    again.close()


@given(st.sets(st.integers(0, 40)))
def test_the_ranges_hold_exactly_the_stored_numbers(one_storage: Storage, seqs: set[int]) -> None:
    boot = next(BOOTS)
    one_storage.perform([("readings", [row(seq, boot=boot) for seq in seqs])])
    found = [seen["ranges"] for seen in one_storage.load()["seen"] if seen["boot"] == boot]
    ranges = [tuple(pair) for pairs in found for pair in pairs]
    assert {seq for low, high in ranges for seq in range(low, high + 1)} == seqs
    assert all(high + 1 < low for (_, high), (low, _) in itertools.pairwise(ranges))


def test_a_transaction_is_whole_or_not_at_all(storage: Storage) -> None:
    with pytest.raises(StorageError) as error:
        storage.perform([("readings", [row(1)]), ("upsert", "nodes", {"id": "x", "doc": object()})])
    assert error.value.bad_data
    assert stored(storage) == []


def test_a_commit_is_on_disk_before_it_is_answered(storage: Storage) -> None:
    with storage.engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
            return
        pragmas = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    assert pragmas == ["wal", 2]  # 2 is FULL


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "fleet.sqlite"
    path.write_bytes(b"this is not SQLite" * 100)
    with pytest.raises(StorageError, match="not a database"):
        Storage(sqlite_url(path)).open()


# --- pages -----------------------------------------------------------------------------------------------------------


def test_a_walk_sees_each_reading_exactly_once_while_more_arrive(storage: Storage) -> None:
    storage.perform([("readings", [row(seq) for seq in range(25)])])
    found, cursor = [], None
    for step in range(10):
        with storage.reading() as connection:
            page = queries.all_readings(connection, cursor, 7)
        found += [each["seq"] for each in page.readings]
        if (cursor := page.next_cursor) is None:
            break
        if step < 3:
            storage.perform([("readings", [row(100 + step)])])
    assert found == [*range(25), 100, 101, 102]


def test_one_nodes_readings_come_by_the_time_they_were_read(storage: Storage) -> None:
    late = [row(seq, at_s=100 - seq) for seq in range(10)]
    storage.perform([("readings", [*late, row(50, metric="co2", at_s=95), row(51, node="sensor-02", at_s=95)])])
    with storage.reading() as connection:
        first = queries.node_readings(connection, "sensor-01", "temp", UTC_MS + 92_000, UTC_MS + 98_000, None, 4)
        rest = queries.node_readings(
            connection, "sensor-01", "temp", UTC_MS + 92_000, UTC_MS + 98_000, first.next_cursor, 4
        )
    assert [each["seq"] for each in first.readings + rest.readings] == [8, 7, 6, 5, 4, 3]
    assert (first.next_cursor is None, rest.next_cursor) == (False, None)


def test_both_walks_use_an_index(storage: Storage) -> None:
    explain = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN "}[storage.engine.dialect.name]
    plans = []
    with storage.reading() as connection:
        if storage.engine.dialect.name == "postgresql":  # of a table this small it would rather read all
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")

        class Explaining:
            def execute(self, query: Any) -> Any:
                text = str(query.compile(storage.engine, compile_kwargs={"literal_binds": True}))
                plans.append(str(connection.exec_driver_sql(explain + text).all()))
                return connection.execute(query)

        queries.all_readings(Explaining(), None, 5)  # type: ignore[arg-type]
        queries.node_readings(Explaining(), "a", None, 0, 1, None, 5)  # type: ignore[arg-type]
        queries.node_readings(Explaining(), "a", "temp", 0, 1, None, 5)  # type: ignore[arg-type]
    by_time, by_metric = INDEX_NAMES[storage.engine.dialect.name]
    assert by_time in plans[1] and by_metric in plans[2]
    assert not any("TEMP B-TREE" in plan or "Sort" in plan for plan in plans)


@given(st.text(max_size=100))
def test_a_made_up_cursor_is_refused(text: str) -> None:
    for parts in (1, 2):
        try:
            place = queries.decode(text, parts)
        except queries.BadCursor:
            continue
        assert len(place) == parts


# --- the writer ------------------------------------------------------------------------------------------------------


class Answers:
    """What the writer tells, and a way to wait for it."""

    def __init__(self) -> None:
        self.reasons: list[str | None] = []
        self._news = threading.Condition()

    def done(self, _conflicts: list[ReadingRow], reason: str | None) -> None:
        self.reasons.append(reason)

    def tell(self, jobs: list[Job]) -> None:
        with self._news:
            for job in jobs:
                if job.done:
                    job.done(*job.result)
            self._news.notify_all()

    def wait(self, count: int) -> list[str | None]:
        with self._news:
            assert self._news.wait_for(lambda: len(self.reasons) >= count, 10), self.reasons
        return self.reasons


def test_stores_are_answered_in_order_after_their_commit(storage: Storage) -> None:
    answers = Answers()
    writer = Writer(storage, answers.tell)
    seen: list[int] = []

    def done(_conflicts: list[ReadingRow], _reason: str | None) -> None:
        seen.append(len(stored(storage)))
        answers.reasons.append(_reason)

    for seq in range(200):
        writer.submit([("readings", [row(seq)])], done)
    writer.start()
    answers.wait(200)
    assert all(count > place for place, count in enumerate(seen))
    assert writer.close(5)


def test_one_store_that_can_never_be_stored_fails_alone(storage: Storage) -> None:
    answers = Answers()
    writer = Writer(storage, answers.tell)
    for writes in (
        [("readings", [row(1)])],
        [("upsert", "nodes", {"id": "x", "doc": object()})],
        [("readings", [row(2)])],
    ):
        writer.submit(writes, answers.done)
    writer.start()
    reasons = answers.wait(3)
    assert (reasons[0], reasons[2], writer.failing) == (None, None, None)
    assert reasons[1] is not None and len(stored(storage)) == 2
    assert writer.close(5)


def test_a_locked_database_fails_stores_and_recovers_with_what_is_owed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "fleet.sqlite"
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_MS", 10)
    monkeypatch.setattr(writer_module, "RETRY_S", 0.05)
    storage = Storage(sqlite_url(path))
    storage.open()
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    answers = Answers()
    writer = Writer(storage, answers.tell)
    writer.start()
    for state in ("up", "down"):
        writer.submit([("upsert", "nodes", NODE_ROW | {"doc": {"state": state}})], None)
    writer.submit([("readings", [row(1)])], answers.done)
    assert answers.wait(1) == ["database is locked"]
    assert writer.failing == "database is locked"
    blocker.execute("ROLLBACK")
    writer.submit([("readings", [row(2)])], answers.done)
    assert answers.wait(2)[1] is None
    assert writer.failing is None
    assert storage.load()["nodes"][0]["doc"] == {"state": "down"}
    assert [each["seq"] for each in stored(storage)] == [2]
    assert writer.close(5)
    storage.close()


def test_too_many_waiting_stores_are_refused_at_once(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "MAX_WAITING", 2)
    answers = Answers()
    writer = Writer(storage, answers.tell)  # not started: nothing is taken up
    for seq in range(3):
        writer.submit([("readings", [row(seq)])], answers.done)
    assert answers.reasons == ["2 transactions are waiting already"]
