"""What a person is told about a wrong file: where, what, and what would be right; everything at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from clawsim.scenario import ScenarioError, load
from tests.scenario.conftest import CUT, FLEET, HEAD, Complainer, Loader

BODY_LINE = (HEAD + FLEET).count("\n") + 1


def test_an_unknown_key_is_located_at_the_key_and_the_right_one_suggested(complaints: Complainer) -> None:
    assert complaints("durration: 3 min\n") == [f"{BODY_LINE}:1: unknown key 'durration'; did you mean 'duration'?"]


def test_a_duration_without_unit_is_told_the_units(complaints: Complainer) -> None:
    text = HEAD.replace("10 min", "30") + FLEET
    assert complaints(text, whole=True) == [
        "3:11: duration: a duration needs a unit: s, ms, min, h, d (for example '30 s')"
    ]


def test_a_familiar_spelling_of_a_unit_is_recognised_in_the_message(complaints: Complainer) -> None:
    [message] = complaints(HEAD.replace("10 min", "10 minutes") + FLEET, whole=True)
    assert "unknown unit 'minutes'" in message
    assert "did you mean '10 min'?" in message


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('timeline: [{at: 1 min, fault: cut, on: "gateway-1 <-> cloud"}]', "did you mean 'gateway-01'?"),
        ('timeline: [{at: 1 min, fault: cut, on: "gateway-01 <-> clod"}]', "did you mean 'cloud'?"),
        ("timeline: [{at: 1 min, fault: kil, on: sensor-01}]", "did you mean 'kill'?"),
        ("timeline: [{at: 1 min, fualt: kill, on: sensor-01}]", "it has 'fualt': did you mean 'fault'?"),
        ("expect: [{event: node.dwon}]", "did you mean 'node.down'?"),
        ("expect: [{event: node.down, who: sensor-9}]", "did you mean 'sensor-03'?"),
        ("expect: [{event: alarm.local, where: {buy: cloud}}]", "did you mean 'by'?"),
        ("expect: [{readings: lots, equals: 0}]", "did you mean 'lost'?"),
        ('rules: [{name: hot, when: "tmp > 3"}]', "did you mean 'temp'?"),
    ],
)
def test_every_sort_of_name_has_a_suggestion(complaints: Complainer, body: str, expected: str) -> None:
    [message] = complaints(body)
    assert message.startswith(f"{BODY_LINE}:")
    assert expected in message


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("metric: tmp, every: 60 s, signal: {constant: 1}", "unknown metric 'tmp'; did you mean 'temp'?"),
        ("metric: status, every: 60 s, signal: {constant: 1}", "not a verb such as"),
        ("metric: temp, signal: {constant: 1}", "needs `every`"),
        ("metric: temp, every: 60 s, signal: {sin: {}}", "did you mean 'sine'?"),
        ("metric: temp, every: 60 s, signal: {constant: warm}", "'warm' is not a number"),
        ("metric: door, every: 1 s, signal: {sine: {mean: 1, amplitude: 1, period: 1 s}}", "door is not a number"),
        ("metric: temp, every: 60 s, signal: {ramp: {from: 1, to: 2, over: 0 s}}", "longer than 0"),
        ("metric: temp, every: 60 s, signal: {steps: [{at: 2 s, value: 1}, {at: 1 s, value: 1}]}", "in order of time"),
        ("metric: temp, every: 1 ms, signal: {constant: 1}", "at least 100 ms"),
        ("metric: temp, every: 60 s, range: [9, 1], signal: {constant: 1}", "write [lowest, highest]"),
        ("metric: temp, every: 60 s, signal: {constant: 1e400}", "is not a number"),
    ],
)
def test_a_sensor_that_makes_no_sense_is_refused(complaints: Complainer, line: str, expected: str) -> None:
    fleet = FLEET.replace("metric: temp, every: 60 s, signal: {constant: 21.5}", line)
    assert any(expected in message for message in complaints(HEAD + fleet, whole=True))


def test_all_mistakes_of_a_file_come_at_once_in_its_order(complaints: Complainer) -> None:
    text = (HEAD + FLEET).replace("gateway: gateway-01", "gateway: gateway-1").replace("60 s", "60").replace(
        "name: tiny", "nmae: tiny"
    ) + "expect: [{event: nope}, {readings: lost}]\n"  # fmt: skip
    messages = complaints(text, whole=True)
    places = [tuple(int(part) for part in message.split(":")[:2]) for message in messages]
    assert places == sorted(places)
    expected_words = "unknown key 'nmae'|'name' is missing|unknown gateway|needs a unit|unknown event|needs equals"
    for expected in expected_words.split("|"):
        assert any(expected in message for message in messages), expected
    assert len(messages) == 6


def test_a_node_with_a_mistake_does_not_make_references_to_it_wrong(complaints: Complainer) -> None:
    fleet = FLEET.replace("60 s", "60")
    messages = complaints(HEAD + fleet + "expect: [{event: node.down, who: sensor-01}]\n", whole=True)
    assert len(messages) == 1


@pytest.mark.parametrize("wrong", ["Gateway_01", "gateway_01", "GATEWAY-01", "Gateway 01"])
def test_a_gateway_with_a_bad_id_is_one_error_wherever_else_it_is_named_rightly(
    complaints: Complainer, wrong: str
) -> None:
    fleet = FLEET.replace("{id: gateway-01}", f"{{id: {wrong}}}")
    expect = "expect: [{event: gateway.offline, who: gateway-01, after: fault.effective}]\n"
    [message] = complaints(HEAD + fleet + CUT + expect, whole=True)
    assert f"'{wrong}' is not an id" in message


def test_nodes_with_a_bad_id_are_one_error(complaints: Complainer) -> None:
    fleet = FLEET.replace("sensor-{:02d}", "Sensor_{:02d}")
    expect = "expect: [{event: node.down, who: [sensor-01, Sensor_03]}]\n"
    [message] = complaints(HEAD + fleet + expect, whole=True)
    assert "'Sensor_01' is not an id" in message


def test_rules_are_not_blamed_for_sensors_that_are_missing(complaints: Complainer) -> None:
    fleet = FLEET.replace("[{metric: temp, every: 60 s, signal: {constant: 21.5}}]", "[]")
    [message] = complaints(HEAD + fleet + "rules: [{name: hot, when: temp > 30}]\n", whole=True)
    assert message.endswith("sensors: needs at least 1; it has none")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed=-1", "seed: must be at least 0"),
        ("fleet.nodes.0.count=0", "count: must be at least 1"),
        ("fleet.nodes.0.count=10001", "count: must be at most 10000"),
        ("fleet.nodes.0.sensors=[]", "sensors: needs at least 1; it has none"),
        ("fleet.nodes.0.sensors.0.range=[1, 2, 3]", "range: must be at most 2; there are 3"),
        ("fleet.nodes.0.sensors.0.range=[1, 1e13]", "range: must be at most 1000000000000"),
        ("fleet.nodes.0.sensors.0.unit=a-unit-without-an-end", "unit: must have at most 16 characters"),
        ("seed=9223372036854775808", "seed: must be less than 9223372036854775808"),
    ],
)
def test_a_bound_is_told_in_plain_words(complaints: Complainer, override: str, expected: str) -> None:
    assert f"--set {override}: {expected}" in [message.removesuffix(".0") for message in complaints("", override)]


@pytest.mark.parametrize("on", ["sensor-*", "sensor-0?", "sensor-* <-> gateway-01"])
def test_a_pattern_under_on_is_told_where_patterns_belong(complaints: Complainer, on: str) -> None:
    fault = "cut" if "<->" in on else "kill"
    [message] = complaints(f'timeline: [{{at: 1 min, fault: {fault}, on: "{on}"}}]\n')
    assert "patterns are for `who`; a fault strikes one entity or link, so write an entry for each" in message


@pytest.mark.parametrize("pattern", ["sensor{:d}", "sensor-{n}"])
def test_a_place_for_the_number_that_is_written_otherwise_is_told_how(complaints: Complainer, pattern: str) -> None:
    [message] = complaints("", f'fleet.nodes.0.id="{pattern}"')
    assert "the place for the number is written {}, or {:02d} for two digits" in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"time;x\n2026-01-01T00:00:00Z;1\n", "r.csv:1: its columns are separated by semicolons; save it with commas"),
        (b"time,x,x\n2026-01-01T00:00:00Z,1,2\n", "r.csv:1: has the column 'x' 2 times; rename all but one"),
        (b"time,x\n2026-01-01T00:00:00Z,\xe9\n", "r.csv:2: is not UTF-8 text (perhaps Latin-1)"),
    ],
)
def test_what_spreadsheets_do_to_csv_files_is_recognised(
    complaints: Complainer, tmp_path: Path, content: bytes, expected: str
) -> None:
    (tmp_path / "r.csv").write_bytes(content)
    fleet = FLEET.replace("every: 60 s, signal: {constant: 21.5}", "signal: {csv: r.csv, column: x}")
    [message] = complaints(HEAD + fleet, whole=True)
    assert expected in message


def test_a_duplicate_key_names_the_first(complaints: Complainer) -> None:
    assert complaints("seed: 1\nseed: 2\n") == [
        f"{BODY_LINE + 1}:1: duplicate key 'seed'; the first is at line {BODY_LINE}"
    ]


def test_nodes_and_gateways_share_one_namespace_and_the_first_place_is_named(complaints: Complainer) -> None:
    fleet = FLEET.replace("{id: gateway-02}", "{id: sensor-02}")
    [message] = complaints(HEAD + fleet, whole=True)
    assert "duplicate id 'sensor-02'; the first is at" in message


@pytest.mark.parametrize("reserved", ["cloud", "hub", "fleet"])
def test_the_names_of_the_cloud_are_reserved(complaints: Complainer, reserved: str) -> None:
    assert any(f"'{reserved}' is reserved" in m for m in complaints("", f"fleet.gateways.1.id={reserved}"))


@pytest.mark.parametrize("bad", ["Sensor", "-a", "a" * 33, "a b", '"sensor-{:02x}"', '"{}{}"'])
def test_an_id_that_breaks_the_grammar_is_refused(complaints: Complainer, bad: str) -> None:
    assert complaints("", f"fleet.nodes.0.id={bad}")


def test_a_node_at_a_cable_talks_to_no_other_gateway(complaints: Complainer) -> None:
    entry = '{at: 1 min, fault: cut, on: "sensor-01 <-> gateway-02"}'
    [message] = complaints(f"timeline: [{entry}]", "fleet.nodes.0.link=serial")
    assert "sensor-01 is at a cable of gateway-01, and talks to no other" in message


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ('{at: 1 min, fault: cut, on: "sensor-01 <-> cloud"}', "there is no link between sensor-01 and hub"),
        ("{at: 1 min, fault: cut, on: gateway-01}", "strikes a link"),
        ('{at: 1 min, fault: kill, on: "gateway-01 <-> cloud"}', "strikes one entity"),
        ("{at: 1 min, fault: kill, on: cloud}", "hub (the broker) and fleet (the manager)"),
        ('{at: 1 min, fault: delay, on: "gateway-01 <-> cloud"}', "needs `add`"),
        ('{at: 1 min, fault: loss, on: "gateway-01 <-> cloud", rate: 20}', "needs a unit: %"),
        ('{at: 1 min, fault: cut, on: "gateway-01 <-> cloud", rate: 20 %}', "only a loss has it"),
        ('{at: 11 min, fault: cut, on: "gateway-01 <-> cloud"}', "before the end of `duration`"),
        ('{at: 1 min, fault: cut, on: "gateway-01 <-> *"}', "is unclear"),
        ("{at: 1 min, call: restart sensor-01}", "is not METHOD /path"),
        ("{at: 1 min, inject: x, as: sensor-01, topic: a/#}", "cannot be published"),
        ("{at: 1 min, inject: x, as: nobody, topic: a/b}", "unknown id 'nobody'"),
        ("{at: 1 min, inject: {text: x, times: 1000000, hex: '00'}, as: sensor-01, topic: a/b}", "exactly one of"),
        ("{at: 1 min, inject: {text: xx, times: 1000000}, as: sensor-01, topic: a/b}", "more than 1 MiB"),
    ],
)
def test_an_entry_of_the_timeline_that_cannot_be_done_is_refused(
    complaints: Complainer, entry: str, expected: str
) -> None:
    [message] = complaints(f"timeline: [{entry}]\n")
    assert expected in message


def test_a_fault_cannot_begin_where_the_same_one_still_holds(complaints: Complainer) -> None:
    [message] = complaints(CUT + '  - {at: 2 min, fault: cut, on: "* <-> cloud"}\n')
    assert "'fault-1' still holds on the same target" in message


def test_gateways_of_another_site_are_out_of_a_nodes_reach(complaints: Complainer) -> None:
    text = 'timeline: [{at: 1 min, fault: cut, on: "sensor-01 <-> gateway-02"}]\n'
    [message] = complaints(text, "fleet.gateways.1.site=other")
    assert "are not of one site" in message


@pytest.mark.parametrize(
    ("expectation", "expected"),
    [
        ("{event: gateway.offline, after: fault.effective}", "which fault? The timeline has none"),
        ("{event: gateway.offline, during: fault}", "no single fault"),
        ("{event: gateway.offline, who: sensor-01}", "has no part in gateway.offline"),
        ("{event: gateway.offline, not_before: 2 s, within: 1 s}", "later than within"),
        ("{event: gateway.offline, equals: 1, at_least: 1}", "equals: says it all"),
        ("{event: gateway.offline, at_least: 2, at_most: 1}", "more than at_most"),
        ("{event: gateway.offline, who: 'zz-*'}", "nobody matches"),
        ("{event: gateway.offline, after: outage}", "neither an event nor an entry"),
        ("{event: gateway.offline, of: outage}", "neither the event nor `after`"),
        ("{call: restart, status: 200}", "has no call 'restart'"),
    ],
)
def test_an_expectation_that_can_mean_nothing_is_refused(
    complaints: Complainer, expectation: str, expected: str
) -> None:
    [message] = complaints(f"expect: [{expectation}]\n")
    assert expected in message


def test_with_several_faults_an_expectation_must_say_which(complaints: Complainer) -> None:
    text = CUT + "  - {at: 5 min, fault: kill, on: sensor-01, for: 1 min}\n"
    [message] = complaints(text + "expect: [{event: gateway.offline, after: fault.effective}]\n")
    assert "fault-1, fault-2" in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        ("- a\n", "a scenario is a mapping"),
        ("a: [1\n", "not YAML"),
        ("a:\n\t- b\n", "indent with spaces, not tabs"),
        ("a: b: c\n", "quote a text that contains"),
        ("a: &x [*x]\n", "nested more than"),
        ("a: " + "[" * 2000 + "]" * 2000, "nested"),
        ("a: 1\n---\nb: 2\n", "not YAML"),
        ("a: !!python/object:os.system x\n", "has no meaning in a scenario"),
        ('a: "\\ud800"\n', "U+D800 is not text"),
        ('a: "\\e[2J"\n', "U+001B is not text"),
        ("a: \x00\n", "control character U+0000"),
        ("[a]: 1\n", "a key must be a text"),
    ],
)
def test_what_is_no_scenario_at_all_gets_a_clear_line(complaints: Complainer, text: str, expected: str) -> None:
    assert any(expected in message for message in complaints(text, whole=True))


def test_an_alias_bomb_is_stopped_by_the_number_of_values(complaints: Complainer) -> None:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 8)]
    [message] = complaints("\n".join(["a0: &a0 [1, 2]", *levels]), whole=True)
    assert "more than 100000 values" in message


def test_a_file_that_is_not_there_not_a_file_not_text_or_too_large_says_so(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: caf\xe9\n")
    (tmp_path / "large.yaml").write_bytes(b"#" * 300_000)
    expected = {
        "missing.yaml": "missing.yaml: no such file",
        ".": "is a directory",
        "latin.yaml": "latin.yaml:2:7: is not UTF-8 text: byte 0xe9",
        "large.yaml": "larger than 256 KiB",
        "nul\0.yaml": "cannot be read",
    }
    for name, message in expected.items():
        with pytest.raises(ScenarioError, match=message):
            load(tmp_path / name)


def test_the_list_of_problems_is_bounded_and_says_how_many_more_there_are(complaints: Complainer) -> None:
    messages = complaints("".join(f"k{n}: 1\n" for n in range(300)))
    assert len(messages) == 101
    assert messages[-1].endswith("… and 200 more problems")


def test_the_number_of_nodes_is_bounded(complaints: Complainer) -> None:
    assert any("10000" in message for message in complaints("", "fleet.nodes.0.count=10001"))


def test_an_escape_in_a_message_cannot_steer_the_terminal(plan_of: Loader, tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("time,x\n2026-01-01T00:00:00Z,\x1b[2J\n")
    signal = "metric: temp, signal: {csv: r.csv, column: x}"
    with pytest.raises(ScenarioError) as caught:
        plan_of(HEAD + FLEET.replace("metric: temp, every: 60 s, signal: {constant: 21.5}", signal), whole=True)
    assert "\x1b" not in str(caught.value)
