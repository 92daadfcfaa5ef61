"""A node on a radio: within its duty cycle, heartbeats beside readings, nothing forgotten before a gateway has it."""

import json
import random
from itertools import pairwise
from typing import Any

import pytest

from firmware.core.airway import CHANNELS_HZ, Airway
from firmware.hosting.aes import aes_block
from firmware.wire import lora, messages
from firmware.wire.airtime import WINDOW_MS, time_on_air_us
from firmware.wire.lora_contents import contents_of, pack_command, pack_received, unpack_uplink
from firmware.wire.outputs import Connect, Restart, Scan, Send, Sleep, Transmit
from nanoclaw.core.roster import Arrivals
from tests.firmware_core.rig import KEY, NODE, TEMP, Board

BLOCK = aes_block(lora.frame_key(KEY))
ADDRESS = lora.address("clawland", NODE)
GATEWAY = lora.address("clawland", "gateway-01")
HOUR_MS = WINDOW_MS
MINUTE_MS = 60_000
SOIL = {"metric": "soil_moisture", "unit": "%", "exp": 1, "low": 0, "high": 1000, "every_ms": 1_800_000}
LEAK = {"metric": "leak", "unit": "", "exp": 0, "low": None, "high": None, "every_ms": None, "event": True}


class Radio(Board):
    """A board whose frames a gateway hears, unless the air swallows them, and answers those that ask."""

    def __init__(self, sf: int = 7, **config: Any) -> None:
        given = {"lora": {"sf": sf}, "frame_block": BLOCK, "heartbeat_ms": MINUTE_MS}
        super().__init__(**given | config)
        self.sf = sf
        self.frames: list[tuple[int, Transmit]] = []
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.arrivals: dict[int, Arrivals] = {}
        self.hears = self.answers = True
        self.command_body: dict[str, Any] | None = None
        self.windows: list[tuple[int, bytes]] = []

    def _perform(self, output: Any) -> None:
        super()._perform(output)
        if isinstance(output, Transmit):
            self.frames.append((self.now_ms, output))
            if self.hears:
                self._hear(output.frame)

    def _hear(self, frame: bytes) -> None:
        head, contents = lora.head_of(frame), lora.open_uplink(BLOCK, frame)
        assert head is not None and contents is not None and head.node == ADDRESS
        said = unpack_uplink(contents, "clawland", head.boot, head.count)
        assert said is not None
        for verb, payload in said:
            found = json.loads(payload)
            self.said.append((verb, found))
            if "seq" in found:
                arrivals = self.arrivals.setdefault(found["boot"], Arrivals())
                if arrivals.is_new(found["seq"]):
                    arrivals.on_disk(found["seq"])
        if self.answers and (head.asks or self.command_body):
            answer = lora.seal_downlink(
                BLOCK, ADDRESS, head.boot, head.count, GATEWAY, contents_of(self._answer(head.boot))
            )
            at_ms = self.now_ms + time_on_air_us(len(frame), self.sf) // 1000 + lora.RECEIVE_DELAY_MS + 60
            self.windows.append((at_ms, answer))

    def _answer(self, boot: int) -> dict[int, Any]:
        """As a gateway does it: each thing once, and again when a copy comes."""
        found: dict[int, Any] = {}
        for of_boot, arrivals in self.arrivals.items():
            paid = arrivals.pay()
            if paid:
                span = messages.decode_received(messages.encode_received(of_boot, paid[0], paid[1], 0))
                found = pack_received(boot, span or {}) | found
        if self.command_body:
            found |= pack_command(self.command_body)
            self.command_body = None
        return found

    def live(self, until_ms: int) -> "Radio":
        """Let time pass, with the windows in it."""
        while True:
            due_ms = [at_ms for at_ms, _ in self.windows if at_ms <= until_ms]
            step_ms = min([until_ms, self.now_ms + 1000, *due_ms])
            self.at(step_ms)
            for at_ms, answer in [window for window in self.windows if window[0] <= self.now_ms]:
                self.windows.remove((at_ms, answer))
                self.core.receive("radio", "", answer, self.now_ms)
                self.pump()
            if self.now_ms >= until_ms or not self.powered:
                return self

    def told(self, verb: str) -> list[dict[str, Any]]:
        return [found for name, found in self.said if name == verb]

    def air_us(self, from_ms: int, until_ms: int) -> int:
        return sum(time_on_air_us(len(t.frame), t.sf) for at_ms, t in self.frames if from_ms <= at_ms < until_ms)


@pytest.mark.parametrize("sf", [7, 9, 12])
def test_no_hour_holds_more_than_one_percent_however_much_there_is_to_say(sf: int) -> None:
    board = Radio(sf, sensors=[TEMP | {"every_ms": 10_000}, LEAK]).power_on()
    board.on_sample = lambda index, now_ms: 2000 + now_ms // 10_000 % 500
    for minute in range(3 * 60):
        board.live(minute * MINUTE_MS)
        board.sampled(minute % 2 == 0, 1)
    starts = [at_ms for at_ms, _ in board.frames]
    assert max(board.air_us(at_ms, at_ms + HOUR_MS) for at_ms in starts) <= 36_000_000
    assert len(starts) > 50 or sf == 12


def test_at_sf12_heartbeats_come_as_often_as_the_air_allows_and_beside_readings() -> None:
    board = Radio(12, sensors=[TEMP | {"every_ms": 600_000}]).power_on()
    board.live(6 * HOUR_MS)
    (interval_ms,) = {found["interval_ms"] for found in board.told("heartbeat")}
    assert interval_ms == board.core.presence.heartbeat_ms == 309_000
    sent = board.events("frame.sent")
    assert sum(event["readings"] > 0 and event["heartbeat"] for event in sent) > len(board.told("temp")) // 2
    beats = [at_ms for (at_ms, _), event in zip(board.frames, sent, strict=True) if event["heartbeat"]]
    assert max(b - a for a, b in pairwise(beats)) < 2 * interval_ms  # down is three of them


def test_at_sf7_a_heartbeat_every_minute_is_within_the_law() -> None:
    board = Radio(7, sensors=[TEMP | {"every_ms": MINUTE_MS}]).power_on()
    board.live(HOUR_MS - 1)
    assert {found["interval_ms"] for found in board.told("heartbeat")} == {MINUTE_MS}
    assert 55 <= len(board.told("heartbeat")) <= 62 and len(board.told("temp")) == 60
    assert len({at_ms % MINUTE_MS for at_ms, _ in board.frames}) > 50  # never at the very instant of everybody
    assert board.air_us(0, HOUR_MS) < 10_000_000


def test_it_sends_no_beacon_joins_nobody_and_looks_for_nobody() -> None:
    board = Radio(sensors=[TEMP | {"every_ms": MINUTE_MS}]).power_on()
    board.answers = False
    board.live(3 * HOUR_MS)
    assert not any(isinstance(output, Send | Connect | Scan) for output in board.outputs)
    assert {transmit.frequency_hz for _, transmit in board.frames} == set(CHANNELS_HZ)


def test_readings_are_kept_until_a_gateway_has_said_that_it_has_them() -> None:
    board = Radio(sensors=[TEMP | {"every_ms": MINUTE_MS}]).power_on()
    board.answers = False
    board.live(10 * MINUTE_MS - 1000)
    assert len(board.flash.readings) == len(board.told("temp")) == 10
    board.answers = True
    board.live(2 * HOUR_MS)
    assert len(board.flash.readings) < 20
    board.core.stop_sampling(board.now_ms)
    board.live(board.now_ms + 10 * MINUTE_MS)
    assert board.flash.readings == {}


def test_acknowledgements_are_asked_for_when_enough_has_gathered_and_not_with_every_frame() -> None:
    board = Radio(sensors=[TEMP | {"every_ms": MINUTE_MS}]).power_on()
    board.live(4 * HOUR_MS)
    asks = [event["asks"] for event in board.events("frame.sent")]
    assert asks[0] and sum(asks) < len(asks) / 8
    assert len(board.core.backlog) <= 16


def test_what_the_air_swallows_is_sent_again_and_nothing_is_lost() -> None:
    dice = random.Random(5)
    board = Radio(9, sensors=[TEMP | {"every_ms": MINUTE_MS}]).power_on()
    for minute in range(3 * 60):
        board.hears = dice.random() > 0.3
        board.answers = dice.random() > 0.3
        board.live(minute * MINUTE_MS)
    board.hears = board.answers = True
    board.core.stop_sampling(board.now_ms)
    board.live(board.now_ms + HOUR_MS)
    produced = {(e["boot"], e["seq"]) for e in board.events("reading.produced")}
    assert {(found["boot"], found["seq"]) for found in board.told("temp")} == produced
    assert board.flash.readings == {}


def test_after_an_outage_new_readings_go_first_and_the_backlog_follows_several_to_a_frame() -> None:
    board = Radio(7, sensors=[TEMP | {"every_ms": MINUTE_MS}]).power_on()
    board.live(MINUTE_MS)
    board.hears = False
    board.live(3 * HOUR_MS)
    behind = len(board.flash.readings)
    board.said.clear()
    board.hears = True
    board.live(3 * HOUR_MS + 15 * MINUTE_MS)
    assert behind > 170 and len(board.flash.readings) < 20
    assert max(event["readings"] for event in board.events("frame.sent")) >= 15
    newest = [found["seq"] for found in board.told("temp")][:1]
    assert newest[0] >= behind


def test_a_power_cut_loses_nothing_and_no_nonce_comes_twice() -> None:
    board = Radio(7, sensors=[TEMP | {"every_ms": MINUTE_MS}])
    board.answers = False
    heads = []
    for start in range(4):
        board.power_on(start * HOUR_MS)
        board.live(start * HOUR_MS + 30 * MINUTE_MS)
        board.powered = False
    heads = [lora.head_of(transmit.frame) for _, transmit in board.frames]
    assert len({(head.boot, head.count) for head in heads if head}) == len(heads)
    board.answers = True
    board.power_on(4 * HOUR_MS)
    board.live(5 * HOUR_MS)
    board.core.stop_sampling(board.now_ms)
    board.live(6 * HOUR_MS)
    assert board.flash.readings == {}
    assert any("up_ms" in found for found in board.told("temp"))


def test_the_budget_survives_a_loss_of_power() -> None:
    board = Radio(12, sensors=[LEAK], flash=None).power_on()
    for minute in range(30):
        board.live(minute * MINUTE_MS)
        board.sampled(True)
    used_us = board.core.airway.used_us(board.now_ms)
    assert used_us > 30_000_000
    board.power_on()
    assert board.core.airway.used_us(board.now_ms) == used_us


def test_an_event_does_not_wait_for_its_turn() -> None:
    board = Radio(12, sensors=[SOIL, LEAK]).power_on()
    board.live(10 * MINUTE_MS)
    before = len(board.frames)
    board.live(board.frames[-1][0] + 15_000)
    board.sampled(True, 1)
    board.live(board.now_ms + 1000)
    assert len(board.frames) > before and board.told("leak")[-1]["event"] is True


def test_a_command_in_a_receive_window_runs_once_and_is_answered_with_the_next_frame() -> None:
    board = Radio(sensors=[TEMP | {"every_ms": MINUTE_MS}]).power_on()
    board.live(MINUTE_MS)
    for _ in range(2):
        board.command_body = {"action": "alert", "id": "c-1", "ttl_ms": 60_000, "by": "cloud"}
        board.live(board.now_ms + 2 * MINUTE_MS)
    assert [event["id"] for event in board.events("command.executed")] == ["c-1"]
    assert board.told("ack") == [{"id": "c-1", "status": "done"}] * 2


def test_answers_that_wait_for_a_frame_are_few_and_the_oldest_goes() -> None:
    board = Radio(12).power_on()
    for number in range(50):
        board.core.publish(board.core.topics["ack"], messages.encode_ack(f"c-{number}", "failed", "why"), 0)
    assert [ack["id"] for ack in board.core._acks] == [f"c-{number}" for number in range(42, 50)]


def test_a_restart_is_reported_by_the_next_boot() -> None:
    board = Radio(sensors=[TEMP | {"every_ms": MINUTE_MS}]).power_on()
    board.live(MINUTE_MS)
    board.command_body = {"action": "restart", "id": "c-2", "ttl_ms": 60_000, "by": "cloud"}
    board.live(3 * MINUTE_MS)
    assert not board.powered
    board.power_on()
    board.live(board.now_ms + MINUTE_MS)
    assert board.told("ack") == [{"id": "c-2", "status": "restarted"}]


def test_settings_are_kept_when_the_gateway_answers_and_taken_back_when_it_does_not() -> None:
    for answers, every_ms in ((True, 120_000), (False, MINUTE_MS)):
        board = Radio(sensors=[TEMP | {"every_ms": MINUTE_MS}]).power_on()
        board.live(MINUTE_MS)
        board.command_body = {"action": "config", "id": "c-3", "ttl_ms": 60_000, "by": "cloud", "interval_s": 120}
        while not board.events("command.executed"):
            board.live(board.now_ms + 100)
        board.answers = answers
        board.windows = board.windows if answers else []
        board.live(board.now_ms + 5 * MINUTE_MS)
        assert board.core.sensors[0].every_ms == every_ms
        (ack,) = board.told("ack")
        assert ack["status"] == ("done" if answers else "failed")


def answer(board: Radio, contents: bytes, count: int | None = None, key: bytes = KEY, node: bytes = ADDRESS) -> None:
    block, at = aes_block(lora.frame_key(key)), board.core._count if count is None else count
    board.core.receive("radio", "", lora.seal_downlink(block, node, board.boot, at, GATEWAY, contents), board.now_ms)
    board.pump()


def in_a_window() -> Radio:
    board = Radio(sensors=[SOIL]).power_on()
    board.answers = False
    board.live(10_000)
    board.live(30_000)
    board.live(board.frames[-1][0] + 1_300)
    board.core.airway.free_ms = board.now_ms + 10
    return board


def test_answers_that_are_not_for_it_are_no_concern_and_false_ones_are_counted() -> None:
    board = in_a_window()
    command = contents_of(pack_command({"action": "restart", "id": "c", "ttl_ms": 1, "by": "cloud"}))
    answer(board, command, node=lora.address("clawland", "sensor-02"))
    board.core.receive("radio", "", b"\x40noise of another network", board.now_ms)
    assert board.events("message.rejected") == []
    answer(board, command, key=b"x" * 32)
    answer(board, command, count=board.core._count + 1)
    answer(board, b"\xff")
    board.pump()
    reasons = [event["reason"] for event in board.events("message.rejected")]
    assert reasons == ["not authentic", "not authentic", "malformed"]
    assert board.powered and board.events("command.executed") == []


def test_an_answer_after_the_window_is_a_replay_and_refused() -> None:
    board = in_a_window()
    good = contents_of({})
    answer(board, good)
    assert board.events("message.rejected") == []
    answer(board, good)
    assert [event["reason"] for event in board.events("message.rejected")] == ["outside of the receive window"]


def test_when_the_count_is_used_up_it_restarts_for_another_boot_number() -> None:
    board = Radio(sensors=[TEMP | {"every_ms": MINUTE_MS}]).power_on()
    board.core._count = lora.MAX_COUNT - 1
    board.live(10 * MINUTE_MS)
    assert len(board.frames) == 1 and len(board.of(Restart)) == 1


def test_a_sleeping_node_sleeps_between_its_frames() -> None:
    board = Radio(12, sensors=[SOIL], sleep=True, heartbeat_ms=1_800_000)
    board.on_sample = lambda index, now_ms: 500 + now_ms // 1_800_000
    board.power_on()
    board.live(6 * HOUR_MS - 1)
    sleeps = [output.for_ms for output in board.of(Sleep)]
    assert sum(sleeps) > 5.5 * HOUR_MS and len(sleeps) < 60
    assert len(board.told("soil_moisture")) == 12


@pytest.mark.parametrize("sf", [7, 12])
def test_a_text_as_long_as_they_come_goes_alone_and_arrives(sf: int) -> None:
    board = Radio(sf, sensors=[{**LEAK, "metric": "note", "event": False}, TEMP]).power_on()
    board.sampled("é" * 2 + "x" * 50)
    board.sampled(2100, 1)
    board.live(HOUR_MS)
    assert [found["value"] for found in board.told("note")] == ["é" * 2 + "x" * 50]
    assert [found["value"] for found in board.told("temp")] == [21.0]


def test_ages_are_those_at_the_end_of_the_frame() -> None:
    board = Radio(12, sensors=[TEMP]).power_on()
    board.live(200_000)
    sampled_ms = board.now_ms
    board.sampled(2100)
    board.live(HOUR_MS)
    (reading,) = board.told("temp")
    at_ms, transmit = next(pair for pair in board.frames if pair[0] >= sampled_ms)
    assert reading["age_ms"] == at_ms - sampled_ms + time_on_air_us(len(transmit.frame), 12) // 1000


def test_the_pace_leaves_a_fifth_of_the_hour_for_what_cannot_wait() -> None:
    airway, now_ms = Airway({"sf": 12}, None, 0), 0
    while now_ms < 10 * HOUR_MS:
        now_ms = airway.due_ms(False, now_ms)
        airway.send(51, now_ms)
    assert 0.7 * 36_000_000 < airway.used_us(now_ms) <= 0.85 * 36_000_000
    assert messages.MAX_BOOT > 0
