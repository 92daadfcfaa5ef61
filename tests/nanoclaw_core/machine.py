"""A gateway under any order of events, against a model of what the design promises.

The model: a reading that was acknowledged to its node is in the outbox on disk, or acknowledged by the cloud, or was
named lost; no identity goes up with two contents; a command is on disk until it is answered or its time is over, and
reaches its node under the one id that the cloud gave it; what was read long ago raises nothing. The cloud here drops,
delays, repeats and reorders what it hears, the disk fills or is slow, the clock jumps, and the gateway dies at any
instant.
"""

from typing import Any

import orjson
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from clawsim.virtual.memory import GatewayDisk
from firmware.hosting.aes import aes_block
from firmware.wire import messages
from firmware.wire.sealing import seal
from fleet.wire import uplink
from nanoclaw.core.gateway import GatewayCore
from nanoclaw.core.outbox import READING, reading_identity
from tests.nanoclaw_core.rig import BOOT, EPOCH_MS, GATEWAY, Crash, Send, Station

DAY_MS = 86_400_000
SEAL_KEY = aes_block(bytes(32))
Identity = tuple[str, int, int]


class Disk(GatewayDisk):
    """Remembers every reading and every command that was ever on it."""

    def __init__(self) -> None:
        super().__init__()
        self.ever: set[Identity] = set()
        self.commands: set[str] = set()
        self.most_at_once = 0

    def perform(self, writes: list[Any]) -> None:
        super().perform(writes)
        added = {reading_identity(write[3]) for write in writes if write[0] == "add" and write[2] == READING}
        self.most_at_once = max(self.most_at_once, len(added))
        self.ever |= added
        self.commands |= {write[1].removeprefix("cmd:") for write in writes if write[0] == "put"}


class Outage(RuleBasedStateMachine):
    core_type: type[GatewayCore] = GatewayCore

    def __init__(self) -> None:
        super().__init__()
        self.disk = Disk()
        self.station = Station(self.disk, outbox_max_readings=8, catchup_readings=4)
        self.station.core_type = self.core_type
        self.acknowledged: set[Identity] = set()
        self.in_cloud: dict[Identity, tuple[Any, ...]] = {}
        self.two_contents: list[Identity] = []
        self.lost: set[Identity] = set()
        self.on_the_way: list[tuple[str, bytes]] = []
        self.answers: list[dict[str, Any]] = []
        self.read: dict[int, tuple[float | str, int]] = {}  # by seq: what the node read, and when
        self.timely: set[str] = set()  # episodes that a fresh reading may have begun
        self.raised: set[str] = set()
        self.asked: list[str] = []
        self.due_ms: dict[str, int] = {}  # of commands, once they are on disk: until when they have to be
        self.executed: list[str] = []  # what the node did, by the ids that it was given
        self.answered: set[str] = set()
        self.sent_when_over: set[str] = set()

    @initialize()
    def begin(self) -> None:
        self.station.power_on()
        self.station.configured()

    # --- what may happen ------------------------------------------------------------------------------------------

    @rule(value=st.sampled_from([20.0, 29.5, 31.0, 35.0]), repeat=st.integers(1, 3), count=st.sampled_from([1, 1, 6]))
    def a_node_reads(self, value: float, repeat: int, count: int) -> None:
        for _ in range(count):
            self.read[len(self.read)] = value, self.station.now_ms
            for _ in range(repeat):
                self._say(len(self.read) - 1)

    @rule(age_s=st.integers(91, 4_000))
    def a_node_tells_of_the_past(self, age_s: int) -> None:
        self.read[len(self.read)] = 35.0, self.station.now_ms - 1_000 * age_s
        self._say(len(self.read) - 1)

    @rule(back=st.integers(1, 12), old=st.booleans())
    def a_node_sends_again(self, back: int, old: bool) -> None:
        if old:
            self.station.reading(25.0, back, boot=BOOT - 1, up_ms=5)
        elif self.read:
            self._say(max(0, len(self.read) - back))

    @rule(value=st.sampled_from([20.0, 21.0, 35.0]))
    def a_bare_board_reads(self, value: float) -> None:
        self.station.raw("nodes", "clawland/sensor-02/temp", orjson.dumps({"value": value}))

    @rule()
    def a_node_reads_under_seal(self) -> None:
        seq = len(self.read)
        self.read[seq] = seal(SEAL_KEY, "sensor-01", "temp", BOOT, seq, "35.00"), self.station.now_ms
        self._say(seq)

    def _say(self, seq: int) -> None:
        value, read_ms = self.read[seq]
        age_ms = self.station.now_ms - read_ms
        if isinstance(value, str):
            payload = messages.encode_reading(value, '"°C"', BOOT, seq, "age_ms", age_ms)
            self.station.raw("nodes", "clawland/sensor-01/temp", payload)
            return
        if age_ms <= self.station.config.late_ms:
            self.timely.add(f"hot:sensor-01:{BOOT}:{seq}")
        self.station.reading(value, seq, age_ms=age_ms)

    @rule(ttl_s=st.sampled_from([20, 600]))
    def the_cloud_commands(self, ttl_s: int) -> None:
        name, station = f"c-{len(self.asked)}", self.station
        self.asked.append(name)
        station.command(name, expires_utc_ms=EPOCH_MS + station.now_ms + 1_000 * ttl_s)
        if self.clock_days <= 0:
            self.due_ms[name] = station.now_ms + 1_000 * ttl_s

    clock_days = 0

    @rule()
    def the_node_answers(self) -> None:
        self._listen()
        for name in self.executed:
            self.station.answer(name)
            self.answered.add(name)

    @rule(boot=st.integers(0, 2))
    def a_node_beats(self, boot: int) -> None:
        self.station.heartbeat(n=1 + len(self.read), boot=BOOT + boot)

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
            self.read[len(self.read)] = 35.0, self.station.now_ms
            self._say(len(self.read) - 1)
            self.station.later(70_000)
        except Crash:
            pass
        self.station.cut_after = None
        self._restart(utc=True)

    @rule(days=st.sampled_from([-1, 0, 1]))
    def its_clock_is_set(self, days: int) -> None:
        station = self.station
        if days > 0:
            self.due_ms.clear()  # by that clock their time is over
        self.clock_days = days
        station.core.learn_utc(EPOCH_MS + station.now_ms + days * DAY_MS, station.now_ms)
        station.pump()

    @rule(utc=st.booleans())
    def it_starts_again(self, utc: bool) -> None:
        self._restart(utc)

    def _restart(self, utc: bool) -> None:
        self._listen()
        self.on_the_way.clear()
        self.answers.clear()
        self.clock_days = 0
        self.station.power_on(utc)

    @rule(full=st.booleans())
    def the_disk_fills_or_clears(self, full: bool) -> None:
        self.station.refuse_stores = full

    @rule(slow=st.booleans())
    def the_disk_is_slow_or_done(self, slow: bool) -> None:
        self.station.hold_stores = True
        if not slow:
            self.station.finish_stores()

    @rule()
    def all_is_well_for_a_minute(self) -> None:
        self.the_uplink_comes()
        for _ in range(5):
            self.station.later(15_000)
            self._listen()
            self.the_cloud_hears_and_answers_all()

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
            for found in readings:
                identity = found["sensor"], found["boot"], found["seq"]
                content = found["metric"], found.get("value"), found.get("sealed"), found.get("unit")
                if self.in_cloud.setdefault(identity, content) != content:
                    self.two_contents.append(identity)
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
        self.raised |= {e["id"] for e in station.events("alert.raised") if e["node"] == "sensor-01"}
        for command in station.to_node("cmd"):
            if command["action"] == "restart":
                self._execute(command["id"])
        station.outputs.clear()
        self.on_the_way = self.on_the_way[-60:]

    def _execute(self, name: str) -> None:
        """A node acts on an id once; one that it has answered, and of which the disk knows no more, is over."""
        if name not in self.executed:
            self.executed.append(name)
        elif name in self.over:
            self.sent_when_over.add(name)

    over: frozenset[str] = frozenset()

    @invariant()
    def nothing_that_was_acknowledged_is_lost(self) -> None:
        self._listen()
        gone = self.acknowledged - set(self.station.on_disk()) - self.in_cloud.keys() - self.lost
        assert not gone

    @invariant()
    def a_reading_is_on_disk_before_its_node_hears_received(self) -> None:
        self._listen()
        assert self.acknowledged <= self.disk.ever

    @invariant()
    def no_reading_goes_up_with_two_contents(self) -> None:
        assert not self.two_contents

    @invariant()
    def the_past_raises_no_alert(self) -> None:
        self._listen()
        assert self.raised <= self.timely

    @invariant()
    def a_command_is_on_disk_until_it_is_answered_or_its_time_is_over(self) -> None:
        station = self.station
        kept = {name.removeprefix("cmd:") for name in station.disk.slots if name.startswith("cmd:")}
        due = {name for name, until_ms in self.due_ms.items() if station.now_ms < until_ms}
        assert due & self.disk.commands - self.answered <= kept
        self.over = frozenset(self.answered - kept)

    @invariant()
    def a_command_reaches_its_node_under_one_id_and_not_when_it_is_over(self) -> None:
        self._listen()
        assert set(self.executed) <= set(self.asked)
        assert not self.sent_when_over

    @invariant()
    def the_outbox_on_disk_is_bounded(self) -> None:
        # What is in flight cannot go to make room, nor can what comes with one commit.
        assert len(self.station.on_disk()) <= 8 + max(8, self.disk.most_at_once)

    def teardown(self) -> None:
        """In the end the cloud is there and answers: everything arrives, and the disk is empty."""
        station = self.station
        station.refuse_stores = False
        station.finish_stores()
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
        self.acknowledged |= station.acknowledged()
        for identity in station.cloud_has:
            self.in_cloud.setdefault(identity, ())
        self.nothing_that_was_acknowledged_is_lost()
