"""Gateways and nodes as the cloud sees them, who belongs where, and the configuration that is pushed."""

import pytest
from hypothesis import given

from fleet.wire import snapshot, uplink
from tests.fleet_core.rig import BOOT, HOT, KEYS, QUIET_MS, Cloud, Connect, Disconnect, Notify, Send
from tests.wire.strategies import IDS


def commands_to(cloud: Cloud, gateway: str) -> list[dict[str, object]]:
    found = {str(command["id"]): command for command in cloud.sent("cmd", gateway)}
    return list(found.values())


def test_a_heartbeat_is_answered_with_its_number() -> None:
    cloud = Cloud().started()
    cloud.forget()
    cloud.say("gateway-01", "heartbeat", n=41, config=cloud.core.config_version)
    assert [answer["n"] for answer in cloud.sent("heartbeat/ack")] == [41]


def test_a_gateway_is_down_after_180_seconds_of_silence_and_not_a_millisecond_earlier() -> None:
    cloud = Cloud().started()
    cloud.status("sensor-01", "up")
    cloud.status("sensor-02", "down")
    cloud.later(QUIET_MS)
    cloud.forget()
    cloud.at(180_000)
    assert cloud.kinds("gateway.down") == []
    cloud.at(180_001)
    assert cloud.events("gateway.down") == [{"gateway": "gateway-01", "silent_ms": 180_001}]
    assert cloud.events("node.unknown") == [{"node": "sensor-01", "gateway": "gateway-01"}]
    assert (cloud.state("sensor-01"), cloud.state("sensor-02")) == ("unknown", "down"), "what is down stays down"
    cloud.later(QUIET_MS)
    assert [notify.subject for notify in cloud.of(Notify)] == ["gateway gateway-01 is down"]


def test_any_word_of_a_gateway_is_a_sign_of_life() -> None:
    cloud = Cloud().started()
    cloud.at(170_000)
    cloud.batch("b-1", cloud.reading(21.0, 0))
    cloud.at(170_000 + 180_000)
    assert cloud.kinds("gateway.down") == []


def test_a_gateway_that_returns_is_up_and_its_nodes_are_known_when_they_are_heard_of() -> None:
    cloud = Cloud().started()
    cloud.status("sensor-01", "up")
    cloud.at(400_000)
    cloud.heartbeat()
    (up,) = cloud.events("gateway.up")
    assert up["gateway"] == "gateway-01" and up["down_ms"] == 400_000
    assert cloud.state("sensor-01") == "unknown"
    cloud.batch("b-1", cloud.reading(21.0, 0))
    assert cloud.state("sensor-01") == "up"


def test_a_late_reading_does_not_prove_a_node_alive() -> None:
    cloud = Cloud().started()
    cloud.status("sensor-01", "up")
    cloud.at(400_000)
    cloud.heartbeat()
    cloud.batch("b-1", cloud.reading(21.0, 0, age_ms=200_000))
    assert cloud.state("sensor-01") == "unknown"


def test_people_are_told_of_a_node_that_is_down_and_back_once_each() -> None:
    cloud = Cloud().started()
    cloud.forget()
    for status in ("up", "down", "down", "up", "up"):
        cloud.status("sensor-01", status)
    cloud.later(QUIET_MS)
    assert [notify.subject for notify in cloud.of(Notify)] == ["node sensor-01 is down", "node sensor-01 is back"]
    assert len(cloud.acks()) == 5


def test_the_state_of_a_node_survives_a_restart() -> None:
    cloud = Cloud().started()
    cloud.status("sensor-01", "down")
    cloud.power_on()
    assert cloud.state("sensor-01") == "down"


def test_a_gateway_that_was_up_when_the_server_stopped_is_given_the_whole_time_again() -> None:
    cloud = Cloud().started()
    cloud.at(100_000)
    cloud.power_on()
    cloud.forget()
    cloud.at(280_000)
    assert cloud.kinds("gateway.down") == []
    cloud.at(280_001)
    assert cloud.kinds("gateway.down") == ["gateway.down"]


def test_a_node_belongs_to_the_gateway_with_the_highest_join_count_and_the_other_is_told_to_let_go() -> None:
    cloud = Cloud().started()
    cloud.heartbeat("gateway-02")
    cloud.status("sensor-01", "up", attach=1)
    cloud.status("sensor-01", "up", gateway="gateway-02", attach=2)
    assert cloud.core.node_view("sensor-01")["gateway"] == "gateway-02"
    (release,) = commands_to(cloud, "gateway-01")
    assert (release["action"], release["params"]) == ("release", {"node": "sensor-01", "attach": 2})
    row = cloud.restart()
    assert row["id"] in [command["id"] for command in commands_to(cloud, "gateway-02")]


def test_an_older_join_is_not_believed_and_its_gateway_is_told_to_let_go() -> None:
    cloud = Cloud().started()
    cloud.heartbeat("gateway-02")
    cloud.status("sensor-01", "up", gateway="gateway-02", attach=5)
    cloud.status("sensor-01", "down", gateway="gateway-01", attach=4)
    assert cloud.core.node_view("sensor-01")["gateway"] == "gateway-02"
    assert cloud.state("sensor-01") == "up"
    assert {"node": "sensor-01", "attach": 5} in [command["params"] for command in commands_to(cloud, "gateway-01")]
    assert len(cloud.acks("gateway-01")) == 1


def test_a_dead_gateway_is_told_to_let_go_when_it_returns() -> None:
    cloud = Cloud().started()
    cloud.status("sensor-01", "up", attach=1)
    cloud.alive_for(200_000, "gateway-02")
    cloud.status("sensor-01", "up", gateway="gateway-02", attach=2)
    cloud.alive_for(3_600_000, "gateway-02")
    assert commands_to(cloud, "gateway-01") == []
    cloud.heartbeat("gateway-01")
    cloud.later(0)
    assert [command["action"] for command in commands_to(cloud, "gateway-01")] == ["release"]


def test_a_gateway_of_another_site_cannot_adopt_a_node_nor_speak_for_it() -> None:
    cloud = Cloud().started()
    cloud.status("sensor-01", "up")
    cloud.forget()
    cloud.status("sensor-01", "down", gateway="gateway-09", attach=9)
    assert cloud.core.node_view("sensor-01")["gateway"] == "gateway-01" and cloud.state("sensor-01") == "up"
    assert "message.rejected" in cloud.kinds()
    assert len(cloud.acks("gateway-09")) == 1, "or it would come again for ever"


def test_a_report_about_nobody_known_is_rejected_and_acknowledged() -> None:
    cloud = Cloud().started()
    cloud.forget()
    cloud.status("stranger", "up")
    assert "message.rejected" in cloud.kinds() and len(cloud.acks()) == 1


def test_a_node_nobody_registered_is_listed_when_a_gateway_reports_its_readings() -> None:
    cloud = Cloud().started()
    cloud.batch("b-1", cloud.reading(21.0, 0, node="new-one"))
    assert cloud.core.node_view("new-one")["gateway"] == "gateway-01"


def test_a_status_that_the_database_refused_is_not_acknowledged_and_counts_when_it_comes_again() -> None:
    cloud = Cloud().started()
    cloud.status("sensor-01", "up")
    cloud.refuse_stores = True
    cloud.forget()
    cloud.status("sensor-01", "down")
    cloud.later(QUIET_MS)
    assert cloud.acks() == [] and cloud.of(Notify) == []
    cloud.refuse_stores = False
    cloud.status("sensor-01", "down")
    cloud.later(QUIET_MS)
    assert len(cloud.acks()) == 1 and len(cloud.of(Notify)) == 1


def test_a_gateway_that_falls_silent_while_the_database_refuses_is_reported_when_it_works_again() -> None:
    cloud = Cloud().started()
    cloud.refuse_stores = True
    cloud.forget()
    cloud.at(200_000)
    assert cloud.of(Notify) == []
    cloud.refuse_stores = False
    cloud.later(200_000)
    assert [notify.subject for notify in cloud.of(Notify)] == ["gateway gateway-01 is down"]
    assert cloud.table("gateways")["gateway-01"]["doc"]["state"] == "down"


# --- configuration --------------------------------------------------------------------------------------------------


def test_a_gateway_that_lacks_the_configuration_is_given_it_at_each_heartbeat_until_it_has_it() -> None:
    cloud = Cloud().power_on()
    for _ in range(3):
        cloud.heartbeat(config=0)
    assert len(cloud.sent("config")) == 3
    cloud.forget()
    cloud.heartbeat()
    assert cloud.sent("config") == []


def test_what_is_pushed_opens_for_that_gateway_and_holds_its_sites_nodes_only() -> None:
    cloud = Cloud().power_on()
    for gateway, nodes in (("gateway-01", {"sensor-01", "sensor-02"}), ("gateway-09", set[str]())):
        cloud.heartbeat(gateway, config=0)
        (pushed,) = cloud.sent("config", gateway)
        found, keys = snapshot.read(uplink.encode(pushed), gateway, bytes.fromhex(KEYS[gateway]))
        assert keys.keys() == nodes and found["rules"] == [HOT]
        assert all(keys[node].hex() == KEYS[node] for node in nodes)


def test_a_change_goes_to_the_gateways_that_are_there_with_a_higher_version() -> None:
    cloud = Cloud().started()
    before = cloud.core.config_version
    cloud.forget()
    cloud.core.set_rules([HOT | {"name": "hotter"}], cloud.now_ms)
    cloud.pump()
    (pushed,) = cloud.sent("config")
    assert pushed["version"] > before and cloud.sent("config", "gateway-02") == []


def test_a_change_is_sent_to_no_gateway_before_it_is_committed() -> None:
    cloud = Cloud().started()
    cloud.forget()
    cloud.hold_stores = True
    cloud.core.set_rules([HOT | {"name": "hotter"}], cloud.now_ms)
    cloud.pump()
    cloud.heartbeat(config=0)
    assert cloud.sent("config") == []
    cloud.finish_stores()
    assert [pushed["rules"][0]["name"] for pushed in cloud.sent("config")] == ["hotter"]


def test_a_change_that_the_database_refused_is_stored_and_sent_when_it_works_again() -> None:
    cloud = Cloud().started()
    cloud.refuse_stores = True
    cloud.core.set_rules([HOT | {"name": "hotter"}], cloud.now_ms)
    cloud.pump()
    cloud.core.set_rules([HOT | {"name": "hottest"}], cloud.now_ms)
    cloud.pump()
    assert cloud.sent("config") == [] and list(cloud.table("rules")) == ["hot"]
    cloud.refuse_stores = False
    cloud.later(10_000)
    assert {pushed["rules"][0]["name"] for pushed in cloud.sent("config")} == {"hottest"}
    assert list(cloud.table("rules")) == ["hottest"]
    assert cloud.table("slots")["config"]["doc"]["version"] == cloud.core.config_version


def test_a_refused_change_does_not_overwrite_a_later_one_that_was_taken() -> None:
    cloud = Cloud().started()
    cloud.refuse_stores = True
    cloud.core.set_rules([HOT | {"name": "hotter"}], cloud.now_ms)
    cloud.pump()
    cloud.refuse_stores = False
    cloud.core.set_rules([HOT | {"name": "hottest"}], cloud.now_ms)
    cloud.pump()
    cloud.later(10_000)
    assert list(cloud.table("rules")) == ["hottest"]
    assert cloud.table("slots")["config"]["doc"]["version"] == cloud.core.config_version


def test_a_gateway_is_said_to_be_down_and_up_once_that_is_committed() -> None:
    cloud = Cloud().started()
    cloud.hold_stores = True
    cloud.forget()
    cloud.at(200_000)
    assert cloud.kinds("gateway.down", "node.unknown") == []
    cloud.finish_stores()
    assert cloud.kinds("gateway.down") == ["gateway.down"]
    cloud.hold_stores = True
    cloud.status("sensor-01", "up")
    assert cloud.kinds("gateway.up") == []
    cloud.finish_stores()
    assert cloud.kinds("gateway.up") == ["gateway.up"], "any message of a gateway shows that it is there"


def test_the_same_inventory_again_changes_no_version() -> None:
    cloud = Cloud().started()
    before = cloud.core.config_version
    cloud.later(10_000)
    cloud.power_on()
    assert cloud.core.config_version == before


def test_a_version_is_never_used_twice_even_after_the_database_was_lost() -> None:
    cloud = Cloud().started()
    before = cloud.core.config_version
    cloud.later(60_000)
    fresh = Cloud()
    fresh.now_ms = cloud.now_ms
    assert fresh.power_on().core.config_version > before


def test_no_nonce_is_used_twice_under_one_key() -> None:
    cloud = Cloud().power_on()
    for _ in range(20):
        cloud.heartbeat(config=0)
    nonces = [pushed["sealed_keys"][: 2 * snapshot.NONCE_BYTES] for pushed in cloud.sent("config")]
    assert len(set(nonces)) == 20


@pytest.mark.parametrize(
    "entry", [{"id": "Bad Id"}, {"id": "sensor-01"}, {"key": "00"}, {"key": "zz" * 32}, {"key": None}]
)
def test_a_wrong_entry_of_the_inventory_is_refused_with_words(entry: dict[str, object]) -> None:
    cloud = Cloud().started()
    with pytest.raises(ValueError, match=r"\w"):
        cloud.core.add_gateway({"id": "gateway-03", "key": "ab" * 32} | entry, cloud.now_ms)
    assert "gateway-03" not in [view["id"] for view in cloud.core.gateway_views()]


def test_no_view_shows_a_key() -> None:
    cloud = Cloud().started()
    text = repr([cloud.core.node_views(), cloud.core.gateway_views(), cloud.core.alert_views()])
    assert not any(key in text for key in KEYS.values())


@given(IDS)
def test_any_valid_id_can_be_registered_once(node: str) -> None:
    cloud = Cloud().power_on()
    entry = {"id": node, "site": "office", "gateway": "gateway-01", "key": "ab" * 32}
    if node in KEYS:
        return
    cloud.core.add_node(entry, 0)
    with pytest.raises(ValueError, match=node):
        cloud.core.add_gateway({"id": node, "key": "cd" * 32}, 0)


# --- the hub --------------------------------------------------------------------------------------------------------


def test_the_hub_is_dialled_again_with_growing_delays_and_a_hanging_attempt_is_given_up() -> None:
    cloud = Cloud().power_on()
    cloud.core.link_down("hub", 0)
    cloud.forget()
    cloud.at(120_000)
    assert len(cloud.of(Connect)) >= 3 and len(cloud.of(Disconnect)) >= 2, "attempts that hang are given up"


def test_what_arrives_is_answered_on_the_senders_own_topics_only() -> None:
    cloud = Cloud().started()
    cloud.forget()
    cloud.batch("b-1", cloud.reading(21.0, 0, boot=BOOT + 1), gateway="gateway-02")
    assert {send.topic for send in cloud.of(Send)} == {"clawland/gateway-02/batch/ack"}


def test_a_hub_on_which_no_gateway_says_anything_is_dialled_anew() -> None:
    """A hub that lost its power says no goodbye: the connection is dead and looks alive."""
    cloud = Cloud().started()
    cloud.at(100_000)
    assert not cloud.of(Disconnect)
    cloud.forget()
    cloud.at(300_000)
    assert [type(o) for o in cloud.outputs if isinstance(o, Connect | Disconnect)][:2] == [Disconnect, Connect]


def test_a_hub_on_which_gateways_speak_is_left_alone() -> None:
    cloud = Cloud().started()
    cloud.forget()
    cloud.alive_for(600_000)
    assert not cloud.of(Disconnect) and not cloud.of(Connect)


LINES = [
    {"name": "ethernet", "state": "down", "used": False},
    {"name": "4g", "state": "up", "used": True, "spent_bytes": 7, "daily_bytes": 50_000_000, "batch_ms": 60_000},
]


def test_which_uplink_a_gateway_uses_and_what_it_has_carried_today_is_shown() -> None:
    cloud = Cloud().started()
    cloud.say("gateway-01", "heartbeat", n=1, config=cloud.core.config_version, uplinks=LINES)
    (view,) = [view for view in cloud.core.gateway_views() if view["id"] == "gateway-01"]
    assert view["health"]["uplinks"] == LINES


@pytest.mark.parametrize(
    "uplinks",
    ["4g", [7], [{"name": "4g"}], [LINES[1] | {"spent_bytes": -1}], LINES * 5],
    ids=["no list", "no object", "no state", "negative", "too many"],
)
def test_uplinks_that_make_no_sense_are_a_counted_rejection(uplinks: object) -> None:
    cloud = Cloud().started()
    cloud.forget()
    cloud.say("gateway-01", "heartbeat", n=1, config=cloud.core.config_version, uplinks=uplinks)
    assert cloud.kinds("message.rejected") == ["message.rejected"]


def test_an_outbox_that_a_gateway_could_not_read_is_told_to_people_once() -> None:
    cloud = Cloud().started()
    for n in range(3):
        cloud.say("gateway-01", "heartbeat", n=n + 1, config=cloud.core.config_version, outbox_broken=1)
    cloud.later(QUIET_MS)
    assert cloud.events("outbox.broken") == [{"gateway": "gateway-01", "outboxes": 1}]
    assert [notify.subject for notify in cloud.of(Notify)] == ["gateway gateway-01 could not read its outbox"]
    (view,) = [view for view in cloud.core.gateway_views() if view["id"] == "gateway-01"]
    assert view["health"]["outbox_broken"] == 1
