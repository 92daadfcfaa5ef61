"""The LoRa port: frames of nodes come in by concentrators, once, and answers leave in the receive window."""

from typing import Any

import pytest

from nanoclaw.core.deeds import RuleOrder
from nanoclaw.core.journal import entries_of
from nanoclaw.core.lora import gwmp
from nanoclaw.core.lora.config import LoraConfig
from tests.nanoclaw_core.air import EUI, OTHER_EUI, Board, Concentrator, configure, station
from tests.nanoclaw_core.rig import BOOT, GATEWAY, Station


def heard(**config: Any) -> tuple[Station, Concentrator, Board]:
    """A gateway with one concentrator that waits for downlinks, and a node."""
    made = station(**config)
    concentrator = Concentrator(made)
    concentrator.pull()
    made.forget()
    return made, concentrator, Board()


def lora_view(made: Station) -> dict[str, Any]:
    assert made.core.lora is not None
    return made.core.lora.view(made.now_ms)


def test_a_push_and_a_pull_are_acknowledged_with_their_tokens() -> None:
    made, concentrator, _ = heard()
    concentrator.say(gwmp.PUSH_DATA, b'{"stat":{"rxnb":2}}', token=0x1234)
    concentrator.say(gwmp.PULL_DATA, token=0x4321)
    assert concentrator.received(gwmp.PUSH_ACK) == [bytes.fromhex("02123401")]
    assert concentrator.received(gwmp.PULL_ACK) == [bytes.fromhex("02432104")]
    assert not made.events("message.rejected")


def test_readings_of_a_frame_go_the_way_of_all_readings_with_their_time() -> None:
    made, concentrator, board = heard()
    made.later(10_000)
    concentrator.hear(board.readings(0, 1, 2, age_ms=4_000))
    made.later(70_000)
    (batch,) = made.batches
    assert [(each["sensor"], each["boot"], each["seq"]) for each in batch["readings"]] == [
        ("sensor-01", BOOT, seq) for seq in (0, 1, 2)
    ]
    assert {each["value"] for each in batch["readings"]} == {21.5}
    assert batch["readings"][0]["unit"] == "°C"
    assert made.core.utc_ms(10_000 - 4_000) == batch["readings"][0]["utc_ms"]


def test_an_answer_leaves_one_second_after_the_frame_on_its_channel_and_data_rate() -> None:
    made, concentrator, board = heard()
    ends_us = concentrator.tmst_us()
    concentrator.hear(board.readings(0, 1))
    made.later(1_000)
    ((token, txpk),) = concentrator.downlinks()
    assert txpk["tmst"] == (ends_us + 1_000_000) % (1 << 32)
    assert (txpk["freq"], txpk["datr"], txpk["codr"], txpk["modu"]) == (868.1, "SF9BW125", "4/5", "LORA")
    assert (txpk["imme"], txpk["ipol"], txpk["ncrc"]) == (False, True, True)
    assert board.opens(txpk) == [("received", {"boot": BOOT, "from": 0, "upto": 1, "missing": [], "n": 0})]
    concentrator.tx_ack(token)
    assert made.events("downlink.sent") == [{"node": "sensor-01", "concentrator": EUI, "bytes": txpk["size"]}]


def test_the_clock_of_a_concentrator_wraps() -> None:
    made, concentrator, board = heard()
    concentrator.hear(board.readings(0), tmst=(1 << 32) - 1)
    made.later(1_000)
    assert concentrator.downlinks()[0][1]["tmst"] == 999_999


def test_nothing_is_acknowledged_before_it_is_on_disk() -> None:
    made, concentrator, board = heard()
    made.hold_stores = True
    concentrator.hear(board.readings(0))
    made.later(600)
    assert not concentrator.downlinks()
    made.finish_stores()
    assert board.opens(concentrator.downlinks()[0][1])[0][1]["upto"] == 0


def test_a_disk_that_is_too_slow_costs_the_window_and_says_so() -> None:
    made, concentrator, board = heard()
    made.hold_stores = True
    concentrator.hear(board.readings(0))
    made.later(5_000)
    assert made.events("downlink.missed") == [{"node": "sensor-01", "reason": "disk"}]
    made.finish_stores()
    made.hold_stores = False
    concentrator.hear(board.readings(0))
    made.later(1_000)
    assert board.opens(concentrator.downlinks()[0][1])[0][1]["upto"] == 0, "the node asked again"


def test_a_frame_that_asks_for_nothing_gets_nothing() -> None:
    made, concentrator, board = heard()
    concentrator.hear(board.readings(0, asks=False))
    made.later(5_000)
    assert not concentrator.downlinks()


def test_a_frame_that_two_concentrators_hear_is_one_frame_and_the_better_one_answers() -> None:
    made, concentrator, board = heard()
    other = Concentrator(made, OTHER_EUI, 50_002)
    other.pull()
    frame = board.readings(0)
    concentrator.hear(frame, rssi=-110, lsnr=-12.0)
    made.later(50)
    other.hear(frame, rssi=-110, lsnr=3.0, tmst=7)
    made.later(1_000)
    assert not concentrator.downlinks()
    assert other.downlinks()[0][1]["tmst"] == 1_000_007
    assert [one["copies"] for one in lora_view(made)["concentrators"]] == [0, 1]
    assert made.on_disk() == [("sensor-01", BOOT, 0)]
    assert not made.events("message.rejected")


def test_a_ghost_on_the_neighbouring_channel_is_a_copy_too() -> None:
    made, concentrator, board = heard()
    frame = board.readings(0)
    concentrator.hear(frame, rssi=-119, lsnr=-9.0, freq=868.3)
    concentrator.hear(frame)
    made.later(1_000)
    assert [txpk["freq"] for _, txpk in concentrator.downlinks()] == [868.1]


@pytest.mark.parametrize("error", ["TOO_LATE", "COLLISION_PACKET", "COLLISION_BEACON", "TX_FREQ"])
def test_what_the_best_concentrator_refuses_goes_by_the_next_one(error: str) -> None:
    made, concentrator, board = heard()
    other = Concentrator(made, OTHER_EUI, 50_002)
    other.pull()
    frame = board.readings(0)
    concentrator.hear(frame)
    other.hear(frame, rssi=-100)
    made.later(300)
    ((token, first),) = concentrator.downlinks()
    concentrator.tx_ack(token, error)
    ((_, second),) = other.downlinks()
    assert second["data"] == first["data"], "one nonce, one text"
    assert lora_view(made)["concentrators"][0]["tx_errors"] == {error: 1}


def test_an_answer_that_nobody_can_send_is_missed_and_comes_with_the_next_frame() -> None:
    made, concentrator, board = heard()
    concentrator.hear(board.readings(0))
    made.later(300)
    concentrator.tx_ack(concentrator.downlinks()[0][0], "COLLISION_PACKET")
    assert made.events("downlink.missed") == [{"node": "sensor-01", "reason": "COLLISION_PACKET"}]
    made.later(10_000)
    concentrator.hear(board.readings(0))
    made.later(300)
    assert board.opens(concentrator.downlinks()[1][1])[0][1]["upto"] == 0


def test_a_refusal_that_comes_too_late_is_followed_by_nobody() -> None:
    made, concentrator, board = heard()
    other = Concentrator(made, OTHER_EUI, 50_002)
    other.pull()
    frame = board.readings(0)
    concentrator.hear(frame)
    other.hear(frame, rssi=-100)
    made.later(2_000)
    concentrator.tx_ack(concentrator.downlinks()[0][0], "TOO_LATE")
    assert not other.downlinks()
    assert made.events("downlink.missed") == [{"node": "sensor-01", "reason": "TOO_LATE"}]


def test_a_timer_that_is_late_sends_nothing_and_says_so() -> None:
    made, concentrator, board = heard()
    concentrator.hear(board.readings(0))
    made.now_ms += 900
    made.core.on_timer(made.now_ms)
    made.pump()
    assert not concentrator.downlinks()
    assert made.events("downlink.missed") == [{"node": "sensor-01", "reason": "too-late"}]


def test_a_concentrator_that_has_not_pulled_for_a_minute_is_sent_nothing() -> None:
    made, concentrator, board = heard()
    made.later(60_001)
    concentrator.hear(board.readings(0))
    made.later(1_000)
    assert not concentrator.downlinks()
    assert made.events("downlink.missed") == [{"node": "sensor-01", "reason": "no-route"}]


def test_the_gateway_keeps_the_duty_cycle_of_the_band_for_an_hour() -> None:
    made, concentrator, board = heard()
    sent = 0
    for seq in range(40):
        concentrator.pull()
        concentrator.hear(board.readings(seq), datr="SF12BW125")
        made.later(1_000)
        for token, _ in concentrator.downlinks()[sent:]:
            concentrator.tx_ack(token)
            sent += 1
    view = lora_view(made)
    assert view["missed"] == {"duty-cycle": 40 - sent}
    assert 34_000 < view["concentrators"][0]["airtime_ms"] <= 36_000
    made.later(3_700_000)
    concentrator.pull()
    concentrator.hear(board.readings(41), datr="SF12BW125")
    made.later(1_000)
    assert len(concentrator.downlinks()) == sent + 1


def test_a_restart_of_the_gateway_gives_no_concentrator_a_new_hour() -> None:
    made, concentrator, board = heard()
    concentrator.hear(board.readings(0), datr="SF12BW125")
    made.later(1_000)
    concentrator.tx_ack(concentrator.downlinks()[0][0])
    spent_ms = lora_view(made)["concentrators"][0]["airtime_ms"]
    assert spent_ms > 900
    made.power_on()
    made.later(1_000)
    concentrator.pull()
    assert lora_view(made)["concentrators"][0]["airtime_ms"] == spent_ms
    made.later(3_700_000)
    assert lora_view(made)["concentrators"][0]["airtime_ms"] == 0


def test_what_was_refused_costs_no_airtime_and_what_was_not_answered_does() -> None:
    made, concentrator, board = heard()
    concentrator.hear(board.readings(0))
    made.later(300)
    concentrator.tx_ack(concentrator.downlinks()[0][0], "TOO_EARLY")
    assert lora_view(made)["concentrators"][0]["airtime_ms"] == 0
    concentrator.hear(board.readings(1))
    made.later(10_000)
    view = lora_view(made)["concentrators"][0]
    assert view["airtime_ms"] > 0
    assert view["tx_errors"] == {"TOO_EARLY": 1, "unanswered": 1}


def test_a_channel_outside_of_the_region_is_never_sent_on() -> None:
    made, concentrator, board = heard()
    concentrator.hear(board.readings(0), freq=868.65)
    made.later(1_000)
    assert not concentrator.downlinks()
    assert lora_view(made)["missed"] == {"duty-cycle": 1}


def test_a_spoilt_frame_is_counted_and_dropped() -> None:
    made, concentrator, board = heard()
    concentrator.hear(board.readings(0), stat=-1)
    made.later(10_000)
    assert not made.on_disk()
    assert not made.events("message.rejected")
    assert lora_view(made)["concentrators"][0]["crc_failed"] == 1


def test_frames_under_a_wrong_key_are_rejected_and_those_of_others_only_counted() -> None:
    made, concentrator, _ = heard()
    concentrator.hear(Board(key=b"x" * 32).readings(0))
    concentrator.hear(Board(fleet="other-fleet").readings(0))
    concentrator.hear(Board("sensor-77", key=b"y" * 32).readings(0))
    concentrator.hear(bytes.fromhex("40f17dbe4900020001954378762b11ff0d"))  # LoRaWAN, unconfirmed data up
    made.later(10_000)
    assert [each["reason"] for each in made.events("message.rejected")] == ["a frame under another key"]
    assert lora_view(made)["rejected"] == {"a frame under another key": 1}
    assert lora_view(made)["foreign"] == 3
    assert not made.on_disk()


def test_a_replayed_frame_is_rejected_also_after_a_restart() -> None:
    made, concentrator, board = heard()
    old, last = board.readings(0), board.heartbeat()
    concentrator.hear(old)
    concentrator.hear(last)
    for _ in range(2):
        made.later(5_000)
        made.forget()
        concentrator.hear(old)
        concentrator.hear(last)
        made.later(1_000)
        assert [each["reason"] for each in made.events("message.rejected")] == ["a frame that has come before"] * 2
        assert not concentrator.downlinks()
        made.power_on()
        made.regain_uplink()
        concentrator.pull()
    made.forget()
    concentrator.hear(board.readings(1))
    assert not made.events("message.rejected")


def test_a_boot_that_is_over_never_comes_back_and_a_board_whose_flash_was_lost_may() -> None:
    made, concentrator, board = heard()
    concentrator.hear(board.heartbeat())
    old = Board()
    old.boot, old.count = BOOT - 3, 40
    concentrator.hear(old.heartbeat())
    board.boot, board.count = BOOT + 1, -1
    concentrator.hear(board.heartbeat())
    old.boot = BOOT
    concentrator.hear(old.heartbeat())
    assert len(made.events("message.rejected")) == 2
    board.boot = 900_000_000
    concentrator.hear(board.heartbeat())
    board.boot = 5_000_000
    concentrator.hear(board.heartbeat())
    assert len(made.events("message.rejected")) == 2


def test_malformed_contents_under_the_right_key_are_rejected() -> None:
    made, concentrator, board = heard()
    for contents in (b"", b"\xff", b"\xa1\x00\x81\x01", {0: [0, 0, 1]}, {3: [1]}, {0: [0, 999, 1, 0]}, {4: [5]}):
        concentrator.hear(board.frame(contents))
    assert {each["reason"] for each in made.events("message.rejected")} == {"malformed contents"}
    assert len(made.events("message.rejected")) == 7


def test_a_node_that_is_heard_by_radio_is_up_and_then_down_like_any_other() -> None:
    made, concentrator, board = heard()
    concentrator.hear(board.heartbeat(interval_ms=60_000))
    assert made.events("node.up")[0]["node"] == "sensor-01"
    made.later(180_001)
    assert [each["node"] for each in made.events("node.down")] == ["sensor-01"]
    told = [report for report in made.reports.values() if report["verb"] == "status"]
    assert [(each["status"], each["air"], each["attach"]) for each in told] == [("up", True, 0), ("down", True, 0)]


def test_any_frame_of_a_node_is_a_sign_of_life() -> None:
    made, concentrator, board = heard()
    concentrator.hear(board.heartbeat(interval_ms=60_000))
    for seq in range(4):
        made.later(150_000)
        concentrator.hear(board.readings(seq, asks=False))
    assert not made.events("node.down")
    made.later(180_001)
    assert [each["silent_ms"] for each in made.events("node.down")] == [180_001]


def test_a_command_waits_for_the_nodes_next_frame_and_its_answer_goes_to_the_cloud() -> None:
    made, concentrator, board = heard()
    concentrator.hear(board.heartbeat())
    made.command("c-1", action="identify", params={"for_s": 5})
    made.later(5_000)
    assert not concentrator.downlinks()
    assert not made.to_node("cmd"), "nothing goes to the local broker"
    concentrator.hear(board.readings(0))
    made.later(1_000)
    said = dict(board.opens(concentrator.downlinks()[0][1]))
    assert said["received"]["upto"] == 0
    assert {name: said["cmd"][name] for name in ("id", "action", "by", "for_s")} == {
        "id": "c-1", "action": "identify", "by": "cloud", "for_s": 5,
    }  # fmt: skip
    assert 0 < said["cmd"]["ttl_ms"] <= 60_000 - 5_000
    concentrator.hear(board.ack("c-1"))
    made.later(1_000)
    answers = [report for report in made.reports.values() if report["verb"] == "ack"]
    assert [(each["id"], each["status"], each["target"]) for each in answers] == [("c-1", "done", "sensor-01")]
    concentrator.hear(board.readings(1))
    made.later(1_000)
    assert [verb for verb, _ in board.opens(concentrator.downlinks()[-1][1])] == ["received"]


def test_a_command_that_leaves_no_room_for_the_acknowledgement_goes_alone() -> None:
    made, concentrator, board = heard()
    concentrator.hear(board.heartbeat())
    made.command("c-0123456789abcdef-1", action="alert", params={"state": "on", "rule": "much-too-hot-in-here"})
    concentrator.hear(board.readings(0), datr="SF12BW125")
    made.later(1_000)
    assert [verb for verb, _ in board.opens(concentrator.downlinks()[0][1])] == ["cmd"]


def test_a_command_that_fits_no_frame_fails_and_blocks_nobody() -> None:
    made, concentrator, board = heard()
    concentrator.hear(board.heartbeat())
    made.command("c-1", action="config", params={"thresholds": {"t" * 230: 1}})
    concentrator.hear(board.readings(0))
    made.later(1_000)
    assert [verb for verb, _ in board.opens(concentrator.downlinks()[0][1])] == ["received"]
    answers = [report for report in made.reports.values() if report["verb"] == "ack"]
    assert [(each["id"], each["status"], each["reason"]) for each in answers] == [
        ("c-1", "failed", "too long for a radio frame")
    ]


def test_a_command_of_the_gateway_itself_that_fits_no_frame_leaves_the_disk_and_is_in_the_journal() -> None:
    made, concentrator, board = heard()
    concentrator.hear(board.heartbeat())
    kept = {"id": made.core.new_name(), "action": "config", "target": "sensor-01", "by": "gateway"}
    order = RuleOrder(made.core, kept | {"params": {"thresholds": {"t" * 230: 1}}, "expires_utc_ms": None})
    made.core.stores.persist([order.write], None)
    order.give(made.now_ms)
    concentrator.hear(board.readings(0))
    made.later(1_000)
    assert [event["reason"] for event in made.events("command.failed")] == ["too long for a radio frame"]
    assert not any(slot.startswith("cmd:") for slot in made.disk.slots)
    assert entries_of(made.disk.slots)[-1][1]["what"] == "command-failed"
    assert not [report for report in made.reports.values() if report["verb"] == "ack"]


def test_an_alarm_of_the_gateway_itself_reaches_a_node_by_radio_once_it_speaks() -> None:
    made, concentrator, board = heard()
    concentrator.hear(board.heartbeat())
    made.lose_uplink()
    made.later(91_000)
    concentrator.pull()
    concentrator.hear(board.readings(0, value="35.00"))
    made.later(1_000)
    said = dict(board.opens(concentrator.downlinks()[-1][1]))
    assert (said["cmd"]["action"], said["cmd"]["by"], said["cmd"]["rule"]) == ("alert", "gateway", "hot")
    assert [event["action"] for event in made.events("command.sent")] == ["alert"]


def test_a_gateway_that_was_not_named_forwards_and_does_not_answer() -> None:
    made, concentrator, board = heard(answers=["sensor-02"])
    concentrator.hear(board.heartbeat())
    concentrator.hear(board.readings(0))
    concentrator.hear(board.ack("c-1"))
    made.later(200_000)
    assert not concentrator.downlinks()
    assert not made.events("node.up", "node.down")
    assert [each["seq"] for batch in made.batches for each in batch["readings"]] == [0]
    assert [report["verb"] for report in made.reports.values()] == ["ack"]


def test_a_node_that_another_gateway_answers_from_now_on_is_let_go_and_may_come_back() -> None:
    made, concentrator, board = heard()
    concentrator.hear(board.heartbeat(interval_ms=60_000))
    configure(made, ["sensor-02"], 2)
    made.later(400_000)
    assert not made.events("node.down")
    configure(made, ["sensor-01"], 3)
    made.forget()
    concentrator.hear(board.heartbeat(interval_ms=60_000))
    assert [each["node"] for each in made.events("node.up")] == ["sensor-01"]


def test_only_the_concentrators_of_the_configuration_are_listened_to() -> None:
    made, _concentrator, board = heard(lora_config=LoraConfig(euis=frozenset({EUI})))
    stranger = Concentrator(made, OTHER_EUI, 50_002)
    stranger.pull()
    stranger.hear(board.readings(0))
    assert not stranger.received(gwmp.PULL_ACK) + stranger.received(gwmp.PUSH_ACK)
    assert lora_view(made)["rejected"] == {"a concentrator that is not ours": 2}
    assert not made.on_disk()


def test_without_a_list_the_first_sixteen_concentrators_are_listened_to() -> None:
    made = station()
    for number in range(40):
        Concentrator(made, f"{number:016x}", 40_000 + number).pull()
    assert len(lora_view(made)["concentrators"]) == 16
    made.later(3_600_001)
    Concentrator(made).pull()
    assert lora_view(made)["concentrators"][-1]["eui"] == EUI, "one that is silent for an hour makes room"


def test_a_tx_ack_for_nothing_is_rejected() -> None:
    made, concentrator, _ = heard()
    concentrator.tx_ack(99)
    assert [each["reason"] for each in made.events("message.rejected")] == ["an answer to no downlink of ours"]


def test_a_gateway_without_concentrators_ignores_the_port() -> None:
    made = Station().online()
    Concentrator(made).pull()
    assert made.core.lora is None
    assert not [o for o in made.outputs if getattr(o, "port", "") == "lora"]
    assert made.core.id == GATEWAY
