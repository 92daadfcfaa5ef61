"""Summaries of gateways on a metered uplink: stored once, checked one by one."""

from typing import Any

import pytest

from tests.fleet_core.rig import Cloud

GOOD = {"sensor": "sensor-01", "metric": "temp", "count": 3, "min": 20.0, "mean": 21.5, "max": 23.0}


def told(cloud: Cloud, *stats: Any, item: str = "gateway-01-1-r1") -> None:
    cloud.say("gateway-01", "status", v=1, item=item, status="summary", stats=list(stats))
    cloud.finish_stores()


def test_a_summary_is_stored_and_acknowledged_and_a_copy_of_it_changes_nothing() -> None:
    cloud = Cloud().started()
    for _ in range(2):
        told(cloud, GOOD | {"from_utc_ms": 1_000, "to_utc_ms": 41_000})
    (row,) = cloud.table("node_events").values()
    assert (row["node"], row["kind"], row["utc_ms"]) == ("sensor-01", "summary", 1_000)
    assert row["doc"]["count"] == 3
    assert row["doc"]["gateway"] == "gateway-01"
    assert "gateway-01-1-r1" in cloud.acks()
    assert cloud.rows() == []


@pytest.mark.parametrize(
    "bad",
    [
        7,
        GOOD | {"sensor": "Sensor 1"},
        GOOD | {"sensor": "sensor-of-nobody"},
        GOOD | {"metric": "cmd/x"},
        GOOD | {"count": 0},
        GOOD | {"count": -1},
        GOOD | {"mean": "hot"},
        GOOD | {"max": True},
        GOOD | {"min": 2**60},
        GOOD | {"from_utc_ms": -5},
    ],
    ids=repr,
)
def test_a_bad_summary_is_refused_by_itself(bad: Any) -> None:
    cloud = Cloud().started()
    told(cloud, bad, GOOD)
    assert len(cloud.table("node_events")) <= 1
    assert "message.rejected" in cloud.kinds()


def test_a_report_without_a_list_of_summaries_is_acknowledged_and_refused() -> None:
    cloud = Cloud().started()
    cloud.say("gateway-01", "status", v=1, item="gateway-01-1-r2", status="summary", stats={"a": 1})
    assert "message.rejected" in cloud.kinds()
    assert "gateway-01-1-r2" in cloud.acks()
