"""Readings in the cloud: stored once, acknowledged after the commit, never lost to a failing database."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fleet.core.ingest import MOST_READINGS
from fleet.core.rows import Secret, Stored
from fleet.core.vault import Vault
from tests.conftest import FULL
from tests.fleet_core.rig import BOOT, EPOCH_MS, Cloud, Crash, Send, Store
from tests.wire.strategies import ANY_JSON, garbage


def test_a_batch_is_stored_and_acknowledged() -> None:
    cloud = Cloud().started()
    cloud.batch("b-1", cloud.reading(21.0, 0), cloud.reading(21.5, 1))
    assert [(row.node, row.boot, row.seq, row.value) for row in cloud.rows()] == [
        ("sensor-01", BOOT, 0, 21.0),
        ("sensor-01", BOOT, 1, 21.5),
    ]
    assert cloud.acks() == ["b-1"]
    assert len(cloud.events("reading.stored")) == 2


def test_a_packed_batch_is_stored_alike() -> None:
    cloud = Cloud().started()
    cloud.batch("b-1", cloud.reading(21.0, 0), packed=True)
    assert len(cloud.rows()) == 1 and cloud.acks() == ["b-1"]


def test_the_acknowledgement_follows_the_commit() -> None:
    cloud = Cloud().started()
    cloud.forget()
    cloud.hold_stores = True
    cloud.batch("b-1", cloud.reading(21.0, 0))
    assert cloud.acks() == [] and cloud.kinds("reading.stored") == []
    cloud.finish_stores()
    assert cloud.acks() == ["b-1"] and cloud.kinds("reading.stored") == ["reading.stored"]


def test_the_same_batch_again_is_acknowledged_again_and_stored_once() -> None:
    cloud = Cloud().started()
    for _ in range(3):
        cloud.batch("b-1", cloud.reading(21.0, 0))
    assert len(cloud.rows()) == 1
    assert cloud.acks() == ["b-1"] * 3
    assert len(cloud.events("reading.redelivered")) == 2


def test_the_same_reading_by_another_gateway_or_batch_or_twice_in_one_is_stored_once() -> None:
    cloud = Cloud().started()
    cloud.batch("b-1", cloud.reading(21.0, 0), cloud.reading(21.0, 0))
    cloud.batch("b-2", cloud.reading(21.0, 0))
    cloud.batch("b-3", cloud.reading(21.0, 0), gateway="gateway-02")
    assert len(cloud.rows()) == 1
    assert len(cloud.events("reading.redelivered")) == 3


def test_what_was_stored_before_a_restart_is_known_after_it() -> None:
    cloud = Cloud().started()
    cloud.batch("b-1", cloud.reading(21.0, 0), cloud.reading(21.0, 1))
    cloud.power_on()
    cloud.heartbeat()
    cloud.batch("b-1", cloud.reading(21.0, 0), cloud.reading(21.0, 1), cloud.reading(21.0, 2))
    assert len(cloud.rows()) == 3 and cloud.acks()[-1] == "b-1"


def test_batches_that_arrive_during_a_commit_wait_for_the_next_and_are_all_acknowledged() -> None:
    cloud = Cloud().started()
    cloud.hold_stores = True
    for number in range(5):
        cloud.batch(f"b-{number}", cloud.reading(21.0, number))
    cloud.batch("b-0", cloud.reading(21.0, 0))
    assert cloud.acks() == []
    cloud.finish_stores()
    assert sorted(set(cloud.acks())) == [f"b-{number}" for number in range(5)]
    assert len(cloud.rows()) == 5


def test_a_batch_whose_commit_failed_is_not_acknowledged_and_counts_as_new_when_it_comes_again() -> None:
    cloud = Cloud().started()
    cloud.refuse_stores = True
    cloud.batch("b-1", cloud.reading(35.0, 0))
    assert cloud.acks() == [] and cloud.rows() == []
    assert "store.failed" in cloud.kinds()
    cloud.refuse_stores = False
    cloud.forget()
    cloud.batch("b-1", cloud.reading(35.0, 0))
    assert cloud.acks() == ["b-1"] and len(cloud.rows()) == 1
    assert cloud.kinds("alert.raised") == ["alert.raised"], "undone with the transaction, and raised now"


def test_what_was_taken_upon_a_commit_that_fails_is_taken_anew_without_it() -> None:
    cloud = Cloud().started()
    cloud.hold_stores = True
    cloud.batch("b-0", cloud.reading(35.0, 0))
    cloud.batch("b-1", cloud.reading(36.0, 1))
    cloud.core.store_failed(cloud.held.pop(0).token, "database is gone", cloud.now_ms)
    cloud.pump()
    cloud.finish_stores()
    assert cloud.acks() == ["b-1"] and [row.seq for row in cloud.rows()] == [1]
    assert [event["id"] for event in cloud.events("alert.raised")] == [f"hot:sensor-01:{BOOT}:1"]
    cloud.batch("b-0", cloud.reading(35.0, 0))
    assert cloud.acks() == ["b-1", "b-0"] and sorted(row.seq for row in cloud.rows()) == [0, 1]


@pytest.mark.parametrize(("quality", "raised"), [("exact", 1), ("corrected", 0), ("estimated", 0)])
def test_how_well_its_time_is_known_is_stored_and_only_the_exact_raises_an_alert(quality: str, raised: int) -> None:
    cloud = Cloud().started()
    cloud.batch("b-0", cloud.reading(35.0, 0, time_quality=quality))
    assert [row.time_quality for row in cloud.rows()] == [quality]
    assert len(cloud.kinds("alert.raised")) == raised


def test_what_becomes_sensitive_while_it_waits_for_the_database_goes_there_closed() -> None:
    cloud = Cloud().started()
    cloud.core.sensitive.vault = Vault([bytes(32)], random.Random(1).randbytes)
    cloud.hold_stores = True
    cloud.batch("b-0", cloud.reading(20.0, 0))
    cloud.batch("b-1", cloud.reading(35.0, 1), cloud.reading(36.0, 1))
    cloud.core.sensitive.put("temp", {"rules": True}, cloud.now_ms)
    cloud.pump()
    cloud.finish_stores()
    assert [type(row.value) is Secret for row in cloud.rows()] == [False, True]
    (raised,) = cloud.events("alert.raised")
    assert raised["value"] is None and raised["sealed"]
    (kept,) = cloud.table("conflicts").values()
    assert kept["doc"]["value"].startswith("~g1.")
    assert cloud.acks() == ["b-0", "b-1"]


def test_a_copy_that_differs_is_kept_aside_closed_when_its_metric_becomes_sensitive_during_the_commit() -> None:
    cloud = Cloud().started()
    cloud.core.sensitive.vault = Vault([bytes(32)], random.Random(1).randbytes)
    cloud.hold_stores = True
    cloud.batch("b-0", cloud.reading(20.0, 0), cloud.reading(4711.0, 0))
    cloud.core.sensitive.put("temp", {"rules": True}, cloud.now_ms)
    cloud.pump()
    cloud.finish_stores()
    (kept,) = cloud.table("conflicts").values()
    assert kept["doc"]["value"].startswith("~g1.") and "4711" not in str(kept)


def test_the_readings_of_a_commit_can_be_told_all_at_once() -> None:
    cloud = Cloud(tells_each_reading=False).started()
    cloud.batch("b-1", cloud.reading(21.0, 0), cloud.reading(21.5, 1))
    cloud.batch("b-2", cloud.reading(21.5, 1))
    told = [[row.seq for row in stored.rows] for stored in cloud.of(Stored) if stored.rows]
    assert told == [[0, 1]] and cloud.kinds("reading.stored") == []
    assert len(cloud.events("reading.redelivered")) == 1


def test_a_commit_takes_no_more_readings_than_its_limit_and_the_rest_follows() -> None:
    cloud = Cloud().started()
    cloud.hold_stores = True
    for number in range(20):
        seqs = range(1_000 * number, 1_000 * (number + 1))
        cloud.batch(f"b-{number}", *(cloud.reading(21.0, seq) for seq in seqs))
    cloud.finish_stores()
    written = [len(write[1]) for store in cloud.of(Store) for write in store.writes if write[0] == "readings"]
    assert written == [1_000, MOST_READINGS, 4_000]
    assert len(cloud.acks()) == 20


def test_a_conflict_is_kept_aside_and_the_first_stands() -> None:
    cloud = Cloud().started()
    cloud.batch("b-1", cloud.reading(21.0, 0))
    cloud.batch("b-2", cloud.reading(99.0, 0))
    assert [row.value for row in cloud.rows()] == [21.0]
    (kept,) = cloud.table("conflicts").values()
    assert kept["doc"]["value"] == 99.0
    assert cloud.events("reading.conflict") == [{"node": "sensor-01", "boot": BOOT, "seq": 0}]
    assert cloud.acks() == ["b-1", "b-2"]
    assert "alert.raised" not in cloud.kinds()


def test_true_and_one_are_two_different_values() -> None:
    cloud = Cloud().started()
    cloud.batch("b-1", cloud.reading(True, 0))
    cloud.batch("b-2", cloud.reading(1, 0))
    assert len(cloud.events("reading.conflict")) == 1


def test_another_time_of_the_same_reading_is_no_conflict() -> None:
    """Gateways reckon the time from what they know of a node's boot: two of them may differ a little."""
    cloud = Cloud().started()
    cloud.batch("b-1", cloud.reading(21.0, 0))
    cloud.batch("b-2", cloud.reading(21.0, 0, age_ms=40), gateway="gateway-02")
    assert cloud.kinds("reading.conflict") == []


def test_a_bare_list_is_stored_under_numbers_of_the_managers_own() -> None:
    cloud = Cloud().started()
    cloud.raw("clawland/gateway-01/batch", b'[{"sensor":"sensor-01","value":25.0},{"sensor":"sensor-01","value":25.0}]')
    assert len(cloud.rows()) == 2
    assert {row.time_quality for row in cloud.rows()} == {"estimated"}


def test_one_reading_that_cannot_be_taken_is_named_and_spoils_no_other() -> None:
    cloud = Cloud().started()
    cloud.batch("b-1", cloud.reading(21.0, 0), cloud.reading([1], 1), cloud.reading(22.0, 2))
    assert [row.seq for row in cloud.rows()] == [0, 2]
    assert cloud.acks() == ["b-1"]
    assert "message.rejected" in cloud.kinds()
    assert [event["seq"] for event in cloud.events("reading.lost")] == [1]


@given(
    garbage("v", "batch", "readings", "n", "sensor", "status", "id", "hash", "alert", "rule", "attach", "item"),
    st.sampled_from(["batch", "batch/gz", "heartbeat", "status", "ack", "config/ack", "config", "x", "batch/x"]),
)
def test_garbage_of_a_gateway_is_counted_and_leaves_nothing_behind(payload: bytes, verb: str) -> None:
    cloud = Cloud().started()
    cloud.batch("b-0", cloud.reading(21.0, 0))
    before = cloud.core.rejected
    cloud.forget()
    cloud.raw(f"clawland/gateway-01/{verb}", payload)
    cloud.later(1_000)
    assert cloud.core.rejected - before == cloud.kinds().count("message.rejected")
    assert any(row.seq == 0 for row in cloud.rows())


@pytest.mark.parametrize(
    "topic", ["clawland/stranger/batch", "clawland/sensor-01/batch", "batch", "", "clawland//batch"]
)
def test_what_no_gateway_of_ours_says_is_counted_and_not_stored(topic: str) -> None:
    cloud = Cloud().started()
    cloud.forget()
    cloud.raw(topic, b'[{"sensor":"sensor-01","value":25.0}]')
    assert cloud.kinds() == ["message.rejected"] and cloud.rows() == []
    assert not cloud.of(Send)


@given(
    st.sampled_from(["alert", "sensor", "rule", "value", "utc_ms", "reading_utc_ms", "attach", "boot", "item"]),
    ANY_JSON,
    st.sampled_from(["alert-raised", "alert-cleared", "up", "down"]),
)
def test_whatever_a_report_says_what_is_kept_of_it_fits_its_columns(name: str, wrong: Any, status: str) -> None:
    """A row that the database cannot take would fail again and again: the report comes until it is acknowledged."""
    cloud = Cloud().started()
    said = {
        "status": status,
        "alert": "hot:sensor-01:1:2",
        "sensor": "sensor-01",
        "rule": "hot",
        "value": 31,
        "attach": 1,
    }
    try:
        cloud.say("gateway-01", "status", **(said | {name: wrong}))
    except TypeError:  # numbers beyond 64 bits, keys that are no text
        return
    for row in cloud.table("alerts").values():
        for column in ("raised_utc_ms", "cleared_utc_ms"):
            assert row[column] is None or (type(row[column]) is int and 0 <= row[column] < 2**63)
        assert all(isinstance(row[column], str) for column in ("id", "node", "rule", "state"))
        assert row["doc"]["value"] is None or isinstance(row["doc"]["value"], int | float | str)
    for row in cloud.table("nodes").values():
        assert row["doc"]["boot"] is None or type(row["doc"]["boot"]) is int


class OnceOnly(RuleBasedStateMachine):
    """Batches come, again, in any order, around crashes and refusing databases: an acknowledged one is stored, once."""

    def __init__(self) -> None:
        super().__init__()
        self.cloud = Cloud()
        self.values: dict[int, float] = {}
        self.acknowledged: set[int] = set()
        self.batches: dict[str, list[int]] = {}

    @initialize()
    def begin(self) -> None:
        self.cloud.started()

    @rule(
        seqs=st.lists(st.integers(0, 30), min_size=1, max_size=5),
        gateway=st.sampled_from(["gateway-01", "gateway-02"]),
        cut=st.none() | st.integers(0, 10),
    )
    def a_batch_comes(self, seqs: list[int], gateway: str, cut: int | None) -> None:
        name = f"b-{len(self.batches)}"
        self.batches[name] = seqs
        self._send(name, gateway, cut)

    @rule(data=st.data(), cut=st.none() | st.integers(0, 10))
    def a_batch_comes_again(self, data: st.DataObject, cut: int | None) -> None:
        if self.batches:
            self._send(data.draw(st.sampled_from(sorted(self.batches))), "gateway-01", cut)

    @rule(refuses=st.booleans())
    def the_database_refuses_or_not(self, refuses: bool) -> None:
        self.cloud.refuse_stores = refuses

    @rule(held=st.booleans())
    def the_database_is_slow_or_not(self, held: bool) -> None:
        self.cloud.hold_stores = held
        if not held:
            self.cloud.finish_stores()
            self._listen()

    @rule(seconds=st.sampled_from([1, 70, 400]))
    def time_passes(self, seconds: int) -> None:
        self.cloud.later(1_000 * seconds)

    def _send(self, name: str, gateway: str, cut: int | None) -> None:
        readings = [self.cloud.reading(20.0 + seq / 2, seq) for seq in self.batches[name]]
        self.cloud.cut_after = cut
        try:
            self.cloud.batch(name, *readings, gateway=gateway)
        except Crash:
            self._listen()
            self.cloud.cut_after = None
            self.cloud.power_on()
        self.cloud.cut_after = None
        self._listen()

    def _listen(self) -> None:
        for gateway in ("gateway-01", "gateway-02"):
            for name in self.cloud.acks(gateway):
                self.acknowledged |= set(self.batches[name])
        self.cloud.forget()

    @invariant()
    def what_was_acknowledged_is_stored(self) -> None:
        assert self.acknowledged <= {row.seq for row in self.cloud.rows()}

    @invariant()
    def nothing_is_stored_that_nobody_sent(self) -> None:
        assert {row.seq for row in self.cloud.rows()} <= {seq for seqs in self.batches.values() for seq in seqs}
        assert all(row.value == 20.0 + row.seq / 2 for row in self.cloud.rows())


TestOnceOnly = OnceOnly.TestCase
TestOnceOnly.settings = settings(
    max_examples=400 if FULL else 30, stateful_step_count=50 if FULL else 25, deadline=None
)


def test_utc_stamps_the_row_but_a_wrong_clock_of_the_manager_changes_no_reading() -> None:
    cloud = Cloud().started()
    cloud.batch("b-1", cloud.reading(21.0, 0, age_ms=50_000))
    (row,) = cloud.rows()
    assert row.utc_ms == EPOCH_MS - 50_000 and row.stored_utc_ms == EPOCH_MS


def test_a_gateway_speaks_for_nodes_of_its_own_site_only() -> None:
    cloud = Cloud().started()
    cloud.heartbeat("gateway-09")
    cloud.forget()
    cloud.batch("b-1", cloud.reading(99.0, 0), cloud.reading(20.0, 0, node="stranger"), gateway="gateway-09")
    assert [row.node for row in cloud.rows()] == ["stranger"], "a node that nobody registered is only listed"
    assert cloud.kinds("alert.raised") == []
    (refused,) = cloud.events("message.rejected")
    assert refused["from"] == "gateway-09" and "another site" in refused["reason"]
    assert [lost["node"] for lost in cloud.events("reading.lost")] == ["sensor-01"]
    assert cloud.acks("gateway-09") == ["b-1"], "or it would come again for ever"
    cloud.batch("b-2", cloud.reading(21.0, 0), gateway="gateway-02")
    assert len(cloud.rows()) == 2, "a fallback of the same site speaks for it"
