"""What a valid file becomes."""

from __future__ import annotations

from pathlib import Path

import pytest

from clawsim.scenario import Plan, load
from clawsim.scenario.plan import (
    Anchor,
    CallAction,
    CallExpectation,
    EventExpectation,
    FaultAction,
    InjectAction,
    ReadingsExpectation,
)
from clawsim.scenario.vocabulary import FATES, KINDS
from firmware.hal.signals import signal_from_spec
from tests.scenario.conftest import CUT, FLEET, HEAD, Loader

SCENARIOS = sorted((Path(__file__).parents[2] / "scenarios").glob("*.yaml"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_every_scenario_of_the_project_is_valid_and_says_what_it_is_about(path: Path) -> None:
    plan = load(path)
    assert plan.name == path.stem
    assert plan.description
    assert plan.expectations


def test_a_group_expands_to_numbered_nodes_with_the_metrics_defaults(plan_of: Loader) -> None:
    plan = plan_of()
    assert [node.id for node in plan.nodes] == ["sensor-01", "sensor-02", "sensor-03"]
    [sensor] = plan.nodes[0].sensors
    assert (sensor.unit, sensor.resolution_exp, sensor.low, sensor.high, sensor.every_ms) == (
        "°C", 2, -4000, 8500, 60_000,
    )  # fmt: skip
    assert signal_from_spec(sensor.signal).value_at(0) == 2150


def test_numbering_can_begin_anywhere(plan_of: Loader) -> None:
    assert plan_of("", "fleet.nodes.0.start=99").nodes[1].id == "sensor-100"


def test_both_spellings_of_picoclaw_mean_it(plan_of: Loader) -> None:
    assert plan_of("", "fleet.nodes.0.type=picclaw").nodes[0].type == "picoclaw"


def test_a_metric_of_ones_own_describes_itself(plan_of: Loader) -> None:
    sensor = "{metric: flow, unit: l/min, decimals: 1, range: [0, 50], every: 1 s, signal: {constant: 3.25}}"
    [plan] = plan_of("", f"fleet.nodes.0.sensors=[{sensor}]").nodes[0].sensors
    assert (plan.unit, plan.high, signal_from_spec(plan.signal).value_at(0)) == ("l/min", 500, 32)


def test_power_on_is_spread_by_each_nodes_own_draw(plan_of: Loader) -> None:
    few = plan_of("", "fleet.nodes.0.stagger=60 s")
    many = plan_of("", "fleet.nodes.0.stagger=60 s", "fleet.nodes.0.count=40")
    assert [node.power_on_us for node in few.nodes] == [node.power_on_us for node in many.nodes[:3]]
    instants = {node.power_on_us for node in many.nodes}
    assert len(instants) > 30
    assert max(instants) <= 60_000_000


def test_adding_a_node_changes_no_other_nodes_noise(plan_of: Loader) -> None:
    noisy = "fleet.nodes.0.sensors.0.signal.noise=0.5"
    few, many = plan_of("", noisy), plan_of("", noisy, "fleet.nodes.0.count=9")
    assert few.nodes == many.nodes[:3]
    assert len({str(node.sensors[0].signal["seed"]) for node in many.nodes}) == 9


def test_links_have_defaults_that_a_file_changes_in_part(plan_of: Loader) -> None:
    links = plan_of("links: {uplink: {latency: 300 ms}, bad-wifi: {loss: 10 %}}\n").links
    assert (links["uplink"].latency_us, links["uplink"].jitter_us) == (300_000, 10_000)
    assert links["bad-wifi"].loss == 0.1


def test_a_cut_of_the_cloud_is_the_gateways_link_to_the_hub(plan_of: Loader) -> None:
    [cut] = plan_of(CUT).timeline
    assert cut == FaultAction(
        "fault-1",
        60_000_000,
        "cut",
        "gateway-01 <-> cloud",
        links=(("gateway-01", "hub"),),
        for_us=120_000_000,
    )


def test_wildcards_expand_to_every_link_they_mean(plan_of: Loader) -> None:
    plan = plan_of(
        "timeline:\n"
        '  - {at: 1 s, fault: cut, on: "sensor-01 <-> *", for: 1 s}\n'
        '  - {at: 1 s, fault: loss, on: "cloud <-> *", rate: 20 %}\n'
        '  - {at: 1 s, fault: delay, on: "fleet <-> hub", add: 500 ms}\n'
    )
    first, second, third = plan.timeline
    assert isinstance(first, FaultAction) and isinstance(second, FaultAction) and isinstance(third, FaultAction)
    assert first.links == (("sensor-01", "gateway-01"), ("sensor-01", "gateway-02"))
    assert (second.links, second.rate) == ((("gateway-01", "hub"), ("gateway-02", "hub")), 0.2)
    assert (third.links, third.add_us, third.for_us) == ((("hub", "fleet"),), 500_000, None)


def test_the_timeline_is_in_order_of_time_whatever_the_order_of_the_file(plan_of: Loader) -> None:
    plan = plan_of(
        "timeline:\n"
        "  - {at: 3 min, call: POST /api/nodes/sensor-01/restart, body: {ttl: 5}, as: admin}\n"
        "  - {at: 1 min, inject: garbage, as: sensor-01, topic: clawland/sensor-01/temp}\n"
        "  - {at: 2 min, inject: {hex: 00ff, times: 2}, as: gateway-02, topic: clawland/gateway-02/batch}\n"
    )
    assert list(plan.timeline) == [
        InjectAction("inject-1", 60_000_000, "sensor-01", "gateway-01", "clawland/sensor-01/temp", b"garbage"),
        InjectAction("inject-2", 120_000_000, "gateway-02", "hub", "clawland/gateway-02/batch", b"\0\xff\0\xff"),
        CallAction("call-1", 180_000_000, "POST", "/api/nodes/sensor-01/restart", {"ttl": 5}, "admin"),
    ]


def _expectations(plan: Plan) -> list[EventExpectation]:
    return [found for found in plan.expectations if isinstance(found, EventExpectation)]


def test_an_anchor_at_a_fault_names_the_only_fault(plan_of: Loader) -> None:
    plan = plan_of(
        CUT
        + "expect: [{event: gateway.offline, who: gateway-01, after: fault.effective, not_before: 50 s, within: 95 s}]"
    )
    assert _expectations(plan) == [
        EventExpectation(
            "gateway.offline gateway-01 not before 50 s within 95 s after fault-1",
            "gateway.offline",
            who="gateway-01",
            after=Anchor("fault.effective", of="fault-1"),
            no_sooner_than_us=50_000_000,
            within_us=95_000_000,
            at_least=1,
        )
    ]


def test_after_the_name_of_an_entry_counts_from_its_beginning(plan_of: Loader) -> None:
    text = "timeline: [{at: 1 min, name: ask, call: GET /api/nodes}]\nexpect:\n"
    plan = plan_of(text + "  - {event: node.up, after: ask}\n  - {call: ask, status: 200, body: {a: 1}, within: 2 s}\n")
    assert _expectations(plan)[0].after == Anchor("call.sent", of="ask")
    assert plan.expectations[1] == CallExpectation("call ask: 200 [a=1] within 2 s", "ask", 200, {"a": 1}, 2_000_000)


def test_whom_an_event_is_about_becomes_the_field_that_holds_it(plan_of: Loader) -> None:
    down, told = _expectations(
        plan_of("expect: [{event: node.down, who: sensor-02}, {event: node.down, who: gateway-01}]")
    )
    assert (down.who, down.where) == (None, {"node": "sensor-02"})
    assert (told.who, told.where) == ("gateway-01", {})


def test_a_pattern_of_ids_is_an_expectation_of_each(plan_of: Loader) -> None:
    found = _expectations(plan_of('expect: [{event: alarm.local, who: "sensor-*", where: {by: gateway}, equals: 1}]'))
    assert [(one.who, one.equals, one.at_least) for one in found] == [(f"sensor-0{n}", 1, None) for n in (1, 2, 3)]


def test_the_same_in_an_anchor_is_whoever_the_expectation_is_about(plan_of: Loader) -> None:
    text = 'expect: [{event: failover.joined, who: "sensor-*", after: {event: node.down, who: same}, within: 30 s}]'
    anchors = [one.after for one in _expectations(plan_of(text))]
    assert anchors == [Anchor("node.down", where={"node": f"sensor-0{n}"}) for n in (1, 2, 3)]


def test_during_fault_means_the_only_one(plan_of: Loader) -> None:
    [found] = _expectations(plan_of(CUT + "expect: [{event: alarm.local, during: fault, at_least: 2}]"))
    assert (found.during, found.at_least) == ("fault-1", 2)


def test_names_of_expectations_are_all_different(plan_of: Loader) -> None:
    plan = plan_of("expect: [{readings: lost, equals: 0}, {readings: lost, equals: 0}, {event: node.up, name: x}]")
    assert [one.name for one in plan.expectations] == ["readings lost = 0", "readings lost = 0 (2)", "x"]
    assert plan.expectations[0] == ReadingsExpectation("readings lost = 0", "lost", equals=0)


def test_the_key_on_is_a_key_and_not_a_boolean(plan_of: Loader) -> None:
    assert plan_of("timeline: [{at: 1 s, fault: kill, on: sensor-01, for: 1 s}]").timeline[0].name == "fault-1"


def test_loading_twice_gives_equal_plans(plan_of: Loader) -> None:
    assert plan_of(CUT) == plan_of(CUT)


def test_five_hundred_nodes_load_quickly_enough_to_wait_for(plan_of: Loader) -> None:
    assert len(plan_of("", "fleet.nodes.0.count=500", "fleet.nodes.0.id=n-{}").nodes) == 500


def test_the_vocabulary_explains_every_word() -> None:
    assert all(kind.meaning and (kind.about is None or kind.about in kind.fields) for kind in KINDS.values())
    assert "lost" in FATES


def test_a_recording_is_found_beside_the_scenario_and_replayed_at_its_own_times(
    plan_of: Loader, tmp_path: Path
) -> None:
    (tmp_path / "room.csv").write_text("time,co2_ppm\n2015-02-04T17:51:00Z,721.2\n2015-02-04T17:51:59Z,714\n")
    text = HEAD + FLEET.replace(
        "metric: temp, every: 60 s, signal: {constant: 21.5}",
        "metric: co2, signal: {csv: room.csv, column: co2_ppm}",
    )
    [sensor] = plan_of(text, whole=True).nodes[0].sensors
    assert sensor.every_ms is None
    assert list(signal_from_spec(sensor.signal).instants()) == [(0, 7212), (59_000, 7140)]


def test_a_broken_recording_is_reported_at_the_signal_with_its_own_lines(plan_of: Loader, tmp_path: Path) -> None:
    from clawsim.scenario import ScenarioError

    (tmp_path / "room.csv").write_text("time,co2\n2015-02-04T17:51:00Z,x\n2015-02-04T17:52:00Z,\n")
    text = HEAD + FLEET.replace(
        "metric: temp, every: 60 s, signal: {constant: 21.5}", "metric: co2, signal: {csv: room.csv, column: co2}"
    )
    with pytest.raises(ScenarioError) as caught:
        plan_of(text, whole=True)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert "s.yaml:10:" in lines[0] and "room.csv:2: 'x' in column 'co2' is not a number" in lines[0]
    assert "room.csv:3: no value in column 'co2'" in lines[1] and "gaps: skip" in lines[1]
