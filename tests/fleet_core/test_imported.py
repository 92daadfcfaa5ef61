"""What gateways decided alone and did alone, taken over by the fleet manager: once, and repeated by nobody."""

from typing import Any

import orjson
import pytest

from firmware.wire.outputs import Notify
from fleet.wire import snapshot, uplink
from fleet.wire.expression import parse
from fleet.wire.rule import ALL
from tests.fleet_core.rig import BOOT, EPOCH_MS, HOT, KEYS, QUIET_MS, Cloud

MIN_MS = 60_000
SILENT = {"name": "silent", "when": parse("absent(temp, 10 min)"), "clear": None, "action": "notify"}
BARN = {"name": "barn", "when": parse("any(site: office, temp > 30)"), "clear": None, "action": "notify"}
THEIRS = f"silent:sensor-01:{BOOT}:7"


def with_rules(*rules: dict[str, Any]) -> Cloud:
    cloud = Cloud()
    cloud.rules = list(rules)
    return cloud.started()


def told(cloud: Cloud, word: str) -> list[str]:
    cloud.later(QUIET_MS)
    return [notice.subject for notice in cloud.of(Notify) if word in notice.subject]


def decided(cloud: Cloud, status: str, alert: str, rule: str, gateway: str = "gateway-01", **more: Any) -> None:
    cloud._beats += 1
    said = {"item": f"{gateway}-r{cloud._beats}", "status": status, "alert": alert, "rule": rule, "value": 31}
    cloud.say(gateway, "status", **(said | {"utc_ms": EPOCH_MS + cloud.now_ms} | more))


def missed_here() -> tuple[Cloud, str]:
    """The cloud has missed a node by itself, while its gateway was away; and the name of that episode."""
    cloud = with_rules(SILENT)
    cloud.batch("b-1", cloud.reading(21, 5))
    cloud.later(11 * MIN_MS)
    (event,) = cloud.events("alert.raised")
    return cloud, event["id"]


def test_what_the_gateway_misses_under_another_name_is_the_same_matter_and_people_are_told_once() -> None:
    cloud, ours = missed_here()
    assert len(told(cloud, "silent")) == 1
    cloud.forget()
    decided(cloud, "alert-raised", THEIRS, "silent", sensor="sensor-01")
    assert told(cloud, "silent") == [] and len(cloud.acks()) == 1
    row = cloud.table("alerts")[ours]
    assert (row["state"], row["doc"]["also"]) == ("raised", [THEIRS]) and THEIRS not in cloud.table("alerts")


@pytest.mark.parametrize("restart", [False, True])
def test_it_ends_when_the_gateway_says_so_under_its_own_name(restart: bool) -> None:
    cloud, ours = missed_here()
    decided(cloud, "alert-raised", THEIRS, "silent", sensor="sensor-01")
    if restart:
        cloud.started()
    decided(cloud, "alert-cleared", THEIRS, "silent", sensor="sensor-01")
    assert cloud.table("alerts")[ours]["state"] == "cleared"
    cloud.later(10 * MIN_MS)
    assert list(cloud.table("alerts")) == [ours]


def test_the_end_of_what_nobody_was_told_of_is_no_alert() -> None:
    cloud = with_rules(SILENT)
    decided(cloud, "alert-cleared", THEIRS, "silent", sensor="sensor-01")
    assert cloud.table("alerts") == {} and len(cloud.acks()) == 1


def test_two_gateways_that_judge_a_part_of_one_scope_each_are_one_alert() -> None:
    cloud = with_rules(BARN)
    commands = [{"id": "gateway-01:1:1", "action": "identify", "target": "sensor-01"}]
    decided(cloud, "alert-raised", "barn:sensor-01:1:1", "barn", judged=1, members=2, commands=commands)
    decided(cloud, "alert-raised", "barn:sensor-02:1:1", "barn", gateway="gateway-02", judged=1, members=2)
    (notice,) = told(cloud, "barn")
    assert "site:office" in notice
    (row,) = cloud.table("alerts").values()
    assert (row["node"], row["doc"]["commands"], row["doc"]["members"]) == (None, commands, 2)
    assert "over 1 of 2 nodes" in next(n.body for n in cloud.of(Notify) if "barn" in n.subject)
    decided(cloud, "alert-cleared", "barn:sensor-02:1:1", "barn", gateway="gateway-02")
    assert row["state"] == "raised", "it may still be so in the other part"
    decided(cloud, "alert-cleared", "barn:sensor-01:1:1", "barn")
    assert next(iter(cloud.table("alerts").values()))["state"] == "cleared"


def test_an_episode_of_a_gateway_that_has_a_for_is_not_raised_again_by_the_cloud() -> None:
    cloud = with_rules(HOT | {"when": parse("temp > 30 for 3 min")})
    decided(cloud, "alert-raised", f"hot:sensor-01:{BOOT}:1", "hot", sensor="sensor-01")
    cloud.forget()
    for minute in range(6):
        cloud.batch(f"b-{minute}", cloud.reading(35, 10 + minute))
        cloud.alive_for(MIN_MS)
    assert cloud.kinds("alert.raised") == []
    cloud.batch("b-9", cloud.reading(20, 30))
    assert [event["id"] for event in cloud.events("alert.cleared")] == [f"hot:sensor-01:{BOOT}:1"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"rule": "silent"},
        {"rule": "nobody-knows"},
        {"sensor": "sensor-09"},
        {"sensor": 3},
        {"alert": "x" * 200},
        {"judged": -1},
        {"members": "all"},
        {"value": [1]},
        {"commands": {}},
        {"commands": [{"id": "c"}]},
        {"commands": [{"id": "c", "action": "x", "target": "t"}] * 101},
    ],
    ids=lambda wrong: str(wrong)[:40],
)
def test_a_decision_that_makes_no_sense_is_refused_counted_and_acknowledged(wrong: dict[str, Any]) -> None:
    cloud = with_rules(BARN, SILENT)
    cloud.forget()
    said = {"alert": "barn:x:1:1", "rule": "barn"} | wrong
    decided(cloud, "alert-raised", said.pop("alert"), said.pop("rule"), **said)
    assert cloud.kinds("message.rejected") == ["message.rejected"] and len(cloud.acks()) == 1
    assert cloud.table("alerts") == {}


# --- answers ----------------------------------------------------------------------------------------------------------


def test_the_answer_to_a_gateways_own_command_is_passed_back_to_that_gateway() -> None:
    cloud = with_rules()
    cloud.heartbeat("gateway-02")
    for _ in range(2):
        cloud.say("gateway-02", "ack", item="g-r1", id="gateway-01:2bc:7", target="sensor-01", status="done")
    (sent,) = cloud.sent("cmd")
    assert (sent["action"], sent["params"]) == (
        "answered",
        {"id": "gateway-01:2bc:7", "node": "sensor-01", "status": "done"},
    )
    assert len(cloud.acks("gateway-02")) == 2


@pytest.mark.parametrize("said", [{"id": "gateway-09:1:1"}, {"id": "nobody:1:1"}, {"target": "sensor-77"}], ids=str)
def test_answers_for_another_site_or_for_nobody_are_passed_on_to_nobody(said: dict[str, str]) -> None:
    cloud = with_rules()
    cloud.heartbeat("gateway-02")
    cloud.heartbeat("gateway-09")
    answer = {"item": "g-r1", "id": "gateway-01:2bc:7", "target": "sensor-01", "status": "done"}
    cloud.say("gateway-02", "ack", **(answer | said))
    assert cloud.sent("cmd") == cloud.sent("cmd", "gateway-09") == []


def test_a_commands_answer_arrives_through_another_gateway_and_after_a_restart() -> None:
    cloud = with_rules()
    row = cloud.restart(ttl_ms=10 * MIN_MS)
    assert len(cloud.sent("cmd")) == 1
    cloud.started()
    cloud.heartbeat("gateway-02")
    cloud.say("gateway-02", "ack", item="g-r1", id=row["id"], target="sensor-01", status="restarted")
    assert cloud.table("commands")[row["id"]]["state"] == "acknowledged"


# --- what gateways are told -------------------------------------------------------------------------------------------


def test_a_gateway_hears_which_others_of_its_site_are_up_and_for_how_long() -> None:
    cloud = with_rules()
    cloud.say("gateway-02", "heartbeat", n=1, mode="online", uptime_ms=5_000)
    cloud.say("gateway-09", "heartbeat", n=1, mode="online", uptime_ms=5_000)
    cloud.heartbeat("gateway-01")
    assert cloud.sent("heartbeat/ack")[-1]["up"] == {"gateway-02": 5_000}
    cloud.alive_for(130_000)
    assert "up" not in cloud.sent("heartbeat/ack")[-1], "it has been silent for too long to be counted upon"


def test_a_gateway_is_given_homes_groups_and_how_many_nodes_a_scope_has() -> None:
    cloud = with_rules(BARN, HOT)
    cloud.say("gateway-01", "heartbeat", n=2, config=0, capabilities=list(ALL))
    pushed = uplink.encode(cloud.sent("config")[-1])
    found, _ = snapshot.read(pushed, "gateway-01", bytes.fromhex(KEYS["gateway-01"]), frozenset(ALL))
    assert [rule["name"] for rule in found["rules"]] == ["barn", "hot"]
    assert found["places"]["homes"] == {"sensor-01": "gateway-01", "sensor-02": "gateway-01"}
    assert found["places"]["members"] == {"site:office": 2}


@pytest.mark.parametrize("wrong", [{"homes": []}, {"homes": {"a": 3}}, {"groups": {"a": "x"}}, {"members": {"a": -1}}])
def test_places_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    built = snapshot.build(1, [], {}, "gateway-01", b"g" * 32, bytes(12), places=wrong)
    with pytest.raises(uplink.Rejected, match="malformed"):
        snapshot.read(orjson.dumps(built), "gateway-01", b"g" * 32)


def test_a_configuration_that_a_gateway_cannot_take_is_not_sent_again_and_again_and_is_seen() -> None:
    cloud = with_rules(HOT)
    version, refused = cloud.core.config_version, {"version": cloud.core.config_version, "reason": "rule odd: no"}
    cloud.forget()
    for _ in range(3):
        cloud.say("gateway-01", "heartbeat", n=3, config=1, config_refused=refused)
    assert cloud.sent("config") == []
    view = next(view for view in cloud.core.gateway_views() if view["id"] == "gateway-01")
    assert view["health"]["config_refused"] == {"version": version, "reason": "rule odd: no"}
    cloud.core.set_rules([HOT | {"severity": "critical"}], cloud.now_ms)
    cloud.pump()
    assert len(cloud.sent("config")) == 1, "the next version is tried"


# --- readings that are still on their way -----------------------------------------------------------------------------


def test_readings_of_before_the_decision_neither_end_nor_repeat_it() -> None:
    cloud = with_rules(HOT | {"when": parse("temp > 30 for 1 min"), "clear": parse("temp < 29")})
    episode = f"hot:sensor-01:{BOOT}:3"
    decided(cloud, "alert-raised", episode, "hot", sensor="sensor-01", reading_utc_ms=EPOCH_MS + cloud.now_ms)
    cloud.forget()
    for seq, (value, age_ms) in enumerate(((20, 80_000), (35, 60_000), (35, 1_000))):
        cloud.batch(f"b-{seq}", cloud.reading(value, seq, age_ms=age_ms))
    assert cloud.kinds("alert.raised", "alert.cleared") == []
    assert cloud.table("alerts")[episode]["state"] == "raised"


def test_an_episode_about_several_nodes_waits_for_the_readings_of_all_of_them() -> None:
    both = BARN | {"name": "both", "when": parse("all(site: office, temp > 30)")}
    cloud = with_rules(both)
    cloud.batch("b-1", cloud.reading(20, 0), cloud.reading(20, 0, node="sensor-02"))
    decided(cloud, "alert-raised", "both:sensor-01:1:1", "both", judged=2, members=2)
    cloud.forget()
    cloud.batch("b-2", cloud.reading(35, 1))
    assert cloud.kinds("alert.raised", "alert.cleared") == [], "of the other node nothing has arrived yet"
    cloud.batch("b-3", cloud.reading(35, 1, node="sensor-02"))
    cloud.alive_for(5 * MIN_MS)
    assert cloud.kinds("alert.raised", "alert.cleared") == []


def test_it_ends_when_what_the_gateway_saw_should_have_arrived_and_did_not() -> None:
    cloud = with_rules(BARN)
    cloud.batch("b-1", cloud.reading(20, 0))
    decided(cloud, "alert-raised", "barn:sensor-01:1:1", "barn", judged=1, members=2)
    cloud.forget()
    cloud.batch("b-2", cloud.reading(20, 1))
    assert cloud.kinds("alert.cleared") == []
    cloud.alive_for(2 * MIN_MS)
    assert cloud.kinds("alert.cleared") == ["alert.cleared"]
