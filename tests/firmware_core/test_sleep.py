"""A node that sleeps between samples: what it does when it is awake, and that nobody takes its sleep for death."""

from itertools import pairwise
from typing import Any

import pytest

from firmware.core.sleeper import AWAKE_MS, LISTEN_MS
from firmware.wire.outputs import Sample
from tests.firmware_core.rig import TEMP, Board, Connect, Disconnect, Scan, Sleep

EVERY_MS = 600_000
SLOW = TEMP | {"every_ms": EVERY_MS}
DOOR = {"metric": "door", "unit": "", "exp": 0, "low": None, "high": None, "every_ms": None, "event": True}


class Sleeper(Board):
    """Connects when the core asks, and hears `received` for all it sent, unless nobody answers."""

    def __init__(self, answers: bool = True, **config: Any) -> None:
        super().__init__(**{"sensors": [SLOW], "sleep": True} | config)
        self.answers = answers

    def _perform(self, output: Any) -> None:
        super()._perform(output)
        if isinstance(output, Connect) and self.answers:
            self.core.link_up("up", self.now_ms)

    def acknowledge(self) -> None:
        if self.flash.readings:
            seqs = [seq for boot, seq in self.flash.readings if boot == self.boot]
            self.received(min(seqs), max(seqs), n=10**6 + self.now_ms)

    def live(self, until_ms: int) -> None:
        """Second by second, acknowledged while awake."""
        while self.now_ms < until_ms:
            self.at(self.now_ms + 1000)
            if self.answers and self.core._wake_ms is None:
                self.acknowledge()


def test_a_node_sleeps_when_its_readings_are_acknowledged_and_wakes_for_the_next_sample_on_the_grid() -> None:
    board = Sleeper().power_on()
    board.live(3 * EVERY_MS + 60_000)
    sampled = [o for o in board.outputs if isinstance(o, Sample)]
    sleeps = [output.for_ms for output in board.of(Sleep)]
    assert len(sampled) == 4 and len(sleeps) == 4
    assert all(EVERY_MS - AWAKE_MS < for_ms <= EVERY_MS - LISTEN_MS for for_ms in sleeps)
    assert [event["boot"] for event in board.events("node.started")] == [board.boot]
    assert board.flash.readings == {}


def test_the_heartbeat_at_each_waking_announces_the_interval() -> None:
    board = Sleeper().power_on()
    board.live(2 * EVERY_MS + 60_000)
    assert [found["interval_ms"] for found in board.sent("heartbeat")] == [EVERY_MS] * 3
    uptimes = [found["uptime_ms"] for found in board.sent("heartbeat")]
    assert max(b - a for a, b in pairwise(uptimes)) <= EVERY_MS + AWAKE_MS


def test_it_gives_up_its_connection_before_it_sleeps_and_says_nothing_while_it_does() -> None:
    board = Sleeper().power_on()
    board.live(60_000)
    kinds = [type(o) for o in board.outputs]
    assert kinds[-2:] == [Disconnect, Sleep]
    board.forget()
    board.live(EVERY_MS - 1000)
    assert board.outputs == []


def test_a_gateway_that_sends_a_command_again_every_10_s_reaches_it_while_it_listens() -> None:
    board = Sleeper().power_on()
    board.live(10_000)
    assert board.of(Sleep) == []
    board.command("alert", "c-1")
    assert board.sent("ack") == [{"id": "c-1", "status": "done"}]
    board.live(60_000)
    assert len(board.of(Sleep)) == 1


def test_without_a_gateway_it_goes_to_sleep_all_the_same_keeps_its_readings_and_looks_for_another_in_the_end() -> None:
    board = Sleeper(answers=False).power_on()
    board.live(5 * EVERY_MS + 100_000)
    assert len(board.of(Sleep)) == 6
    assert len(board.flash.readings) == 6
    first = next(i for i, output in enumerate(board.outputs) if isinstance(output, Scan))
    asleep = [i for i, output in enumerate(board.outputs) if isinstance(output, Sleep)]
    assert asleep[2] < first < asleep[4]  # after three silent intervals
    board.found({"id": "gateway-02", "target": "x", "fleet": "clawland", "role": "primary", "load": 0})
    assert "gateway-02" not in str(board.core.link.gateway)  # too late: it sleeps


def test_a_found_gateway_is_joined_at_the_waking_at_which_it_was_looked_for() -> None:
    board = Sleeper(answers=False).power_on()
    while not board.of(Scan):
        board.at(board.now_ms + 1000)
    board.answers = True
    board.found({"id": "gateway-02", "target": "10.0.0.2:1883", "fleet": "clawland", "role": "primary", "load": 0})
    board.live(board.now_ms + 40_000)
    assert board.events("failover.joined") == [{"gateway": "gateway-02", "attach": 2}]
    assert board.flash.readings == {}


def test_an_event_sensor_wakes_it() -> None:
    board = Sleeper(sensors=[SLOW, DOOR]).power_on()
    board.live(100_000)
    board.forget()
    board.sampled(True, 1)
    board.live(board.now_ms + 40_000)
    assert [found["value"] for found in board.sent("door")] == [True]
    assert len(board.of(Sleep)) == 1


def test_with_event_sensors_only_it_sleeps_and_wakes_to_say_that_it_lives() -> None:
    board = Sleeper(sensors=[DOOR], heartbeat_ms=300_000).power_on()
    board.live(1_000_000)
    beats = [found["uptime_ms"] for found in board.sent("heartbeat")]
    assert len(beats) == 4
    assert max(b - a for a, b in pairwise(beats)) <= 300_000 + AWAKE_MS
    assert board.sent("heartbeat")[-1]["interval_ms"] == 300_000


@pytest.mark.parametrize("every_ms", [1000, 5000, LISTEN_MS + 4000])
def test_a_node_whose_period_leaves_no_time_to_sleep_stays_awake(every_ms: int) -> None:
    board = Sleeper(sensors=[TEMP | {"every_ms": every_ms}]).power_on()
    board.live(200_000)
    produced = len(board.events("reading.produced"))
    assert produced >= 200_000 // every_ms
    assert board.of(Sleep) == [] and board.core.next_deadline() > board.now_ms


def test_at_the_end_of_a_rehearsal_it_stays_awake_until_all_is_handed_over() -> None:
    board = Sleeper(answers=False).power_on()
    board.live(2 * EVERY_MS + 60_000)
    board.answers = True
    board.core.stop_sampling(board.now_ms)
    board.pump()
    board.live(board.now_ms + 60_000)
    assert board.flash.readings == {}


def test_settings_are_tried_out_awake_and_a_low_battery_lengthens_the_sleep() -> None:
    board = Sleeper(low_battery_mv=3300).power_on().at(0)
    board.command("config", "c-1", interval_s=300)
    assert board.sent("heartbeat")[-1]["interval_ms"] == 300_000
    board.live(100_000)
    assert board.sent("ack")[-1]["status"] == "done"
    assert 200_000 < board.of(Sleep)[-1].for_ms < 300_000
    board.live(310_000)
    board.battery(3000)
    assert board.sent("heartbeat")[-1]["interval_ms"] == 1_500_000
    board.live(700_000)
    assert board.of(Sleep)[-1].for_ms > 1_400_000


def test_a_board_that_loses_its_ram_in_its_sleep_goes_on_from_flash() -> None:
    board = Sleeper(answers=False).power_on()
    board.live(60_000)
    board.answers = True
    board.power_on(EVERY_MS)
    board.at(EVERY_MS + 1000)
    assert [(found.get("up_ms"), found.get("age_ms")) for found in board.sent("temp")] == [(0, None), (None, 0)]
