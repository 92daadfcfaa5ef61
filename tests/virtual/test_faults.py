"""Faults: each kind on each kind of thing strikes, is seen to strike, heals, and costs nothing acknowledged."""

from typing import Any

import pytest

from tests.virtual.scenes import Seen, fault, node, run, scene

ENTITIES = ("sensor-01", "gateway-01", "fleet", "hub")
STARTED = {"sensor-01": "node.started", "gateway-01": "gateway.started", "fleet": "fleet.started", "hub": "hub.started"}


def assert_nothing_is_missing(seen: Seen) -> None:
    account = seen.outcome.account
    assert seen.outcome.verdict == "PASS", seen.outcome.reasons
    assert account.balanced
    assert account.lost.total() == 0 and account.buffered.total() == 0, account.as_json()
    assert account.delivered == account.produced > 0


def assert_told(seen: Seen, name: str, clear_us: int = 180_000_000) -> None:
    """Requested, effective, cleared: three events at the times of the file."""
    of = [(event.kind, event.t_us) for event in seen.events if event.fields.get("of") == name]
    wanted = [("fault.requested", 120_000_000), ("fault.effective", 120_000_000), ("fault.cleared", clear_us)]
    assert of == wanted


@pytest.mark.parametrize("for_", ["10 s", "1 min"])
@pytest.mark.parametrize("on", ENTITIES)
@pytest.mark.parametrize("kind", ["kill", "power"])
def test_what_was_killed_or_lost_its_power_comes_back_and_everything_arrives(kind: str, on: str, for_: str) -> None:
    seen = run(scene(duration="10 min", timeline=[fault(kind, on, for_=for_, name="f")]))
    assert_nothing_is_missing(seen)
    assert_told(seen, "f", 130_000_000 if for_ == "10 s" else 180_000_000)
    starts = [event.t_us for event in seen.of(STARTED[on]) if event.who == on]
    assert len(starts) == 2 and starts[1] > 120_000_000


@pytest.mark.parametrize("on", ENTITIES)
@pytest.mark.parametrize("kind", ["kill", "power", "stop"])
def test_everything_recovers_also_from_five_minutes(kind: str, on: str) -> None:
    seen = run(scene(duration="12 min", timeline=[fault(kind, on, for_="5 min", name="f")]))
    assert_nothing_is_missing(seen)
    assert seen.outcome.simulated_s < 12 * 60 + 120, "it did not end at the limit: all was quiet long before"


@pytest.mark.parametrize("on", ENTITIES)
def test_while_it_is_down_it_says_nothing(on: str) -> None:
    seen = run(scene(duration="8 min", timeline=[fault("power", on, name="f")]))
    silent = [event for event in seen.events if event.who == on and 120_000_000 < event.t_us < 180_000_000]
    assert silent == []


@pytest.mark.parametrize("on", ENTITIES)
def test_what_is_stopped_goes_on_where_it_was(on: str) -> None:
    seen = run(scene(duration="10 min", timeline=[fault("stop", on, name="f")]))
    assert_nothing_is_missing(seen)
    assert_told(seen, "f")
    assert len([event for event in seen.of(STARTED[on]) if event.who == on]) == 1


LINKS = ["sensor-01 <-> gateway-01", "gateway-01 <-> cloud", "hub <-> fleet"]
LINK_FAULTS: list[dict[str, Any]] = [{"kind": "cut"}, {"kind": "delay", "add": "2 s"}, {"kind": "loss", "rate": "50 %"}]


@pytest.mark.parametrize("on", LINKS)
@pytest.mark.parametrize("what", LINK_FAULTS, ids=lambda what: what["kind"])
def test_a_disturbed_link_shows_what_it_touched_and_loses_nothing(what: dict[str, Any], on: str) -> None:
    more = {key: value for key, value in what.items() if key != "kind"}
    seen = run(scene(duration="8 min", timeline=[fault(what["kind"], on, name="f", **more)]))
    assert_nothing_is_missing(seen)
    assert_told(seen, "f")
    (cleared,) = seen.of("fault.cleared")
    assert cleared.fields["touched"] > 0


@pytest.mark.parametrize("on", LINKS)
def test_a_cut_of_five_minutes_costs_nothing_either(on: str) -> None:
    assert_nothing_is_missing(run(scene(duration="12 min", timeline=[fault("cut", on, for_="5 min")])))


def test_nothing_crosses_a_link_that_is_cut() -> None:
    seen = run(scene(duration="8 min", timeline=[fault("cut", "gateway-01 <-> cloud", for_="2 min")]))
    stored = [event.t_us for event in seen.of("reading.stored") if 120_200_000 < event.t_us < 240_000_000]
    assert stored == []


def test_a_delayed_link_delays_by_as_much() -> None:
    command = {"at": "150 s", "name": "c", "call": "POST /api/nodes/sensor-01/restart", "as": "operator"}
    plain = run(scene(timeline=[command]))
    slow = run(scene(timeline=[fault("delay", "gateway-01 <-> cloud", add="4 s"), command]))

    def way_us(seen: Seen) -> int:
        (sent,), (executed,) = seen.of("command.sent"), seen.of("command.executed")
        return executed.t_us - sent.t_us

    assert 4_000_000 <= way_us(slow) - way_us(plain) + 100_000 <= 4_300_000


def test_two_faults_on_one_thing_hold_until_both_are_over() -> None:
    outer = fault("cut", "sensor-01 <-> *", at="2 min", for_="4 min", name="outer")
    inner = fault("delay", "sensor-01 <-> gateway-01", at="3 min", for_="1 min", add="1 s", name="inner")
    seen = run(scene(duration="10 min", timeline=[outer, inner]))
    heard = [event for event in seen.of("node.up", "node.down") if event.fields["node"] == "sensor-01"]
    assert any(event.kind == "node.down" for event in heard)
    assert seen.outcome.account.balanced


def test_a_fault_without_an_end_is_cleared_with_the_duration() -> None:
    seen = run(scene(timeline=[fault("cut", "gateway-01 <-> cloud", at="4 min", for_=None, name="f")]))
    assert [event.t_us for event in seen.of("fault.cleared")] == [360_000_000]
    assert_nothing_is_missing(seen)


TWO = [{"id": "gateway-01"}, {"id": "gateway-02", "role": "secondary"}]


@pytest.mark.parametrize(
    "timeline",
    [
        pytest.param([fault("cut", "sensor-01 <-> gateway-02", name="f")], id="a cut of a link that nobody uses"),
        pytest.param(
            [fault("delay", "sensor-01 <-> gateway-02", add="1 s", name="f")], id="a delay where nothing crosses"
        ),
        pytest.param(
            [
                fault("power", "sensor-01", for_="5 min"),
                fault("loss", "sensor-01 <-> gateway-01", at="3 min", rate="50 %", name="f"),
            ],
            id="a loss towards a node without power",
        ),
        pytest.param(
            [fault("loss", "sensor-01 <-> gateway-01", rate="0.001 %", for_="20 s", name="f")],
            id="a loss too small to lose anything",
        ),
    ],
)
def test_a_fault_without_effect_makes_the_run_invalid(timeline: list[dict[str, Any]]) -> None:
    outcome = run(scene(duration="8 min", gateways=TWO, timeline=timeline)).outcome
    assert outcome.without_effect == ["f"]
    assert outcome.verdict == "INVALID" and outcome.exit_code == 4


def test_a_secondary_gateway_adopts_and_the_primary_lets_go_when_it_returns() -> None:
    seen = run(scene(duration="20 min", gateways=TWO, timeline=[fault("power", "gateway-01", for_="6 min")]))
    assert_nothing_is_missing(seen)
    joined = [event.fields["gateway"] for event in seen.of("failover.joined")]
    assert joined.count("gateway-02") == 2
    assert [event for event in seen.of("node.down") if event.t_us > 500_000_000] == []
    assert seen.world is not None
    assert {view["state"] for view in seen.world.fleet.host.core.node_views()} == {"up"}  # type: ignore[union-attr]


def test_a_backlog_that_overflows_is_counted_as_lost_with_its_cause() -> None:
    seen = run(
        scene(duration="12 min", nodes=[node(count=1, backlog=5)], timeline=[fault("kill", "gateway-01", for_="5 min")])
    )
    account = seen.outcome.account
    assert account.balanced and list(account.lost) == ["backlog-full at sensor-01"]
    assert account.lost.total() >= 8 and account.produced == account.delivered + account.lost.total()


GARBAGE: list[dict[str, Any]] = [
    {"as": "sensor-01", "topic": "clawland/sensor-01/temp", "inject": "not json"},
    {"as": "sensor-01", "topic": "clawland/sensor-01/heartbeat", "inject": {"hex": "ff00ff"}},
    {"as": "sensor-01", "topic": "clawland/sensor-01/temp", "inject": {"text": "x", "times": 2000}},
    {"as": "sensor-01", "topic": "clawland/sensor-02/temp", "inject": {"json": {"value": 99}}},
    {"as": "sensor-01", "topic": "clawland/sensor-02/cmd", "inject": {"json": {"action": "restart", "id": "x"}}},
    {
        "as": "gateway-01",
        "topic": "clawland/gateway-01/batch",
        "inject": {"json": {"v": 7, "batch": "b", "readings": []}},
    },
    {"as": "gateway-01", "topic": "clawland/gateway-01/batch/gz", "inject": "not gzip"},
    {"as": "gateway-01", "topic": "clawland/gateway-01/batch", "inject": {"text": "[", "times": 400000}},
    {
        "as": "gateway-01",
        "topic": "clawland/gateway-02/status",
        "inject": {"json": {"sensor": "sensor-01", "status": "down"}},
    },
    {"as": "gateway-01", "topic": "clawland/gateway-01/cmd", "inject": {"json": {"action": "restart", "id": "x"}}},
]


@pytest.mark.parametrize("injection", GARBAGE, ids=lambda injection: injection["topic"])
def test_garbage_on_any_topic_is_counted_and_costs_nothing(injection: dict[str, Any]) -> None:
    seen = run(scene(timeline=[{"at": "2 min", **injection}]))
    assert len(seen.of("message.rejected")) == 1
    assert_nothing_is_missing(seen)


def test_a_call_while_the_manager_is_down_is_answered_by_nobody_and_the_next_one_works() -> None:
    calls = [
        {"at": at, "name": name, "call": "POST /api/nodes/sensor-01/restart"}
        for at, name in (("130 s", "a"), ("4 min", "b"))
    ]
    seen = run(scene(timeline=[fault("kill", "fleet"), *calls]))
    assert {event.fields["of"]: event.fields["status"] for event in seen.of("call.answered")} == {"a": None, "b": 200}


def test_a_call_during_which_the_manager_dies_is_answered_in_the_end() -> None:
    call = {"at": "119.99 s", "name": "a", "call": "POST /api/nodes/sensor-01/restart"}
    seen = run(scene(timeline=[fault("kill", "fleet"), call]))
    assert len(seen.of("call.answered")) == 1
    assert len(seen.of("command.executed")) <= 1


def test_a_restarting_node_runs_its_command_once_though_its_gateway_dies_in_between() -> None:
    for at in ("119.9 s", "119.95 s", "119.97 s", "119.99 s"):
        call = {"at": at, "name": "a", "call": "POST /api/nodes/sensor-01/restart"}
        seen = run(scene(timeline=[fault("kill", "gateway-01", for_="20 s"), call]))
        assert len(seen.of("command.executed")) == 1
        assert len([event for event in seen.of("node.started") if event.who == "sensor-01"]) == 2
