"""The latest value of each metric: the same from the database, from a cache in this process, and from Redis."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.rows import ReadingRow
from fleet.host import latest, redis_latest
from fleet.host.latest import MemoryLatest, Values, stored_latest
from fleet.host.redis_latest import check_url
from fleet.host.settings import SettingsError
from fleet.host.storage import Storage
from tests.fleet_host.stand import GATEWAY, NODE, UTC_MS, Database, Served, row, served
from tests.servers import RedisServer


@pytest.fixture
def storage(database: Database) -> Iterator[Storage]:
    made = database.open()
    yield made
    made.close()


def from_database(storage: Storage, *nodes: str) -> dict[str, dict[str, Any]]:
    with storage.reading() as connection:
        return plain(stored_latest(connection, nodes))


def plain(found: dict[str, Values]) -> dict[str, dict[str, Any]]:
    return {node: {metric: at.value for metric, at in values.items()} for node, values in found.items()}


def test_the_latest_is_the_one_read_last_whenever_it_was_stored(storage: Storage) -> None:
    storage.perform([("readings", [row(1, 20, at_s=9), row(2, 21, at_s=3), row(3, 800, metric="co2", at_s=1)])])
    storage.perform([("readings", [row(4, 22, at_s=9), row(5, 700, metric="co2"), row(1, True, node="door-01")])])
    assert from_database(storage, NODE, "door-01", "nobody") == {
        NODE: {"temp": 22, "co2": 800},
        "door-01": {"temp": True},
        "nobody": {},
    }


def test_a_node_with_a_thousand_metrics_shows_a_bounded_number(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latest, "MOST_METRICS", 3)
    storage.perform([("readings", [row(seq, seq, metric=f"m{seq}") for seq in range(5)])])
    assert from_database(storage, NODE) == {NODE: {"m0": 0, "m1": 1, "m2": 2}}


ROWS = st.lists(
    st.tuples(st.sampled_from(["temp", "co2"]), st.integers(0, 5), st.booleans()).map(
        lambda drawn: (drawn[0], drawn[1], drawn[2])
    ),
    max_size=20,
)


@given(ROWS)
async def test_the_cache_tells_what_the_database_would(drawn: list[tuple[str, int, bool]]) -> None:
    storage, cache = Storage("sqlite+pysqlite:///:memory:"), MemoryLatest()
    storage.open()
    for seq, (metric, at_s, looks) in enumerate(drawn):
        found = await cache.find([NODE])  # then the database answers, and a commit comes between
        with storage.reading() as connection:
            read = stored_latest(connection, [NODE])
        one = row(seq, seq, metric=metric, at_s=at_s)
        storage.perform([("readings", [one])])
        cache.note([one])
        if looks:
            await cache.fill(read, found.state)
    known = (await cache.find([NODE])).known
    if any(looks for _, _, looks in drawn):
        assert plain(known) == from_database(storage, NODE)
    else:
        assert known == {}
    storage.close()


async def test_what_was_read_before_the_cache_was_cleared_does_not_fill_it() -> None:
    cache = MemoryLatest()
    found = await cache.find([NODE])
    cache.clear()
    await cache.fill({NODE: {}}, found.state)
    assert (await cache.find([NODE])).known == {}


# --- over the API ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def fleet(tmp_path: Path, database: Database) -> AsyncIterator[Served]:
    async with served(tmp_path, database=database) as server:
        server.says("heartbeat", {"n": 1, "uptime_ms": 1, "config": 0})
        yield server


def deliver(fleet: Served, name: str, *rows: ReadingRow) -> None:
    """A batch of these readings arrives."""
    readings = [{**each._asdict(), "sensor": each.node} for each in rows]
    fleet.delivers(json.dumps({"v": 1, "batch": name, "readings": readings, "stats": []}).encode())


async def shown(fleet: Served, node: str = NODE) -> dict[str, Any]:
    """What the API tells, by metric."""
    body = (await fleet.http.get(f"/api/v1/fleet/nodes/{node}/latest")).raise_for_status().json()
    return {each["metric"]: each["value"] for each in body["latest"]}


async def test_a_nodes_latest_values_follow_its_batches(fleet: Served) -> None:
    assert await shown(fleet) == {}
    fleet.says("status", {"sensor": NODE, "status": "up"})
    deliver(fleet, "b-1", row(1, 20.5, at_s=5), row(2, 800, metric="co2", at_s=5))
    await fleet.settled()
    assert await shown(fleet) == {"temp": 20.5, "co2": 800}
    deliver(fleet, "b-2", row(3, 99, at_s=1), row(4, 801, metric="co2", at_s=6))  # one is late
    await fleet.settled()
    body = (await fleet.http.get(f"/api/v1/fleet/nodes/{NODE}/latest")).json()
    assert (body["node_id"], body["status"]) == (NODE, "online")
    assert body["latest"] == [
        {
            "metric": "co2",
            "value": 801,
            "unit": "C",
            "utc": "2026-01-01T00:00:06.000Z",
            "time_quality": "exact",
            "gateway": GATEWAY,
        },
        {
            "metric": "temp",
            "value": 20.5,
            "unit": "C",
            "utc": "2026-01-01T00:00:05.000Z",
            "time_quality": "exact",
            "gateway": GATEWAY,
        },
    ]


async def test_a_copy_with_other_content_never_becomes_the_latest(fleet: Served) -> None:
    deliver(fleet, "b-1", row(1, 20))
    await fleet.settled()
    assert await shown(fleet) == {"temp": 20}
    deliver(fleet, "b-2", row(1, 99, at_s=9))
    await fleet.settled()
    assert await shown(fleet) == {"temp": 20}


async def test_all_nodes_come_page_by_page(fleet: Served) -> None:
    deliver(fleet, "b-1", row(1, 20), row(1, 30, node="sensor-02"))
    await fleet.settled()
    first = (await fleet.http.get("/api/v1/fleet/latest", params={"limit": 1})).json()
    rest = (await fleet.http.get("/api/v1/fleet/latest", params={"cursor": first["next_cursor"]})).json()
    found = [(each["node_id"], each["latest"][0]["value"]) for each in first["nodes"] + rest["nodes"]]
    assert (found, rest["next_cursor"]) == ([(NODE, 20), ("sensor-02", 30)], None)


async def test_the_latest_of_nobody_is_404_and_a_bad_page_400(fleet: Served) -> None:
    assert (await fleet.http.get("/api/v1/fleet/nodes/nobody/latest")).json()["error"] == "not_found"
    assert (await fleet.http.get("/api/v1/fleet/latest", params={"limit": 0})).status_code == 400


# --- Redis -----------------------------------------------------------------------------------------------------------


async def until(fleet: Served, up: bool) -> None:
    """Until the manager trusts Redis, or does not."""
    async with asyncio.timeout(10):
        while fleet.runtime.latest.up != up:  # noqa: ASYNC110 - a connection's own variable
            await asyncio.sleep(0.01)


async def from_redis_alone(fleet: Served, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the API tells when the database must not be asked."""

    async def forbidden(*_: object) -> None:
        raise AssertionError("the database was asked")

    with monkeypatch.context() as patch:
        patch.setattr(fleet.runtime, "read", forbidden)
        return await shown(fleet)


@pytest.mark.live
async def test_redis_holds_latest_values_and_liveness_for_whoever_reads_there(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path, redis=redis_server) as fleet:
        await until(fleet, up=True)
        deliver(fleet, "b-1", row(1, 20, at_s=5))
        await fleet.settled()
        assert await shown(fleet) == {"temp": 20}
        deliver(fleet, "b-2", row(2, 19, at_s=4), row(3, 21, at_s=6))
        await fleet.settled()
        assert await from_redis_alone(fleet, monkeypatch) == {"temp": 21}
        client = redis_server.client()
        async with asyncio.timeout(10):
            while True:
                generation = client.get("clawland:feed")
                held = client.hgetall(f"clawland:{generation}:latest:{NODE}")
                alive = client.hgetall(f"clawland:{generation}:alive")
                if json.loads(held["temp"])[1] == 21 and NODE in alive:
                    break
                await asyncio.sleep(0.01)
        assert json.loads(held["temp"]) == ["temp", 21, "C", UTC_MS + 6_000, "exact", GATEWAY]
        assert set(json.loads(alive[NODE])) == {"state", "heard_utc_ms"}
        assert 0 < client.pttl("clawland:feed") <= redis_latest.FEED_MS
        client.close()


@pytest.mark.live
async def test_a_redis_killed_in_flight_costs_speed_and_no_truth(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_latest, "RETRY_S", 0.05)
    async with served(tmp_path, redis=redis_server) as fleet:
        await until(fleet, up=True)
        for seq in range(60):
            deliver(fleet, f"b-{seq}", row(seq, seq, at_s=seq))
            if seq == 20:
                redis_server.kill()
            if seq == 40:
                redis_server.start()
            await fleet.settled()
            assert await shown(fleet) == {"temp": seq}
            if seq in (30, 50):
                await until(fleet, up=seq == 50)
                assert f"clawland_cache_up {float(seq == 50)}" in (await fleet.http.get("/metrics")).text
        assert len(fleet.acknowledged()) == 60
        assert await shown(fleet) == await from_redis_alone(fleet, monkeypatch) == {"temp": 59}


@pytest.mark.live
async def test_a_redis_that_was_never_there_is_no_reason_not_to_serve(
    redis_server: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_latest, "RETRY_S", 0.02)
    redis_server.kill()
    async with served(tmp_path, redis=redis_server) as fleet:
        deliver(fleet, "b-1", row(1, 20))
        await fleet.settled()
        assert await shown(fleet) == {"temp": 20}
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(until(fleet, up=True), 0.3)
    assert len([line for line in caplog.messages if "latest values come from the database" in line]) == 1
    assert redis_server.password not in caplog.text


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("localhost:6379", "expected redis://"),
        ("http://localhost", "expected redis://"),
        ("redis://:hunter2@localhost", "carries a password"),
        ("redis://localhost?password=hunter2", "carries a password"),
        ("redis://localhost:port/0", "--redis-url: "),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_repeating_a_secret(url: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason) as error:
        check_url(url)
    assert "hunter2" not in str(error.value)
