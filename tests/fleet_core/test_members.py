"""The life of a node in the core: added, replaced, moved, stolen, decommissioned, configured."""

from typing import Any

import orjson
import pytest

from fleet.core.errors import Conflict, Unknown
from fleet.wire import snapshot
from tests.fleet_core.rig import KEYS, Cloud

NEW_KEY = "ab" * 32


def newcomer(node: str = "sensor-07", **changes: Any) -> dict[str, Any]:
    found = {"id": node, "type": "microclaw", "gateway": "gateway-01", "site": None, "key": NEW_KEY}
    return found | {"hardware": None, "capabilities": [], "metadata": {}} | changes


def pushed_keys(cloud: Cloud, gateway: str = "gateway-01") -> dict[str, bytes]:
    """The node keys in the snapshot that the gateway was sent last."""
    _, keys = snapshot.read(orjson.dumps(cloud.sent("config", gateway)[-1]), gateway, bytes.fromhex(KEYS[gateway]))
    return keys


def do(cloud: Cloud, method: str, *args: Any) -> Any:
    found = getattr(cloud.core.members, method)(*args, now_ms=cloud.now_ms)
    cloud.pump()
    return found


def test_an_added_nodes_key_reaches_its_sites_gateways_once_it_is_stored() -> None:
    cloud = Cloud().started()
    cloud.forget()
    cloud.hold_stores = True
    do(cloud, "add_node", newcomer())
    assert cloud.sent("config") == []
    cloud.finish_stores()
    assert pushed_keys(cloud)["sensor-07"] == bytes.fromhex(NEW_KEY)
    assert cloud.table("nodes")["sensor-07"]["doc"]["site"] == "office"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"id": "sensor-01"}, Conflict),
        ({"id": "gateway-01"}, Conflict),
        ({"id": "No"}, ValueError),
        ({"gateway": "gateway-99"}, Conflict),
        ({"site": "farm"}, Conflict),
        ({"gateway": None}, ValueError),
    ],
)
def test_a_node_that_does_not_go_with_the_fleet_is_refused(change: dict[str, Any], error: type[Exception]) -> None:
    cloud = Cloud().started()
    before = dict(cloud.table("nodes"))
    with pytest.raises(error):
        do(cloud, "add_node", newcomer(**change))
    assert cloud.table("nodes") == before


def test_a_change_that_is_not_stored_is_taken_back() -> None:
    cloud = Cloud().started()
    cloud.refuse_stores = True
    do(cloud, "add_node", newcomer())
    do(cloud, "decommission", "sensor-01")
    assert "sensor-07" not in cloud.core.registry.nodes and "sensor-01" in cloud.core.registry.nodes
    assert not cloud.core.members.is_settled("sensor-01")


def test_a_new_board_has_the_old_id_and_another_key_and_counts_its_joins_anew() -> None:
    cloud = Cloud().started()
    cloud.status("sensor-01", "up", attach=9)
    do(cloud, "replace", "sensor-01", NEW_KEY, {"chip": "RP2040"})
    assert pushed_keys(cloud)["sensor-01"] == bytes.fromhex(NEW_KEY)
    assert cloud.core.node_view("sensor-01")["hardware"] == {"chip": "RP2040"}
    cloud.status("sensor-01", "up", attach=1)
    assert cloud.state("sensor-01") == "up"


def test_a_stolen_nodes_key_leaves_the_snapshots_at_once_and_its_commands_fail() -> None:
    cloud = Cloud().started()
    row = cloud.restart()
    do(cloud, "mark_stolen", "sensor-01")
    assert set(pushed_keys(cloud)) == {"sensor-02"}
    assert cloud.core.command_view(row["id"])["state"] == "failed"
    assert cloud.table("commands")[row["id"]]["doc"]["reason"] == "the node is marked stolen"
    with pytest.raises(Conflict):
        do(cloud, "desire", "sensor-01", {"interval_s": 5}, "alice")
    do(cloud, "replace", "sensor-01", NEW_KEY, None)
    assert not cloud.core.node_view("sensor-01")["stolen"] and set(pushed_keys(cloud)) == {"sensor-01", "sensor-02"}


def test_a_node_moved_to_another_site_is_out_of_its_old_gateways_reach() -> None:
    cloud = Cloud().started()
    cloud.heartbeat("gateway-09")
    do(cloud, "move", "sensor-01", "gateway-09", None)
    assert set(pushed_keys(cloud)) == {"sensor-02"} and set(pushed_keys(cloud, "gateway-09")) == {"sensor-01"}
    cloud.forget()
    cloud.restart()
    assert cloud.sent("cmd") == [] and len(cloud.sent("cmd", "gateway-09")) == 1


def test_a_node_moved_within_its_site_stays_where_it_is_until_it_joins_its_new_home() -> None:
    cloud = Cloud().started()
    do(cloud, "move", "sensor-01", "gateway-02", None)
    view = cloud.core.node_view("sensor-01")
    assert (view["home"], view["gateway"]) == ("gateway-02", "gateway-01")
    cloud.status("sensor-01", "up", gateway="gateway-02", attach=2)
    assert cloud.core.node_view("sensor-01")["gateway"] == "gateway-02"


def test_a_decommissioned_node_is_gone_with_all_that_was_open_about_it() -> None:
    cloud = Cloud().started()
    cloud.batch("b-1", cloud.reading(40.0, 1))
    cloud.core.places.put_group("doors", {"title": "", "nodes": ["sensor-01", "sensor-02"]}, cloud.now_ms)
    row = cloud.restart()
    do(cloud, "decommission", "sensor-01")
    assert set(pushed_keys(cloud)) == {"sensor-02"}
    assert cloud.core.command_view(row["id"])["state"] == "failed"
    assert [alert["state"] for alert in cloud.core.alert_views()] == ["cleared"]
    assert cloud.core.places.groups["doors"]["doc"]["nodes"] == ["sensor-02"]
    with pytest.raises(Unknown):
        do(cloud, "decommission", "sensor-01")


def test_what_still_arrives_of_a_decommissioned_node_is_stored_and_brings_it_not_back() -> None:
    cloud = Cloud().started()
    do(cloud, "decommission", "sensor-01")
    cloud.batch("b-1", cloud.reading(20.0, 1))
    assert "b-1" in cloud.acks() and len(cloud.rows()) == 1
    assert "sensor-01" not in cloud.core.registry.nodes
    do(cloud, "add_node", newcomer("sensor-01"))
    assert "sensor-01" in cloud.core.registry.nodes and cloud.table("retired") == {}


def test_a_desired_configuration_is_sent_and_reported_by_its_acknowledgement() -> None:
    cloud = Cloud().started()
    do(cloud, "desire", "sensor-01", {"interval_s": 5}, "alice")
    (command,) = cloud.sent("cmd")
    assert (command["action"], command["params"]) == ("config", {"interval_s": 5})
    assert cloud.core.node_view("sensor-01").get("reported") is None
    cloud.say("gateway-01", "ack", id=command["id"], target="sensor-01", status="done")
    assert cloud.core.node_view("sensor-01")["reported"] == {"interval_s": 5}
    assert cloud.table("nodes")["sensor-01"]["doc"]["desired"]["values"] == {"interval_s": 5}


def test_an_empty_site_can_be_forgotten_and_no_other() -> None:
    cloud = Cloud().started()
    places = cloud.core.places
    assert places.put_site("attic", {"title": "Attic"}, 0) and not places.put_site("attic", {"title": "Loft"}, 0)
    cloud.pump()
    assert [(view["id"], view["nodes"]) for view in places.site_views()] == [("attic", 0), ("farm", 0), ("office", 2)]
    with pytest.raises(Conflict):
        places.drop_site("office", 0)
    places.drop_site("attic", 0)
    cloud.pump()
    assert cloud.table("sites") == {}
    with pytest.raises(Unknown):
        places.drop_site("attic", 0)


def test_a_group_has_only_nodes_that_there_are() -> None:
    cloud = Cloud().started()
    with pytest.raises(Conflict, match="stranger"):
        cloud.core.places.put_group("doors", {"nodes": ["stranger"]}, 0)
    with pytest.raises(Unknown):
        cloud.core.places.drop_group("doors", 0)


def test_who_acknowledged_an_alert_first_is_kept() -> None:
    cloud = Cloud().started()
    cloud.batch("b-1", cloud.reading(40.0, 1))
    (alert,) = cloud.core.alert_views()
    for name in ("alice", "bob"):
        cloud.core.acknowledge_alert(alert["id"], name, cloud.now_ms)
        cloud.pump()
    assert cloud.table("alerts")[alert["id"]]["doc"]["acknowledged_by"] == "alice"
    assert [event["by"] for event in cloud.events("alert.acknowledged")] == ["alice"]
    with pytest.raises(Unknown):
        cloud.core.acknowledge_alert("no-such", "alice", 0)


def test_rules_changed_by_hand_are_settled_and_their_alerts_end_with_them() -> None:
    cloud = Cloud().started()
    cloud.batch("b-1", cloud.reading(40.0, 1))
    configuration = cloud.core.configuration
    rule = cloud.core.alerts.rules["hot"] | {"name": "hotter"}
    assert configuration.put_rule(rule, cloud.now_ms) and not configuration.put_rule(rule, cloud.now_ms)
    configuration.drop_rule("hot", cloud.now_ms)
    cloud.pump()
    assert list(cloud.table("rules")) == ["hotter"] and cloud.table("slots")["rules"]["doc"] == {"managed": True}
    assert [alert["state"] for alert in cloud.core.alert_views()] == ["cleared"]
    with pytest.raises(Unknown):
        configuration.drop_rule("hot", cloud.now_ms)
