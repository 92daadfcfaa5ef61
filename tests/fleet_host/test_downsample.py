"""Many readings as a few."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.host import downsample
from fleet.host.storage import Storage, sqlite_url
from tests.fleet_host.stand import NODE, UTC_MS, batch, problem, row, served


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    found = Storage(sqlite_url(tmp_path_factory.mktemp("readings") / "fleet.sqlite"))
    found.open()
    yield found
    found.close()


def drawn(storage: Storage, node: str, points: int, *between: int | None) -> tuple[list[dict[str, Any]], int]:
    since, until = between or (None, None)
    with storage.engine.connect() as connection:
        return downsample.extremes(connection, node, "temp", since, until, points)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.floats(-1e9, 1e9)), max_size=80), st.integers(2, 40))
def test_the_picture_has_the_extremes_and_few_enough_real_readings(
    storage: Storage, readings: list[tuple[int, float]], points: int
) -> None:
    with storage.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM readings")
    storage.perform([("readings", [row(seq, value, at_s=at_s) for seq, (at_s, value) in enumerate(readings)])])
    found, read = drawn(storage, NODE, points)
    assert read == len(readings) and len(found) <= points
    times = [reading["utc"] for reading in found]
    assert times == sorted(times)
    values = {reading["value"] for reading in found}
    if readings:
        every = [value for _, value in readings]
        assert {min(every), max(every)} <= values <= set(every)


def test_only_numbers_of_that_metric_and_time_are_drawn(storage: Storage) -> None:
    node = "sensor-09"
    rows = [row(1, 1.0), row(2, True, at_s=1), row(3, "ajar", at_s=2), row(4, 5, at_s=3), row(5, 9.0, at_s=9)]
    other = [row(6, 99.0, metric="co2", at_s=1)]
    storage.perform([("readings", [each._replace(node=node) for each in rows + other])])
    found, read = drawn(storage, node, 10, UTC_MS, UTC_MS + 9_000)
    assert ([reading["value"] for reading in found], read) == ([1.0, 5], 2)
    assert drawn(storage, "nobody", 10) == ([], 0)


def test_more_than_can_be_read_in_time_is_refused(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downsample, "MOST_READ", 1)
    storage.perform([("readings", [row(seq, 1.0)._replace(node="sensor-08") for seq in range(3)])])
    with pytest.raises(downsample.TooMany, match="shorter time"):
        drawn(storage, "sensor-08", 10)


async def test_the_api_draws_a_curve_of_one_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(tmp_path) as fleet:
        fleet.delivers(batch("b-1", range(100)))
        await fleet.settled()
        url = f"/api/v1/fleet/nodes/{NODE}/readings"
        body = (await fleet.http.get(url, params={"metric": "temp", "points": 10})).json()
        assert 2 <= len(body["readings"]) <= 10 and body["downsampled_from"] == 100 and body["next_cursor"] is None
        for params in ({"points": 10}, {"points": 1, "metric": "temp"}, {"points": 10_001, "metric": "temp"}):
            assert problem(await fleet.http.get(url, params=params)) == (400, "invalid")
        monkeypatch.setattr(downsample, "MOST_READ", 1)
        assert problem(await fleet.http.get(url, params={"metric": "temp", "points": 10})) == (400, "invalid")
