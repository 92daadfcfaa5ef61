"""Whatever is wrong with what a user gives: one clear line for each mistake, quickly, and no traceback."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.command import TINY, assert_refused, clawsim_here, scenario

TIMELINE = 'timeline: [{at: 1 min, fault: cut, on: "gateway-01 <-> cloud", for: 1 min}]\n'
RECORDED = TINY.replace("{constant: 21.5}", "{csv: room.csv, column: temp, time: time}").replace("every: 20 s, ", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(TINY + "expect: [", r"scenario\.yaml:12:\d+: ", id="malformed YAML"),
        pytest.param(TINY.replace("gateways:", "\tgateways:"), r"scenario\.yaml:5:\d+: ", id="a tab"),
        pytest.param("", r"scenario\.yaml(:1:1)?: ", id="empty"),
        pytest.param("- a list\n", r"scenario\.yaml: a scenario is a mapping", id="not a mapping"),
        pytest.param(TINY.replace("5 min", "5"), r"scenario\.yaml:3:11: .*unit", id="no unit"),
        pytest.param(TINY.replace("5 min", "5 parsec"), r"scenario\.yaml:3:11: .*parsec", id="a wrong unit"),
        pytest.param(TINY.replace("5 min", "-5 min"), r"scenario\.yaml:3:11: ", id="a negative time"),
        pytest.param(TINY.replace("20 s", "0 s"), r"scenario\.yaml:11:", id="a period of nothing"),
        pytest.param(TINY.replace("count: 2", "cuont: 2"), r"did you mean '?count", id="an unknown key"),
        pytest.param(TINY.replace("metric: temp", "metric: tmep"), r"did you mean '?temp", id="an unknown metric"),
        pytest.param(TINY.replace(" gateway: g", " gateway: gg"), r"did you mean '?gateway-01", id="no such id"),
        pytest.param(TINY.replace("sensor-{:02d}", "gateway-01").replace("count: 2", "count: 1"), "gateway-01",
                     id="a duplicated id"),
        pytest.param(TINY + "name: again\n", r"scenario\.yaml:12:1: .*name", id="a duplicated key"),
        pytest.param(TINY + TIMELINE.replace("cloud", "clod"), "clod", id="a fault on nothing"),
        pytest.param(TINY + "expect: [{event: node.dwon}]\n", r"did you mean '?node.down", id="an unknown event"),
        pytest.param(TINY.replace("version: 1", "version: 99"), r"scenario\.yaml:1:10: ", id="a version of the future"),
        pytest.param(RECORDED, r"room\.csv", id="a CSV that is not there"),
    ],
)  # fmt: skip
def test_a_bad_scenario_is_refused_with_the_place_of_the_mistake(tmp_path: Path, text: str, said: str) -> None:
    assert_refused(clawsim_here("run", scenario(tmp_path, text)), 2, said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param("time,temp\n2025-01-01T00:00:00,20\n2025-01-01T00:01:00,warm\n", r"room\.csv.*3.*warm", id="text"),
        pytest.param("time,temp\nyesterday,20\n", r"room\.csv.*2.*yesterday", id="a time that is none"),
        pytest.param("time,co2\n2025-01-01T00:00:00,20\n", r"room\.csv.*temp|temp.*room\.csv", id="no such column"),
        pytest.param("time,temp\n", r"room\.csv", id="no rows"),
        pytest.param("", r"room\.csv", id="empty"),
        pytest.param("time,temp\n2025-01-01T00:01:00,20\n2025-01-01T00:00:00,21\n", r"room\.csv.*3", id="backwards"),
    ],
)
def test_a_bad_recording_is_refused_with_its_line(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "room.csv").write_text(content)
    assert_refused(clawsim_here("run", scenario(tmp_path, RECORDED)), 2, said)


def test_gaps_in_a_recording_are_refused_with_the_way_out_and_with_it_are_no_readings(tmp_path: Path) -> None:
    rows = "time,temp\n2025-01-01T00:00:00,20\n2025-01-01T00:01:00,\n2025-01-01T00:02:00,\n2025-01-01T00:03:00,21\n"
    (tmp_path / "room.csv").write_text(rows)
    expect = "expect: [{readings: produced, equals: 4}, {readings: delivered, equals: 4}]\n"
    refused = clawsim_here("run", scenario(tmp_path, RECORDED + expect))
    assert_refused(refused, 2, r"room\.csv:3: no value in column 'temp'.*`gaps: skip`")
    skipping = RECORDED.replace("time: time}", "time: time, gaps: skip}")
    done = clawsim_here("run", scenario(tmp_path, skipping + expect))
    assert done.returncode == 0, done.stdout + done.stderr  # two instants of two nodes


def test_binary_instead_of_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_bytes(os.urandom(4096))
    assert_refused(clawsim_here("run", path), 2, r"scenario\.yaml")


@pytest.mark.parametrize("value", ["0", "-30", "abc", "nan", "inf", "1e9", ""])
def test_a_timescale_that_is_none_is_refused(tmp_path: Path, value: str) -> None:
    done = clawsim_here("run", scenario(tmp_path), "--world", "live", f"--timescale={value}")
    assert_refused(done, 2, "Invalid value for '--timescale'")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("gatways", r"^--real: nothing is called 'gatways': use hub, fleet.*did you mean 'gateways'\?$"),
        ("sensor-09", r"^--real: nothing is called 'sensor-09'"),
        ("", r"^--real: "),
    ],
)
def test_a_part_that_cannot_be_real_is_refused(tmp_path: Path, what: str, said: str) -> None:
    assert_refused(clawsim_here("run", scenario(tmp_path), "--real", what), 2, said)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("seed", r"--set.*seed"),
        ("=7", r"--set"),
        ("fleet.nodes.9.count=3", r"fleet\.nodes\.9"),
        ("fleet.nodes.0.cuont=3", r"did you mean '?count"),
        ("duration=5", r"unit"),
        ("duration=[", r"--set"),
    ],
)
def test_an_override_that_fits_nowhere_is_refused(tmp_path: Path, value: str, said: str) -> None:
    assert_refused(clawsim_here("run", scenario(tmp_path), "--set", value), 2, said)


@pytest.mark.parametrize("value", ["-1", "seven", "1.5", str(2**63)])
def test_a_seed_that_is_none_is_refused_by_the_name_that_it_was_given_by(tmp_path: Path, value: str) -> None:
    assert_refused(clawsim_here("run", scenario(tmp_path), "--seed", value), 2, "Invalid value for '--seed'")


def test_an_option_of_the_live_world_means_nothing_in_the_virtual_one_and_is_refused(tmp_path: Path) -> None:
    assert_refused(
        clawsim_here("run", scenario(tmp_path), "--timescale", "10"), 2, "^--timescale: only with --world live"
    )
    assert_refused(
        clawsim_here("run", scenario(tmp_path), "--broker", "mosquitto"), 2, "^--broker: only with --world live"
    )
