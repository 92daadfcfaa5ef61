"""The uplink: when the gateway believes that the cloud is gone, what it does alone, and how it comes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.wire.outputs import Connect, Disconnect, Send
from tests.nanoclaw_core.rig import BOOT, GATEWAY, HOT, Station
from tests.wire.strategies import garbage


def test_a_gateway_says_nothing_before_its_boot_number_is_on_disk() -> None:
    station = Station()
    station.refuse_stores = True
    station.power_on()
    station.raw("nodes", "clawland/sensor-01/temp", b'{"value": 25.0}')
    assert not station.of(Connect) and not station.of(Send)
    station.refuse_stores = False
    station.at(120_000)
    assert "gateway.started" in station.kinds()


def test_it_is_online_when_its_first_heartbeat_is_answered() -> None:
    station = Station().online()
    assert station.core.status()["mode"] == "online"
    assert station.kinds().count("gateway.online") == 1


def test_heartbeats_go_up_every_thirty_seconds() -> None:
    station = Station().online()
    station.forget()
    station.at(600_000)
    assert 19 <= len(station.to_cloud("heartbeat")) <= 21


def test_ninety_seconds_after_the_last_answer_it_is_still_online_and_one_millisecond_later_not() -> None:
    station = Station().online()
    station.at(300_000)
    answered_ms = max(o for o in range(0, 300_001, 30_000))
    station.cloud_answers = False
    station.forget()
    station.at(answered_ms + 90_000 - 30_000)
    assert "gateway.offline" not in station.kinds()
    (offline,) = station.at(answered_ms + 91_000).events("gateway.offline")
    assert offline["silent_ms"] == 90_001
    assert station.of(Disconnect), "a stale connection is dropped and dialled again"


def test_a_lost_connection_is_offline_at_once() -> None:
    station = Station().online()
    station.at(40_000)
    station.forget()
    station.lose_uplink()
    assert station.events("gateway.offline")[0]["reason"] == "connection lost"
    assert station.core.status()["mode"] == "offline"


def test_without_a_cloud_from_the_start_it_is_offline_after_ninety_seconds_and_decides_alone() -> None:
    first = Station().online()
    station = Station(disk=first.disk).power_on()
    station.at(90_000)
    assert "gateway.offline" not in station.kinds()
    station.at(90_001)
    assert "gateway.offline" in station.kinds()
    station.reading(35.0, 0)
    assert station.to_node("cmd")[-1]["action"] == "alert"


def test_an_answer_to_a_heartbeat_that_was_never_sent_is_refused() -> None:
    station = Station().online()
    station.cloud_answers = False
    station.forget()
    station.from_cloud("heartbeat/ack", {"v": 1, "n": 99})
    assert station.kinds() == ["message.rejected"]


def test_online_the_cloud_decides_and_the_gateway_keeps_silent() -> None:
    station = Station().online()
    station.reading(35.0, 0)
    station.later(5_000)
    assert "alert.raised" not in station.kinds() and not station.to_node("cmd")


def test_offline_the_gateway_sounds_and_silences_the_alarm_itself() -> None:
    station = Station().online()
    station.lose_uplink()
    station.forget()
    station.reading(35.0, 0)
    (alarm,) = station.to_node("cmd")
    assert (alarm["action"], alarm["state"], alarm["by"], alarm["rule"]) == ("alert", "on", "gateway", "hot")
    station.answer(alarm["id"])
    for seq, value in enumerate((34.0, 29.5, 30.5), start=1):
        station.later(1_000)
        station.reading(value, seq)
    assert len(station.to_node("cmd")) == 1
    station.later(1_000)
    station.reading(28.0, 4)
    assert station.to_node("cmd")[-1]["state"] == "off"
    raised, cleared = station.events("alert.raised", "alert.cleared")
    assert raised["id"] == cleared["id"] == f"hot:sensor-01:{BOOT}:0"
    assert raised["by"] == "gateway"


def test_an_alarm_is_sent_again_until_the_node_answers() -> None:
    station = Station().online()
    station.lose_uplink()
    station.forget()
    station.reading(35.0, 0)
    station.later(60_000)
    ids = [command["id"] for command in station.to_node("cmd")]
    assert len(ids) >= 5 and len(set(ids)) == 1
    station.answer(ids[0])
    station.forget()
    station.later(60_000)
    assert not station.to_node("cmd")
    assert not station.to_cloud("ack")


def test_an_alarm_that_is_still_true_is_given_again_when_the_cloud_goes() -> None:
    station = Station().online()
    station.reading(35.0, 0)
    station.later(70_000)  # its batch is stored: the cloud has raised it
    station.forget()
    station.lose_uplink()
    (alarm,) = station.to_node("cmd")
    assert alarm["state"] == "on"
    assert "alert.raised" not in station.kinds(), "the cloud said so already"


def test_an_episode_that_the_cloud_cannot_know_of_is_raised_when_the_cloud_goes() -> None:
    station = Station().online()
    station.cloud_answers = False
    station.reading(35.0, 0)
    station.later(3_000)
    station.forget()
    station.lose_uplink()
    assert [event["id"] for event in station.events("alert.raised")] == [f"hot:sensor-01:{BOOT}:0"]
    assert len(station.to_node("cmd")) == 1


def test_what_it_said_in_one_outage_it_does_not_say_again_in_the_next() -> None:
    station = Station().online()
    station.lose_uplink()
    station.reading(35.0, 0)
    station.later(6_000)
    station.deaf_to = "batch"
    station.regain_uplink()
    station.later(10_000)
    assert [report["status"] for report in station.reports.values()] == ["alert-raised"]
    station.lose_uplink()
    station.later(10_000)
    assert station.kinds().count("alert.raised") == 1
    assert len({command["id"] for command in station.to_node("cmd")}) == 2, "but the alarm is given again"


def test_it_is_also_raised_when_the_gateway_restarted_in_between() -> None:
    station = Station().online()
    station.reading(35.0, 0)
    station.later(6_000)
    station.hub_there = False
    station.power_on()
    station.later(95_000)
    station.regain_uplink()
    station.later(10_000)
    told = {report.get("alert") for report in station.reports.values()}
    assert f"hot:sensor-01:{BOOT}:0" in told


def test_a_late_reading_decides_nothing() -> None:
    station = Station().online()
    station.lose_uplink()
    station.at(300_000)
    station.reading(35.0, 0, age_ms=100_000)
    station.reading(35.0, 1, boot=BOOT - 1, up_ms=5_000)
    station.later(6_000)
    assert "alert.raised" not in station.kinds()
    assert len(station.on_disk()) == 2


def test_readings_that_overtook_each_other_do_not_move_an_alarm_back() -> None:
    station = Station().online()
    station.lose_uplink()
    station.at(100_000)
    station.reading(20.0, 5, age_ms=0)
    station.reading(35.0, 4, age_ms=20_000)
    assert "alert.raised" not in station.kinds()


def test_a_rule_marked_always_acts_also_online() -> None:
    station = Station().online()
    station.configured((HOT | {"always": True},), version=2)
    station.reading(35.0, 0)
    assert station.to_node("cmd")[-1]["by"] == "gateway"


def test_after_an_outage_reports_come_before_readings_and_nothing_is_repeated() -> None:
    station = Station().online()
    station.lose_uplink()
    station.heartbeat()
    station.reading(35.0, 0)
    station.later(120_000)
    station.forget()
    station.regain_uplink()
    station.later(5_000)
    topics = [o.topic.removeprefix(f"clawland/{GATEWAY}/") for o in station.of(Send) if o.port == "hub"]
    topics = [topic for topic in topics if topic != "heartbeat"]
    assert topics.index("status") < topics.index("batch/gz")
    assert max(at for at, topic in enumerate(topics) if topic == "status") < topics.index("batch/gz")
    statuses = [report["status"] for report in station.to_cloud("status")]
    assert statuses == ["up", "alert-raised"]


def test_after_an_outage_the_backlog_comes_in_its_own_order_and_live_data_does_not_wait_for_it() -> None:
    station = Station(catchup_readings=10).online()
    station.lose_uplink()
    for seq in range(100):
        station.reading(21.0, seq)
        station.later(2_000)
    station.forget()
    station.regain_uplink()
    for seq in range(100, 110):
        station.reading(21.0, seq)
    station.later(65_000)
    order = [found["seq"] for batch in station.batches for found in batch["readings"]]
    assert sorted(order) == list(range(110))
    late = [event["late"] for event in station.events("batch.sent")]
    backlog = [
        found["seq"]
        for batch, is_late in zip(station.batches, late, strict=True)
        if is_late
        for found in batch["readings"]
    ]
    assert backlog == sorted(backlog) and len(backlog) >= 80
    sent = station.events("batch.sent")
    assert any(not batch["late"] for batch in sent)
    assert "gateway.caught-up" in station.kinds()


def test_live_batches_pass_a_long_backlog() -> None:
    station = Station(catchup_readings=1, catchup_every_ms=10_000).online()
    station.lose_uplink()
    for seq in range(50):
        station.reading(21.0, seq)
    station.later(70_000)
    station.regain_uplink()
    station.forget()
    station.reading(21.0, 500)
    station.later(70_000)
    order = [found["seq"] for batch in station.batches for found in batch["readings"]]
    assert 500 in order[:10]


@pytest.mark.parametrize(
    "payload",
    [b'{"value":true,"boot":700,"seq":0}', b'{"value":3,"boot":700,"seq":0,"event":true}', b'{"value":false}'],
)
def test_an_event_reading_does_not_wait_for_its_minute_and_an_ordinary_one_does(payload: bytes) -> None:
    station = Station().online()
    station.at(65_000)
    station.reading(21.0, 9)
    station.raw("nodes", "clawland/sensor-01/door", payload)
    station.later(200)
    assert [[found["metric"] for found in batch["readings"]] for batch in station.batches] == [["door"]]
    station.at(125_000)
    assert sorted(found["metric"] for batch in station.batches for found in batch["readings"]) == ["door", "temp"]


def test_an_event_reading_is_on_disk_before_it_is_forwarded() -> None:
    station = Station().online()
    station.hold_stores = True
    station.reading(True, 0)
    station.later(10_000)
    assert station.to_cloud("batch") == []
    station.finish_stores()
    assert len(station.to_cloud("batch")) == 1


def test_event_readings_that_came_in_the_dark_go_up_once_when_the_cloud_is_back() -> None:
    station = Station().online()
    station.lose_uplink()
    for seq in range(5):
        station.reading(seq % 2 == 0, seq)
        station.later(1_000)
    assert station.to_cloud("batch") == []
    station.regain_uplink()
    station.later(130_000)
    assert len(station.cloud_has) == 5 and set(station.cloud_has.values()) == {1} and station.on_disk() == []


def test_one_batch_of_the_backlog_is_in_flight_at_a_time() -> None:
    station = Station(catchup_readings=5).online()
    station.lose_uplink()
    for seq in range(50):
        station.reading(21.0, seq)
    station.later(70_000)
    station.regain_uplink()
    station.later(300_000)  # caught up with the cloud's help
    station.lose_uplink()
    for seq in range(50, 100):
        station.reading(21.0, seq)
    station.later(70_000)
    station.forget()
    station.deaf_to = "batch"
    station.regain_uplink()
    station.later(25_000)
    assert len({batch["batch"] for batch in station.to_cloud("batch")}) == 1


def test_a_restart_in_the_middle_loses_nothing_and_goes_on() -> None:
    station = Station().online()
    station.lose_uplink()
    station.heartbeat()
    for seq in range(20):
        station.reading(35.0, seq)
    station.later(10_000)
    acknowledged = station.acknowledged()
    station.power_on()
    assert acknowledged <= set(station.on_disk())
    assert station.passwords.keys() == {"sensor-01", "sensor-02"}, "known from disk, without the cloud"
    station.regain_uplink()
    station.later(130_000)
    assert acknowledged <= station.cloud_has.keys()
    assert {report["status"] for report in station.reports.values()} >= {"up", "alert-raised"}
    assert station.disk.items == {}


@given(
    garbage("v", "batch", "n", "id", "action", "target", "params", "expires_utc_ms", "hash", "rules"),
    st.sampled_from(["batch/ack", "heartbeat/ack", "cmd", "config", "status", "batch", "x", "cmd/x"]),
)
def test_garbage_from_the_cloud_is_counted_and_loses_nothing(payload: bytes, verb: str) -> None:
    station = Station().online()
    station.cloud_answers = False
    station.reading(21.0, 0)
    station.later(6_000)
    before = set(station.on_disk())
    station.raw("hub", f"clawland/{GATEWAY}/{verb}", payload)
    station.later(1_000)
    assert set(station.on_disk()) == before
    assert station.passwords.keys() == {"sensor-01", "sensor-02"}


@pytest.mark.parametrize(
    "topic", ["clawland/gateway-02/cmd", "clawland/gateway-01/heartbeat", "clawland/sensor-01/cmd", "x"]
)
def test_what_is_for_somebody_else_is_counted_and_ignored(topic: str) -> None:
    station = Station().online()
    station.forget()
    station.raw("hub", topic, b'{"id":"c-1","action":"restart","target":"sensor-01","expires_utc_ms":9999999999999}')
    assert station.kinds() == ["message.rejected"]
    assert not station.to_node("cmd")


def test_reports_of_a_long_outage_are_bounded_too() -> None:
    station = Station().online()
    station.lose_uplink()
    for turn in range(25_000):
        station.core.receive("nodes", "clawland/sensor-01/heartbeat", _restless(turn), station.now_ms)
        station.pump()
        station.outputs.clear()
    assert len(station.reports_on_disk()) <= 20_000


def _restless(turn: int) -> bytes:
    from firmware.wire import messages

    return messages.encode_heartbeat("clawland", turn, 1, 1, 60_000, 0, 0, 0, 0, "1", "")


def test_an_acknowledgement_for_a_report_of_an_earlier_life_removes_none_of_this_one() -> None:
    station = Station().online()
    station.cloud_answers = False
    station.heartbeat()
    (report,) = station.reports_on_disk()
    boot = report["item"].split("-")[-2]
    other = report["item"].replace(boot, "0")
    station.from_cloud("batch/ack", {"v": 1, "batch": other})
    assert len(station.reports_on_disk()) == 1
    station.from_cloud("batch/ack", {"v": 1, "batch": report["item"]})
    assert station.reports_on_disk() == []
