"""Nodes as their gateway sees them, and commands on their way to them."""

import pytest

from fleet.wire import snapshot
from tests.nanoclaw_core.rig import BOOT, EPOCH_MS, GATEWAY, HOT, KEY, Station, Store


def statuses(station: Station, node: str = "sensor-01") -> list[str]:
    return [report["status"] for report in station.reports.values() if report.get("sensor") == node]


def test_a_node_is_up_with_its_first_heartbeat_and_gets_an_answer_at_once() -> None:
    station = Station().online()
    station.heartbeat(n=1)
    assert [event["node"] for event in station.events("node.up")] == ["sensor-01"]
    assert station.to_node("received")[-1] == {"boot": BOOT, "n": 1}
    station.later(1_000)
    assert statuses(station) == ["up"]


def test_a_beacon_is_answered_with_its_own_number() -> None:
    station = Station().online()
    station.heartbeat(n=1)
    station.beacon(n=7)
    assert station.to_node("received")[-1]["n"] == 7


def test_a_node_is_down_after_three_of_its_own_intervals_and_not_a_millisecond_earlier() -> None:
    for interval_ms in (60_000, 10_000):
        station = Station().online()
        station.at(10_000)
        station.heartbeat(interval_ms=interval_ms)
        station.at(10_000 + 3 * interval_ms)
        assert "node.down" not in station.kinds()
        station.at(10_000 + 3 * interval_ms + 1)
        (down,) = station.events("node.down")
        assert down == {"node": "sensor-01", "silent_ms": 3 * interval_ms + 1}
        station.later(1_000)
        assert statuses(station) == ["up", "down"]


def test_a_heartbeat_at_the_deadline_is_in_time() -> None:
    station = Station().online()
    station.at(10_000)
    station.heartbeat()
    station.at(190_000)
    station.heartbeat(n=2)
    station.at(370_000)
    assert "node.down" not in station.kinds()


def test_readings_and_beacons_are_no_heartbeats() -> None:
    station = Station().online()
    station.heartbeat()
    for seq in range(30):
        station.later(7_000)
        station.reading(21.0, seq)
        station.beacon(n=seq + 2)
    assert "node.down" in station.kinds()


def test_a_node_that_returns_is_up_again_and_told_how_long_it_was_gone() -> None:
    station = Station().online()
    station.heartbeat()
    station.at(300_000)
    station.heartbeat(n=9)
    up = station.events("node.up")[-1]
    assert up["down_ms"] == pytest.approx(300_000 - 180_000, abs=100)
    station.later(1_000)
    assert statuses(station) == ["up", "down", "up"]


def test_each_node_has_its_own_deadline() -> None:
    station = Station().online()
    station.heartbeat("sensor-01")
    station.at(50_000)
    station.heartbeat("sensor-02")
    station.at(185_000)
    assert [event["node"] for event in station.events("node.down")] == ["sensor-01"]
    station.at(240_000)
    assert [event["node"] for event in station.events("node.down")] == ["sensor-01", "sensor-02"]


def test_a_gateway_that_restarts_gives_its_nodes_the_whole_time_again() -> None:
    station = Station().online()
    station.heartbeat()
    station.at(170_000)
    station.power_on()
    station.at(170_000 + 180_000)
    assert "node.down" not in station.kinds()
    station.later(2)
    assert "node.down" in station.kinds()


def test_only_nodes_of_its_snapshot_have_a_password_on_its_broker() -> None:
    from firmware.wire.auth import mqtt_password
    from tests.nanoclaw_core.rig import NODE_KEYS

    station = Station().online()
    assert station.passwords == {node: mqtt_password(key) for node, key in NODE_KEYS.items()}


def test_a_configuration_is_confirmed_once_it_is_on_disk() -> None:
    station = Station().online()
    station.forget()
    station.hold_stores = True
    station.configured((), version=2)
    assert station.to_cloud("config/ack") == [] and station.core.status()["config"] == 1
    station.finish_stores()
    (confirmed,) = station.to_cloud("config/ack")
    assert confirmed["version"] == 2 and station.core.status()["config"] == 2


def test_a_configuration_that_the_disk_refuses_is_neither_used_nor_confirmed() -> None:
    station = Station().online()
    station.forget()
    station.refuse_stores = True
    station.configured((), version=2)
    assert station.to_cloud("config/ack") == [] and station.core.status()["config"] == 1


def test_a_tampered_configuration_changes_nothing() -> None:
    from fleet.wire import snapshot
    from tests.nanoclaw_core.rig import GATEWAY, NODE_KEYS

    station = Station().online()
    built = snapshot.build(9, [HOT], NODE_KEYS, GATEWAY, b"g" * 32, bytes(12)) | {"rules": []}
    station.forget()
    station.from_cloud("config", built)
    assert station.kinds() == ["message.rejected"] and station.core.status()["config"] == 1


def test_a_command_is_kept_on_disk_then_sent_and_again_until_the_node_answers() -> None:
    station = Station().online()
    station.heartbeat()
    station.forget()
    station.command("c-1")
    assert any(slot.startswith("cmd:") for slot in station.disk.slots)
    station.later(25_000)
    assert [command["id"] for command in station.to_node("cmd")] == ["c-1"] * 3
    assert station.to_node("cmd")[0]["ttl_ms"] == 60_000, "a duration travels: nodes have no wall clock"
    station.answer("c-1", "restarted")
    station.later(1_000)
    (told,) = station.to_cloud("ack")
    assert (told["id"], told["target"], told["status"]) == ("c-1", "sensor-01", "restarted")
    assert not any(slot.startswith("cmd:") for slot in station.disk.slots)
    station.forget()
    station.later(120_000)
    assert not station.to_node("cmd")


def test_a_command_for_a_node_that_is_down_waits_and_goes_when_it_is_back() -> None:
    station = Station().online()
    station.heartbeat()
    station.at(200_000)
    station.forget()
    station.command("c-1", expires_utc_ms=EPOCH_MS + 900_000)
    station.later(60_000)
    assert not station.to_node("cmd")
    station.heartbeat(n=8)
    station.later(1)
    assert [command["id"] for command in station.to_node("cmd")] == ["c-1"]


def test_an_expired_command_is_not_sent_any_more() -> None:
    station = Station().online()
    station.heartbeat()
    station.command("c-1")
    station.later(61_000)
    station.forget()
    station.later(60_000)
    assert not station.to_node("cmd")
    assert not any(slot.startswith("cmd:") for slot in station.disk.slots)
    station.command("c-2", expires_utc_ms=EPOCH_MS)
    assert not station.to_node("cmd")


def test_a_command_survives_a_restart_of_the_gateway() -> None:
    station = Station().online()
    station.heartbeat()
    station.command("c-1")
    station.power_on()
    station.forget()
    station.heartbeat(n=3)
    station.later(15_000)
    assert station.to_node("cmd") and {command["id"] for command in station.to_node("cmd")} == {"c-1"}


def test_a_command_for_nobody_known_is_answered_with_the_reason() -> None:
    station = Station().online()
    station.forget()
    station.command("c-1", target="stranger")
    station.later(1_000)
    (told,) = station.to_cloud("ack")
    assert told["status"] == "failed" and told["reason"]


def test_a_node_cannot_answer_another_nodes_command() -> None:
    station = Station().online()
    station.heartbeat("sensor-01")
    station.heartbeat("sensor-02")
    station.command("c-1", target="sensor-01")
    station.forget()
    station.answer("c-1", node="sensor-02")
    station.later(15_000)
    assert not any(told.get("target") == "sensor-01" for told in station.to_cloud("ack"))
    assert [command["id"] for command in station.to_node("cmd")], "still being asked"


def test_the_cloud_asking_twice_makes_one_command_to_the_node() -> None:
    station = Station().online()
    station.heartbeat()
    station.forget()
    station.command("c-1")
    station.command("c-1")
    assert len(station.to_node("cmd")) == 1


def test_an_answer_survives_an_outage() -> None:
    station = Station().online()
    station.heartbeat()
    station.command("c-1")
    station.lose_uplink()
    station.answer("c-1", "restarted")
    station.power_on()
    station.regain_uplink()
    station.later(5_000)
    assert [report["status"] for report in station.reports.values() if report.get("id") == "c-1"] == ["restarted"]


def test_a_released_node_is_no_longer_watched() -> None:
    station = Station().online()
    station.heartbeat()
    station.command("c-9", target=None, action="release", params={"node": "sensor-01", "attach": 2})
    station.later(1_000)
    assert [report["status"] for report in station.reports.values() if report.get("id") == "c-9"] == ["done"]
    station.at(400_000)
    assert "node.down" not in station.kinds()


def test_a_release_with_an_older_join_count_is_ignored() -> None:
    station = Station().online()
    station.heartbeat(attach=3)
    station.command("c-9", target=None, action="release", params={"node": "sensor-01", "attach": 2})
    station.at(400_000)
    assert "node.down" in station.kinds()


def test_an_answer_reaches_the_cloud_whatever_its_command_is_called() -> None:
    station = Station().online()
    station.heartbeat()
    for name in ("gateway-01-1f-1", "c-1", "gateway-01"):
        station.command(name)
        station.answer(name)
        station.answer(name)
    station.later(1_000)
    told = {report["id"] for report in station.reports.values() if report["verb"] == "ack"}
    assert told == {"gateway-01-1f-1", "c-1", "gateway-01"}


# --- a disk that refuses --------------------------------------------------------------------------------------------


def _written(station: Station) -> list[tuple[str, object]]:
    return [write[1:3] for store in station.of(Store) for write in store.writes if write[0] == "put"]


def test_a_disk_that_refuses_for_long_is_owed_the_latest_of_each_slot_only() -> None:
    station = Station().online()
    station.refuse_stores = True
    for number in range(2_000):
        station.core.stores.put("a", number)
        station.core.stores.put("b", -number)
        station.pump()
    station.forget()
    station.refuse_stores = False
    station.later(60_000)
    assert sorted(write for write in _written(station) if write[0] in "ab") == [("a", 1_999), ("b", -1_999)]


def test_what_a_disk_refused_does_not_overwrite_what_it_took_meanwhile() -> None:
    station = Station().online()
    station.hold_stores = True
    station.core.stores.put("a", "old")
    station.core.stores.put("a", "new")
    station.pump()
    old, new = station.held
    station.held.clear()
    station.hold_stores = False
    station.core.store_failed(old.token, "disk full", station.now_ms)
    station.disk.perform(new.writes)
    station.core.stored(new.token, station.now_ms)
    station.later(60_000)
    assert station.disk.slots["a"] == "new"


# --- nodes that come and go -----------------------------------------------------------------------------------------


def flapping(times: int) -> Station:
    """A node that was down so often, and is silent again."""
    station = Station().online()
    station.heartbeat(n=1)
    for _ in range(times):
        station.later(181_000)
        station.heartbeat(n=station.now_ms, backlog=7)
    station.later(181_000)
    return station


def test_up_says_how_much_the_node_has_kept() -> None:
    station = flapping(1)
    assert station.events("node.up")[-1]["backlog"] == 7
    assert [told["backlog"] for told in station.to_cloud("status") if told["status"] == "up"] == [0, 7]


def test_a_node_that_goes_down_again_and_again_is_called_up_only_when_it_stays() -> None:
    station = flapping(8)
    kinds = [kind for kind in station.kinds() if kind in ("node.up", "node.down")]
    assert kinds == ["node.up", "node.down", "node.up", "node.down", "node.up", "node.down"]
    assert [event["downs"] for event in station.events("node.unsteady")] == [3] * 6
    station.forget()
    for _ in range(11):
        station.heartbeat(n=station.now_ms)
        station.later(60_000)
    assert [kind for kind in station.kinds() if kind.startswith("node.")] == ["node.unsteady", "node.up"]
    assert [told["status"] for told in station.to_cloud("status")] == ["up"]


def test_what_was_down_long_ago_is_forgiven() -> None:
    station = flapping(2)
    station.later(3_600_000)
    station.forget()
    station.heartbeat(n=station.now_ms)
    assert "node.up" in station.kinds()


def test_an_unsteady_node_gets_its_commands_and_its_answers() -> None:
    station = flapping(3)
    station.heartbeat(n=station.now_ms)
    station.command("c-1")
    assert [said["id"] for said in station.to_node("cmd")] == ["c-1"]
    station.forget()
    station.reading(20.0, 0)
    station.later(6_000)
    assert station.acknowledged()


def test_an_answer_that_comes_through_another_gateway_is_passed_on() -> None:
    station = Station().online()
    station.heartbeat()
    station.answer("a-command-of-another-gateway", "restarted")
    assert [told["id"] for told in station.to_cloud("ack")] == ["a-command-of-another-gateway"]


def test_an_answer_after_a_restart_of_the_gateway_ends_its_command() -> None:
    station = Station().online()
    station.heartbeat()
    station.command("c-1")
    station.power_on().regain_uplink()
    station.heartbeat(n=2)
    station.answer("c-1", "restarted")
    station.later(60_000)
    assert [(told["id"], told["status"]) for told in station.reports.values() if told["verb"] == "ack"] == [
        ("c-1", "restarted")
    ]
    assert not [slot for slot in station.disk.slots if slot.startswith("cmd:")]


def test_the_liveness_of_five_hundred_nodes_costs_one_timer_and_not_five_hundred() -> None:
    station = Station().online()
    keys = {f"sensor-{number:03}": bytes([number % 256] * 32) for number in range(500)}
    station.from_cloud("config", snapshot.build(2, [], keys, GATEWAY, KEY, bytes(12)))
    deadlines = set()
    for minute in range(10):
        for name in keys:
            station.core.receive("nodes", f"clawland/{name}/heartbeat", BEAT % (minute + 1), station.now_ms)
            station.later(120)
            deadlines.add(station.core.monitor.due_ms)
    assert station.core.status()["nodes_up"] == 500
    assert len(deadlines) <= 12, "it is moved about every two minutes, as for a single node"


BEAT = (
    b'{"fleet":"clawland","boot":700,"n":%d,"attach":1,"interval_ms":60000,"uptime_ms":1,"free_kb":0,"dropped":0,'
    b'"next_seq":0,"backlog":0,"version":"1"}'
)


def test_more_commands_than_can_wait_are_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanoclaw.core.commands.MOST_ORDERS", 3)
    station = Station().online()
    for number in range(4):
        station.command(f"c-{number}")
    answers = [report for report in station.reports.values() if report["verb"] == "ack"]
    assert [(each["id"], each["status"], each["reason"]) for each in answers] == [
        ("c-3", "failed", "too many commands wait for nodes")
    ]
