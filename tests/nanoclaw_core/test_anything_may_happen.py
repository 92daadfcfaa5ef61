"""A gateway under any order of events, against a model of what it must never lose.

The model: a reading that was acknowledged to its node is in the outbox on disk, or acknowledged by the cloud, or was
named lost. The cloud here drops, delays, repeats and reorders what it hears.
"""

from typing import Any

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fleet.wire import uplink
from tests.conftest import FULL
from tests.nanoclaw_core.rig import BOOT, EPOCH_MS, GATEWAY, Crash, Send, Station


class Outage(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.station = Station(outbox_max_readings=8, catchup_readings=4)
        self.acknowledged: set[tuple[str, int, int]] = set()
        self.in_cloud: set[tuple[str, int, int]] = set()
        self.lost: set[tuple[str, int, int]] = set()
        self.on_the_way: list[tuple[str, bytes]] = []
        self.answers: list[dict[str, Any]] = []
        self.next_seq = 0
        self.taken = 0

    @initialize()
    def begin(self) -> None:
        self.station.power_on()
        self.station.configured()

    # --- what may happen ------------------------------------------------------------------------------------------

    @rule(value=st.sampled_from([20.0, 29.5, 31.0, 35.0]), repeat=st.integers(1, 3))
    def a_node_reads(self, value: float, repeat: int) -> None:
        for _ in range(repeat):
            self.station.reading(value, self.next_seq)
        self.next_seq += 1

    @rule(back=st.integers(1, 12), old=st.booleans())
    def a_node_sends_again(self, back: int, old: bool) -> None:
        if self.next_seq:
            clock = {"up_ms": 5} if old else {"age_ms": 1_000 * back}
            self.station.reading(25.0, max(0, self.next_seq - back), boot=BOOT - old, **clock)

    @rule(boot=st.integers(0, 2))
    def a_node_beats(self, boot: int) -> None:
        self.station.heartbeat(n=1 + self.next_seq, boot=BOOT + boot)

    @rule(seconds=st.sampled_from([1, 5, 12, 61, 200]))
    def time_passes(self, seconds: int) -> None:
        self.station.later(1_000 * seconds)

    @rule()
    def the_uplink_comes(self) -> None:
        self.station.hub_there = True
        if self.station.trying:
            self.station.connects()
            self.station.at(self.station.now_ms)

    @rule()
    def the_uplink_goes(self) -> None:
        self.on_the_way.clear()
        self.answers.clear()
        self.station.lose_uplink()

    @rule(after=st.integers(0, 12))
    def it_dies_in_the_middle_of_something(self, after: int) -> None:
        self.station.cut_after = after
        try:
            self.station.reading(35.0, self.next_seq)
            self.station.later(70_000)
        except Crash:
            pass
        self.station.cut_after = None
        self.next_seq += 1
        self.on_the_way.clear()
        self.answers.clear()
        self.station.power_on()

    @rule(days=st.sampled_from([-1, 0, 1]))
    def its_clock_is_set(self, days: int) -> None:
        station = self.station
        station.core.learn_utc(EPOCH_MS + station.now_ms + days * 86_400_000, station.now_ms)
        station.pump()

    @rule()
    def it_starts_again_without_a_date(self) -> None:
        self.on_the_way.clear()
        self.answers.clear()
        self.station.power_on(utc=False)

    @rule(full=st.booleans())
    def the_disk_fills_or_clears(self, full: bool) -> None:
        self.station.refuse_stores = full

    @rule(data=st.data())
    def the_cloud_hears_something(self, data: st.DataObject) -> None:
        if self.on_the_way:
            verb, payload = self.on_the_way.pop(data.draw(st.integers(0, len(self.on_the_way) - 1)))
            self._hear(verb, payload)

    @rule(data=st.data(), keep=st.booleans())
    def an_answer_arrives(self, data: st.DataObject, keep: bool) -> None:
        if self.answers:
            at = data.draw(st.integers(0, len(self.answers) - 1))
            answer = self.answers[at] if keep else self.answers.pop(at)
            self.station.from_cloud(answer["verb"], answer["message"])

    @rule()
    def the_cloud_hears_and_answers_all(self) -> None:
        while self.on_the_way:
            self._hear(*self.on_the_way.pop(0))
        while self.answers:
            answer = self.answers.pop(0)
            self.station.from_cloud(answer["verb"], answer["message"])
            self._listen()

    def _hear(self, verb: str, payload: bytes) -> None:
        if verb == "batch/gz":
            verb, payload = "batch", uplink.decompress(payload)
        message = orjson.loads(payload)
        if verb == "heartbeat":
            self.answers.append({"verb": "heartbeat/ack", "message": {"v": 1, "n": message["n"]}})
        elif verb == "batch":
            name, readings, refused = uplink.decode_batch(payload)
            assert not refused
            self.in_cloud |= {(r["sensor"], r["boot"], r["seq"]) for r in readings}
            self.answers.append({"verb": "batch/ack", "message": {"v": 1, "batch": name}})
        elif "item" in message:
            self.answers.append({"verb": "batch/ack", "message": {"v": 1, "batch": message["item"]}})

    # --- what must hold -------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        station = self.station
        for output in station.outputs:
            if isinstance(output, Send) and output.port == "hub" and station.connected:
                self.on_the_way.append((output.topic.removeprefix(f"clawland/{GATEWAY}/"), output.payload))
        self.acknowledged |= station.acknowledged()
        self.lost |= {(e["node"], e["boot"], e["seq"]) for e in station.events("reading.lost")}
        station.outputs.clear()
        self.on_the_way = self.on_the_way[-60:]

    @invariant()
    def nothing_that_was_acknowledged_is_lost(self) -> None:
        self._listen()
        gone = self.acknowledged - set(self.station.on_disk()) - self.in_cloud - self.lost
        assert not gone

    @invariant()
    def the_outbox_on_disk_is_bounded(self) -> None:
        assert len(self.station.on_disk()) <= 8 + 8  # what is in flight cannot go to make room

    def teardown(self) -> None:
        """In the end the cloud is there and answers: everything arrives, and the disk is empty."""
        station = self.station
        station.refuse_stores = False
        station.cloud_answers = True
        station.cloud_has.clear()
        if not station.alive:
            return
        station.hub_there = True
        for _ in range(12):
            station.later(30_000)
        assert station.on_disk() == []
        assert station.reports_on_disk() == []
        self.lost |= {(e["node"], e["boot"], e["seq"]) for e in station.events("reading.lost")}
        assert self.acknowledged | station.acknowledged() <= self.in_cloud | station.cloud_has.keys() | self.lost


TestOutage = Outage.TestCase
TestOutage.settings = settings(max_examples=400 if FULL else 40, stateful_step_count=60 if FULL else 30, deadline=None)
