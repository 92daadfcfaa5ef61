"""The LoRa port under any order of frames, copies, replays, refusals and restarts, against what it promises.

What a node is told is on disk or in the cloud. An uplink is answered with one text at most, since its nonce serves for
one. No frame is taken twice.
"""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.conftest import FULL
from tests.nanoclaw_core.air import OTHER_EUI, Board, Concentrator, station

ERRORS = [None, "NONE", "TOO_LATE", "COLLISION_PACKET", "TX_FREQ", "NEWS"]


class OnTheAir(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.station = station()
        self.concentrators = [Concentrator(self.station), Concentrator(self.station, OTHER_EUI, 50_002)]
        self.board = Board()
        self.sent: list[bytes] = []
        self.next_seq = 0
        self.told: set[tuple[str, int, int]] = set()
        self.texts: dict[tuple[int, int], set[str]] = {}
        self.taken: list[tuple[Concentrator, int]] = []

    @initialize()
    def begin(self) -> None:
        for concentrator in self.concentrators:
            concentrator.pull()

    # --- what may happen ------------------------------------------------------------------------------------------

    @rule(
        count=st.integers(1, 3),
        asks=st.booleans(),
        by=st.sampled_from([(0,), (1,), (0, 1)]),
        rssi=st.integers(-120, -60),
    )
    def a_node_speaks(self, count: int, asks: bool, by: tuple[int, ...], rssi: int) -> None:
        frame = self.board.readings(*range(self.next_seq, self.next_seq + count), asks=asks)
        self.next_seq += count
        self._heard(frame, by, rssi)

    @rule(back=st.integers(1, 4))
    def a_node_sends_again_what_it_was_not_told_of(self, back: int) -> None:
        if self.next_seq:
            self._heard(self.board.readings(max(0, self.next_seq - back)), (0,), -80)

    @rule()
    def a_node_restarts(self) -> None:
        self.board.boot, self.board.count, self.next_seq = self.board.boot + 1, -1, 0
        self._heard(self.board.heartbeat(), (0,), -80)

    @rule(back=st.integers(1, 5), by=st.sampled_from([0, 1]))
    def somebody_replays(self, back: int, by: int) -> None:
        if self.sent:
            self.concentrators[by].hear(self.sent[-min(back, len(self.sent))])
            self._look()

    @rule(ms=st.sampled_from([1, 150, 250, 500, 900, 5_000, 61_000]))
    def time_passes(self, ms: int) -> None:
        self.station.later(ms)
        self._look()

    @rule(error=st.sampled_from(ERRORS))
    def a_concentrator_answers(self, error: str | None) -> None:
        if self.taken:
            concentrator, token = self.taken.pop(0)
            concentrator.tx_ack(token, error)
            self._look()

    @rule(by=st.sampled_from([0, 1]))
    def a_concentrator_pulls(self, by: int) -> None:
        self.concentrators[by].pull()

    @rule()
    def the_disk_hangs(self) -> None:
        self.station.hold_stores = True

    @rule()
    def the_disk_goes_on(self) -> None:
        self.station.finish_stores()
        self._look()

    @rule()
    def the_gateway_restarts(self) -> None:
        self.station.hold_stores = False
        self.station.power_on()
        self.station.regain_uplink()
        self.taken.clear()
        for concentrator in self.concentrators:
            concentrator.pull()

    # --- what must hold -------------------------------------------------------------------------------------------

    @invariant()
    def what_the_node_was_told_is_kept(self) -> None:
        kept = set(self.station.on_disk()) | set(self.station.cloud_has)
        assert self.told <= kept, f"told and gone: {self.told - kept}"

    @invariant()
    def an_uplink_has_one_answer(self) -> None:
        assert all(len(texts) == 1 for texts in self.texts.values())

    @invariant()
    def the_cloud_has_nothing_twice(self) -> None:
        assert len(self.station.on_disk()) == len(set(self.station.on_disk()))

    def _heard(self, frame: bytes, by: tuple[int, ...], rssi: int) -> None:
        self.sent.append(frame)
        for each in by:
            self.concentrators[each].hear(frame, rssi=rssi - 10 * each)
        self._look()

    def _look(self) -> None:
        """What was sent since: a downlink that the node's last frame opens is believed."""
        for concentrator in self.concentrators:
            for token, txpk in concentrator.downlinks():
                self.taken.append((concentrator, token))
                self._believe(txpk)
        self.station.forget()

    def _believe(self, txpk: dict[str, Any]) -> None:
        try:
            said = self.board.opens(txpk)
        except AssertionError:
            return  # an answer to a frame before the last one, which the node no longer waits for
        self.texts.setdefault((self.board.boot, self.board.count), set()).add(txpk["data"])
        for verb, body in said:
            if verb == "received" and "upto" in body:
                seqs = set(range(body["from"], body["upto"] + 1)) - set(body["missing"])
                self.told |= {("sensor-01", body["boot"], seq) for seq in seqs}


TestOnTheAir = OnTheAir.TestCase
TestOnTheAir.settings = settings(max_examples=400 if FULL else 25, stateful_step_count=40, deadline=None)
