"""Who leads, and that nobody else writes: the advisory lock, the fencing epoch, the heartbeat, the queue."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from firmware.hosting.lifecycle import CannotRun
from fleet.host.database import Fenced
from fleet.host.lock import DirectoryLock
from fleet.host.managers import changes, queue
from fleet.host.managers.leadership import Held, Leadership, Stillness
from fleet.host.managers.term import LEASE_S, Term
from fleet.host.storage import Storage, StorageError
from fleet.host.tables import CHANGES
from tests.fleet_host.stand import NODE, Database, Served, batch, row, served
from tests.planted.managers import WRITE, commits_after_takeover, without_epoch_check
from tests.servers import PostgresServer


@pytest.fixture
def shared(postgres: PostgresServer) -> Database:
    """A database of a PostgreSQL, with its tables."""
    found = Database.postgresql(postgres)
    found.open().close()
    return found


@pytest.fixture
def two(shared: Database) -> Iterator[tuple[Leadership, Leadership]]:
    """Two managers that both want to lead."""
    found = [Leadership(shared.url, {"name": name, "keys": []}) for name in ("first", "second")]
    yield found[0], found[1]
    for each in found:
        each.close()


def elected(leadership: Leadership) -> Term:
    found = leadership.campaign()
    assert isinstance(found, Term)
    return found


def beats(leadership: Leadership, term: Term) -> bool:
    """Whether the heartbeat reached the database."""
    try:
        leadership.beat(term)
    except Fenced:
        raise
    except StorageError:
        return False
    return True


def test_one_of_two_leads_and_the_other_is_told_who(two: tuple[Leadership, Leadership]) -> None:
    first, second = two
    term = elected(first)
    found = second.campaign()
    assert isinstance(found, Held)
    assert (found.holder["name"], found.epoch) == ("first", term.epoch)
    first.beat(term)
    again = second.campaign()
    assert isinstance(again, Held) and again.beat == found.beat + 1


def test_each_leader_has_a_higher_epoch_than_the_one_before(two: tuple[Leadership, Leadership]) -> None:
    epochs = []
    for leadership in (*two, *two):
        epochs.append(elected(leadership).epoch)
        leadership.resign()
    assert epochs == [1, 2, 3, 4]


def test_a_leader_that_is_overtaken_commits_nothing_more(shared: Database, two: tuple[Leadership, Leadership]) -> None:
    assert commits_after_takeover(shared, *two) == []


class Closing:
    """A fence that lets nothing through until it is opened."""

    is_open = False

    def check(self, _connection: Connection) -> None:
        if not self.is_open:
            raise Fenced("another manager leads")

    def journal(self, _connection: Connection, _writes: object) -> None:
        """Nobody follows."""


def hot_now(fleet: Served, number: int) -> bytes:
    """A batch of two readings, each of which is in another batch too."""
    message = json.loads(batch(f"b-{number}", range(number, number + 2), value=35.0))
    for reading in message["readings"]:
        reading["utc_ms"] = fleet.runtime.clock.utc_ms() + reading["seq"]
    return json.dumps(message).encode()


async def test_batches_that_were_taken_upon_a_fenced_commit_count_as_never_taken(tmp_path: Path) -> None:
    fence = Closing()
    async with served(tmp_path) as fleet:
        rule = {"when": "temp > 30", "severity": "warning"}
        response = await fleet.http.put("/api/v1/fleet/rules/hot", json=rule, headers=fleet.as_role("admin"))
        assert response.status_code == 201
        await fleet.settled()
        fleet.runtime.storage._fence = fence
        batches = [hot_now(fleet, number) for number in range(3)]
        for _ in range(2):
            for payload in batches:  # the first begins a commit, the others are taken upon it
                fleet.delivers(payload)
            async with asyncio.timeout(10):
                while fleet.runtime.core.ingest.committing:  # noqa: ASYNC110 - until the writer's thread has answered
                    await asyncio.sleep(0.01)
        assert fleet.acknowledged() == [] and not fleet.runtime.core.ingest.has(NODE, 7, 0)
        assert fleet.runtime.core.alert_views() == []
        fence.is_open = True
        for payload in batches:
            fleet.delivers(payload)
        async with asyncio.timeout(10):
            while len(fleet.acknowledged()) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        stored = (await fleet.http.get("/api/v1/fleet/readings")).json()
        assert [each["seq"] for each in stored["readings"]] == [0, 1, 2, 3] and stored["conflicts"] == 0
        assert [each["id"] for each in fleet.runtime.core.alert_views()] == [f"hot:{NODE}:7:0"]


def test_without_the_epoch_check_the_claim_above_fails(shared: Database, two: tuple[Leadership, Leadership]) -> None:
    with without_epoch_check():
        assert commits_after_takeover(shared, *two) == ["written by epoch 1 after epoch 2 began"]


def test_what_a_leader_has_begun_to_commit_is_there_before_the_next_one_reads(
    shared: Database, two: tuple[Leadership, Leadership]
) -> None:
    old = elected(two[0])
    storage = Storage(shared.url, fence=old)
    begun, may_end, order = threading.Event(), threading.Event(), []

    def commit() -> None:
        with storage.writing():
            begun.set()
            may_end.wait(5)
        order.append("old committed")

    writer = threading.Thread(target=commit)
    writer.start()
    begun.wait(5)
    two[0].resign()
    taking = threading.Thread(target=lambda: order.append(f"epoch {elected(two[1]).epoch}"))
    taking.start()
    taking.join(0.2)
    assert order == []  # the next epoch waits for that commit
    may_end.set()
    for thread in (writer, taking):
        thread.join(5)
    assert sorted(order) == ["epoch 2", "old committed"]
    storage.close()


def test_a_leader_that_was_ousted_finds_its_sessions_ended_and_itself_fenced(
    shared: Database, two: tuple[Leadership, Leadership]
) -> None:
    first, second = two
    old = elected(first)
    held = second.campaign()
    assert isinstance(held, Held)
    second.oust(held)
    while isinstance(taken := second.campaign(), Held):  # PostgreSQL ends a session when that comes to it
        pass
    assert taken.epoch == old.epoch + 1
    assert not beats(first, old)  # its connection is gone; the next one finds the other's epoch
    with pytest.raises(Fenced):
        first.beat(old)


def test_a_leader_whose_connection_was_cut_leads_on_when_nobody_took_its_place(
    shared: Database, two: tuple[Leadership, Leadership]
) -> None:
    first, second = two
    term = elected(first)
    second.oust(Held({"name": "first"}, 1, 1))
    lost = False
    while not (lost and beats(first, term)):  # PostgreSQL ends a session when that comes to it
        lost = lost or not beats(first, term)
    assert isinstance(second.campaign(), Held)


def test_a_leader_without_confirmation_is_certain_of_nothing_before_others_may_oust_it() -> None:
    now_s = [100.0]
    term = Term(1, 100.0, lambda: now_s[0])
    stillness, held = Stillness(), Held({"name": "first"}, 1, 7)
    assert not stillness.look(held, 100.0)  # seen after the heartbeat was sent, never before
    for at_s, sure, still in ((100 + LEASE_S - 0.01, True, False), (100 + LEASE_S, False, True)):
        now_s[0] = at_s
        assert (term.certain, stillness.look(held, at_s)) == (sure, still)
    term.confirmed(now_s[0])
    assert term.certain
    assert not stillness.look(Held({"name": "first"}, 1, 8), now_s[0])


def test_a_database_that_did_not_answer_makes_no_leader_silent() -> None:
    stillness, held = Stillness(), Held({"name": "first"}, 1, 7)
    stillness.look(held, 0.0)
    stillness.reset()
    assert not stillness.look(held, 1000.0)


def test_a_term_ends_once_and_keeps_its_first_reason() -> None:
    term = Term(3, 0.0)
    term.end("another manager leads")
    term.end("something else")
    assert term.over == "another manager leads" and not term.certain


# --- the queue -------------------------------------------------------------------------------------------------------


@pytest.fixture
def connection(shared: Database) -> Iterator[Connection]:
    storage = shared.open()
    with storage.writing() as found:
        yield found
    storage.close()


def test_a_request_is_taken_up_once_by_a_leader_and_again_by_the_next(connection: Connection) -> None:
    queue.put(connection, "a", b"1", False, 1)
    queue.put(connection, "b", b"2", True, 2)
    assert [(each.id, each.orphaned) for each in queue.take(connection, 5)] == [("a", False), ("b", False)]
    assert queue.take(connection, 5) == []
    queue.answer(connection, "a", 5, b"done")
    assert [(each.id, each.again, each.orphaned) for each in queue.take(connection, 6)] == [("b", True, True)]
    queue.answer(connection, "b", 5, b"of the leader before")
    assert queue.look(connection, "b") == (True, None)
    assert queue.look(connection, "a") == (True, b"done")


def test_a_request_can_be_taken_back_until_a_leader_has_it(connection: Connection) -> None:
    queue.put(connection, "a", b"1", False, 1)
    queue.put(connection, "b", b"2", False, 2)
    assert queue.withdraw(connection, "b")
    assert [each.id for each in queue.take(connection, 1)] == ["a"]
    assert not queue.withdraw(connection, "a")


# --- what followers hear of ------------------------------------------------------------------------------------------


def seen(storage: Storage, since: int) -> "changes.News | None":
    with storage.reading() as connection:
        return changes.news(connection, since)


def test_every_commit_tells_which_rows_it_touched_and_readings_tell_nothing(
    shared: Database, two: tuple[Leadership, Leadership]
) -> None:
    storage = Storage(shared.url, fence=elected(two[0]))
    with storage.reading() as connection:
        assert changes.copy(connection).version == 0
    storage.perform([("readings", [row(1), row(2)])])
    assert seen(storage, 0) == changes.News(0)
    storage.perform_all([[WRITE], [("upsert", "users", {"name": "alice", "doc": {"role": "admin"}}), WRITE]])
    storage.perform([("delete", "users", "alice")])
    found = seen(storage, 0)
    assert found is not None and found.version == 2
    assert sorted(found.changed, key=str) == [
        ("nodes", "sensor-01", {"id": "sensor-01", "doc": WRITE[2]["doc"]}),
        ("users", "alice", None),
    ]
    assert seen(storage, 2) == changes.News(2)
    storage.close()


def test_a_follower_that_is_too_far_behind_is_told_to_read_everything(
    shared: Database, two: tuple[Leadership, Leadership], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MOST_VERSIONS", 2)
    storage = Storage(shared.url, fence=elected(two[0]))
    for _ in range(5):
        storage.perform([WRITE])
    with storage.writing() as connection:
        changes.forget_old(connection)
        kept: list[Any] = list(connection.execute(select(CHANGES.c.version)).scalars())
    assert sorted(kept) == [4, 5]
    assert seen(storage, 2) is None
    assert seen(storage, 3) is not None
    storage.close()


def test_managers_of_one_database_share_a_directory_and_nobody_else_works_in_it(tmp_path: Path) -> None:
    for serving in [DirectoryLock(tmp_path, shared=True) for _ in range(2)]:
        with pytest.raises(CannotRun, match="another fleet server works in this directory"):
            DirectoryLock(tmp_path)  # as `fleet migrate` would, or a server on SQLite
        serving.release()
    DirectoryLock(tmp_path).release()
