"""Nodes that are heard by radio: several gateways hear them, and one that is named here answers."""

from fleet.wire import snapshot, uplink
from tests.fleet_core.rig import KEYS, Cloud


def answers(cloud: Cloud, gateway: str) -> list[str]:
    """Whom `gateway` was told to answer, last."""
    config = cloud.sent("config", gateway)[-1]
    found, _ = snapshot.read(uplink.encode(config), gateway, bytes.fromhex(KEYS[gateway]))
    return list(found["answers"])


def both_there() -> Cloud:
    """Both gateways of the site are up, and `sensor-01` is heard by radio by its home."""
    cloud = Cloud().started()
    for gateway in ("gateway-01", "gateway-02"):
        cloud.heartbeat(gateway, config=0)
    cloud.status("sensor-01", "up", attach=0, air=True)
    return cloud


def test_the_home_gateway_is_the_one_that_answers() -> None:
    cloud = both_there()
    assert answers(cloud, "gateway-01") == ["sensor-01", "sensor-02"]
    assert answers(cloud, "gateway-02") == []


def test_a_node_without_a_home_is_answered_by_the_first_gateway_of_its_site_that_is_no_stand_by() -> None:
    cloud = Cloud().started()
    cloud.core.add_gateway({"id": "gateway-00", "site": "office", "role": "secondary", "key": KEYS["gateway-01"]}, 0)
    for node in ("sensor-01", "sensor-02"):
        cloud.core.add_node({"id": node, "site": "office", "key": KEYS[node]}, cloud.now_ms)
    assert cloud.core.air.answered_by("gateway-01") == ["sensor-01", "sensor-02"]
    assert cloud.core.air.answered_by("gateway-00") == cloud.core.air.answered_by("gateway-02") == []
    assert cloud.core.air.answered_by("gateway-09") == [], "another site"


def test_what_a_gateway_says_of_a_node_that_it_was_not_named_for_changes_nothing() -> None:
    cloud = both_there()
    cloud.status("sensor-01", "down", gateway="gateway-02", attach=0, air=True)
    assert cloud.state("sensor-01") == "up"
    assert not cloud.sent("cmd", "gateway-02"), "and nobody is told to let go"


def test_while_its_gateway_is_down_a_node_is_answered_by_the_gateway_that_hears_it() -> None:
    cloud = both_there()
    cloud.at(200_000)
    cloud.heartbeat("gateway-02")
    assert cloud.state("sensor-01") == "unknown"
    cloud.forget()
    cloud.batch("b-1", cloud.reading(21.0, 0), gateway="gateway-02")
    assert cloud.events("node.answered-by") == [{"node": "sensor-01", "gateway": "gateway-02"}]
    assert answers(cloud, "gateway-02") == ["sensor-01"]
    command = cloud.restart()
    assert [each["id"] for each in cloud.sent("cmd", "gateway-02")] == [command["id"]]


def test_a_gateway_that_is_back_answers_its_nodes_again() -> None:
    cloud = both_there()
    cloud.at(200_000)
    cloud.heartbeat("gateway-02")
    cloud.batch("b-1", cloud.reading(21.0, 0), gateway="gateway-02")
    cloud.forget()
    cloud.heartbeat("gateway-01")
    assert cloud.events("node.answered-by") == [{"node": "sensor-01", "gateway": "gateway-01"}]
    assert answers(cloud, "gateway-01") == ["sensor-01", "sensor-02"]
    assert answers(cloud, "gateway-02") == []


def test_who_answers_survives_a_restart_of_the_manager() -> None:
    cloud = both_there()
    cloud.at(200_000)
    cloud.heartbeat("gateway-02")
    cloud.batch("b-1", cloud.reading(21.0, 0), gateway="gateway-02")
    again = Cloud(cloud.database)
    again.now_ms = cloud.now_ms
    again.power_on()
    assert again.core.air.answered_by("gateway-02") == ["sensor-01"]


def test_a_node_with_a_connection_is_not_named_for_where_its_readings_come_by() -> None:
    cloud = Cloud().started()
    cloud.heartbeat("gateway-02")
    cloud.status("sensor-01", "up", attach=1)
    cloud.at(200_000)
    cloud.heartbeat("gateway-02")
    cloud.batch("b-1", cloud.reading(21.0, 0), gateway="gateway-02")
    assert not cloud.events("node.answered-by")


def test_a_node_that_has_a_connection_again_is_not_of_the_air_any_more() -> None:
    cloud = both_there()
    cloud.status("sensor-01", "up", attach=1)
    cloud.at(200_000)
    cloud.heartbeat("gateway-02")
    cloud.batch("b-1", cloud.reading(21.0, 0), gateway="gateway-02")
    assert not cloud.events("node.answered-by")


def test_a_node_that_moves_inside_its_site_is_answered_by_its_new_home_at_once() -> None:
    cloud = both_there()
    cloud.core.members.move("sensor-01", "gateway-02", None, cloud.now_ms)
    cloud.pump()
    assert answers(cloud, "gateway-02") == ["sensor-01"]
    cloud.status("sensor-01", "up", gateway="gateway-02", attach=0, air=True)
    command = cloud.restart()
    assert [each["id"] for each in cloud.sent("cmd", "gateway-02")] == [command["id"]]
