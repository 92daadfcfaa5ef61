"""Which nodes a rule about a group, a site or the fleet is about, and what follows when that changes."""

from typing import Any

import pytest

from fleet.wire.expression import parse
from tests.fleet_core.rig import Cloud

WARM = {"name": "warm", "when": parse("any(group: pumps, temp > 30)"), "action": "notify"}
AT_OFFICE = WARM | {"when": parse("any(site: office, temp > 30)")}
TOGETHER = WARM | {"when": parse("temp > 30 and any(group: pumps, temp > 40)")}
MIN_MS = 60_000


def with_rules(*rules: dict[str, Any]) -> Cloud:
    cloud = Cloud()
    cloud.rules = list(rules)
    cloud.started().forget()
    return cloud


def do(cloud: Cloud, method: Any, *args: Any) -> None:
    method(*args, cloud.now_ms)
    cloud.pump()
    cloud.later(1)


def pumps(cloud: Cloud, *nodes: str) -> None:
    do(cloud, cloud.core.places.put_group, "pumps", {"title": "", "nodes": list(nodes)})


def states(cloud: Cloud) -> list[str]:
    return [row["state"] for row in cloud.core.alert_views()]


def test_a_rule_about_a_group_is_about_the_nodes_that_the_operator_put_into_it() -> None:
    cloud = with_rules(WARM)
    pumps(cloud, "sensor-02", "sensor-01")
    cloud.batch("b-1", cloud.reading(31, 0))
    assert states(cloud) == ["raised"]


def test_a_node_that_comes_into_a_group_or_leaves_it_counts_at_once() -> None:
    cloud = with_rules(WARM)
    cloud.batch("b-1", cloud.reading(31, 0))
    assert states(cloud) == []
    pumps(cloud, "sensor-01")
    assert states(cloud) == ["raised"], "its latest value counts; no other reading is needed"
    pumps(cloud, "sensor-02")
    cloud.batch("b-2", cloud.reading(20, 0, node="sensor-02"))
    assert states(cloud) == ["cleared"]


def test_a_group_that_is_forgotten_holds_nobody() -> None:
    cloud = with_rules(WARM)
    pumps(cloud, "sensor-01", "sensor-02")
    cloud.batch("b-1", cloud.reading(20, 0), cloud.reading(31, 0, node="sensor-02"))
    do(cloud, cloud.core.places.drop_group, "pumps")
    pumps(cloud, "sensor-01")
    assert states(cloud) == ["cleared"]


def test_nodes_that_look_at_a_group_are_judged_anew_when_its_nodes_change() -> None:
    cloud = with_rules(TOGETHER)
    cloud.batch("b-1", cloud.reading(31, 0), cloud.reading(50, 0, node="sensor-02"))
    assert states(cloud) == []
    pumps(cloud, "sensor-02")
    assert sorted(row["node"] for row in cloud.core.alert_views()) == ["sensor-01", "sensor-02"]


def test_a_group_change_that_the_database_refused_changes_no_alert() -> None:
    cloud = with_rules(WARM)
    cloud.batch("b-1", cloud.reading(31, 0))
    cloud.refuse_stores = True
    pumps(cloud, "sensor-01")
    cloud.refuse_stores = False
    cloud.alive_for(MIN_MS)
    assert states(cloud) == []


def test_a_node_that_leaves_the_fleet_counts_for_no_scope() -> None:
    cloud = with_rules(AT_OFFICE, WARM | {"name": "everywhere", "when": parse("all(fleet, temp < 25)")})
    cloud.batch("b-1", cloud.reading(31, 0), cloud.reading(20, 0, node="sensor-02"))
    assert [row["rule"] for row in cloud.core.alert_views()] == ["warm"]
    do(cloud, cloud.core.members.decommission, "sensor-01")
    found = {row["rule"]: row["state"] for row in cloud.core.alert_views()}
    assert found == {"warm": "cleared", "everywhere": "raised"}, "who is left decides"


def test_a_node_that_moves_to_another_site_counts_there() -> None:
    cloud = with_rules(AT_OFFICE)
    cloud.batch("b-1", cloud.reading(31, 0), cloud.reading(20, 0, node="sensor-02"))
    assert states(cloud) == ["raised"]
    do(cloud, cloud.core.members.move, "sensor-01", "gateway-09", None)
    assert states(cloud) == ["cleared"]


@pytest.mark.parametrize("condition", ["absent(temp, 10 min)", "temp > 30 for 1 min", "not temp < 30"])
def test_what_is_open_about_a_node_ends_when_it_leaves_the_fleet(condition: str) -> None:
    cloud = with_rules(WARM | {"when": parse(condition)})
    cloud.batch("b-1", cloud.reading(31, 0))
    cloud.alive_for(12 * MIN_MS)
    assert states(cloud) == ["raised"]
    do(cloud, cloud.core.members.decommission, "sensor-01")
    assert states(cloud) == ["cleared"]
    assert [event["rule"] for event in cloud.events("alert.cleared")] == ["warm"], "and it is said"


def test_what_was_on_its_way_about_a_node_never_comes_once_it_left_the_fleet() -> None:
    cloud = with_rules(WARM | {"when": parse("temp > 30 for 5 min")})
    cloud.batch("b-1", cloud.reading(31, 0))
    assert len(cloud.table("pending")) == 1
    do(cloud, cloud.core.members.decommission, "sensor-01")
    cloud.alive_for(10 * MIN_MS)
    assert (cloud.table("pending"), states(cloud)) == ({}, [])
