"""What comes back: the report, the summary, JUnit, the events, and the same bytes for the same seed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from clawsim.junit import LEDGER, VALIDITY
from tests.cli.command import CLAWSIM, EXPECT_ALL, SCENARIOS, TINY, assert_refused, clawsim, clawsim_here, scenario

SUMMARY = {
    "scenario", "world", "seed", "verdict", "reasons", "simulated_s", "wall_s", "messages", "lag_p99_ms", "trip_lag_ms",
    "remarks", "readings", "expectations", "events_sha256",
}  # fmt: skip
READINGS = {
    "produced", "delivered", "duplicated", "redelivered", "conflict", "unaccounted", "phantom", "lost", "buffered",
    "summarised", "suppressed",
}  # fmt: skip


def test_json_prints_the_summary_and_nothing_else(tmp_path: Path) -> None:
    done = clawsim("run", SCENARIOS / "upload.yaml", "--json", "--out", tmp_path / "out")
    summary = json.loads(done.stdout)
    assert summary.keys() == SUMMARY
    assert summary["readings"].keys() == READINGS
    assert all(each.keys() == {"name", "verdict", "seen"} for each in summary["expectations"])
    assert (summary["scenario"], summary["world"], summary["seed"]) == ("upload", "virtual", 1)
    assert done.stderr == ""
    written = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert written == summary


def test_every_event_is_one_line_with_its_instant_kind_and_speaker(tmp_path: Path) -> None:
    clawsim("run", SCENARIOS / "node-failure.yaml", "--out", tmp_path)
    content = (tmp_path / "events.jsonl").read_bytes()
    events = [json.loads(line) for line in content.splitlines()]
    assert content.endswith(b"\n")
    assert all(list(event)[:3] == ["t_us", "kind", "who"] and isinstance(event["t_us"], int) for event in events)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert hashlib.sha256(content).hexdigest() == summary["events_sha256"]


@pytest.mark.parametrize("name", ["upload", "cloud-outage", "gateway-failover"])
def test_the_same_seed_gives_the_same_bytes_whatever_the_hash_seed(name: str) -> None:
    digests = set()
    for hash_seed in ("0", "1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        digests.add(
            json.loads(clawsim("run", SCENARIOS / f"{name}.yaml", "--json", env=environment).stdout)["events_sha256"]
        )
    assert len(digests) == 1


def test_another_seed_gives_another_run_and_the_same_verdict() -> None:
    summaries = [
        json.loads(clawsim("run", SCENARIOS / "upload.yaml", "--json", "--seed", seed).stdout) for seed in "12"
    ]
    assert [summary["seed"] for summary in summaries] == [1, 2]
    assert summaries[0]["events_sha256"] != summaries[1]["events_sha256"]
    assert [summary["verdict"] for summary in summaries] == ["PASS", "PASS"]


def test_set_overrides_a_value_and_seed_wins_over_it(tmp_path: Path) -> None:
    file = scenario(tmp_path)
    done = clawsim("run", file, "--set", "fleet.nodes.0.count=3", "--set", "seed=5", "--seed", "6", "--json")
    summary = json.loads(done.stdout)
    assert (summary["readings"]["produced"], summary["seed"]) == (3 * 15, 6)


def test_junit_is_what_ci_systems_read(tmp_path: Path) -> None:
    report = tmp_path / "deep" / "junit.xml"
    text = TINY + 'expect: [{readings: produced, equals: 7, name: "<&> \\" and ü"}, {readings: lost, equals: 0}]\n'
    done = clawsim("run", scenario(tmp_path, text), "--junit", report)
    assert done.returncode == 1
    suite = ElementTree.parse(report).getroot()  # noqa: S314 - our own
    assert suite.tag == "testsuite"
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "1", "0")
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == ['<&> " and ü', "readings lost = 0", LEDGER, VALIDITY]
    failure = cases[0].find("failure")
    assert failure is not None
    assert failure.get("message") == "FAIL: 30"
    assert all(case.get("classname") and case.find("failure") is None for case in cases[1:])


def test_junit_shows_an_invalid_run_as_an_error(tmp_path: Path) -> None:
    cut = 'timeline: [{at: 62 s, name: nothing, fault: cut, on: "gateway-01 <-> cloud", for: 1 s}]\n'
    clawsim("run", scenario(tmp_path, TINY + cut + EXPECT_ALL), "--junit", tmp_path / "junit.xml")
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()  # noqa: S314 - our own
    assert (suite.get("failures"), suite.get("errors")) == ("0", "1")
    [case] = [case for case in suite if case.find("error") is not None]
    assert case.get("name") == VALIDITY


def test_junit_of_a_run_with_an_expectation_that_proves_nothing_calls_the_run_invalid_too(tmp_path: Path) -> None:
    expect = "expect: [{event: node.up, who: sensor-01, after: {event: gateway.offline}, within: 10 s}]\n"
    clawsim("run", scenario(tmp_path, TINY + expect), "--junit", tmp_path / "junit.xml")
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()  # noqa: S314 - our own
    assert [case.get("name") for case in suite if case.find("error") is not None][1:] == [VALIDITY]


@pytest.mark.parametrize(
    ("text", "arguments", "why"),
    [
        (TINY.replace("5 min", "5"), [], "scenario.yaml:3:11: duration: a duration needs a unit"),
        (TINY, ["--timescale", "3"], "--timescale: only with --world live"),
        (TINY, ["--nodes-as", "micropython"], "--nodes-as: only with --world live"),
        (TINY, ["--real", "nobody"], "--real: nothing is called 'nobody'"),
        (TINY, ["--out", "/proc/none"], "--out /proc/none: "),
    ],
)
def test_junit_of_what_was_refused_says_why_and_replaces_an_older_one(
    tmp_path: Path, text: str, arguments: list[str], why: str
) -> None:
    report = tmp_path / "junit.xml"
    report.write_text("<testsuite><!-- passed, yesterday --></testsuite>")
    done = clawsim_here("run", scenario(tmp_path, text), "--junit", report, *arguments)
    assert done.returncode == 2
    suite = ElementTree.parse(report).getroot()  # noqa: S314 - our own
    assert (suite.get("tests"), suite.get("errors")) == ("1", "1")
    error = suite.find("testcase/error")
    assert error is not None
    assert why in error.get("message", "")


def test_the_report_tells_the_story_the_ledger_and_each_expectation() -> None:
    done = clawsim("run", SCENARIOS / "cloud-outage.yaml")
    told = [line.strip() for line in done.stdout.splitlines()]
    for said in (
        "is cut",
        "decides alone",
        "which sounds their alarms",
        "has caught up",
        "125  produced",
        "✓  node.down never",
    ):
        assert any(said in line for line in told), said
    assert done.stderr == ""


def test_a_reader_who_goes_away_early_is_no_error_of_ours(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$0" run "$1" | head -1', CLAWSIM, str(SCENARIOS / "upload.yaml")],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["run {0} --json", "check {0}", "schema"])
def test_the_exit_code_is_that_of_the_work_when_nobody_reads_at_all(command: str) -> None:
    """A reader that is gone from the start, so that every write fails."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        done = clawsim(
            *command.format(SCENARIOS / "upload.yaml").split(),
            capture_output=False, stdout=pipe, stderr=subprocess.PIPE,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("command", ["run {0}", "run {0} --json", "check {0}", "schema"])
def test_no_sign_is_too_much_for_an_output_in_another_encoding(tmp_path: Path, encoding: str, command: str) -> None:
    file = scenario(tmp_path, TINY.replace("name: tiny", 'name: tiny\ndescription: "25 °C … ü ⚡ 温"') + EXPECT_ALL)
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = clawsim(*command.format(file).split(), env=environment, encoding=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    if command == "run {0}":
        sign = "✓" if encoding == "utf-8" else "+"
        assert f"{sign}  readings lost = 0" in done.stdout
    if command.endswith("--json"):
        assert json.loads(done.stdout)["verdict"] == "PASS"


# --- places that cannot be written ------------------------------------------------------------------------------------


def test_an_out_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    assert_refused(clawsim("run", scenario(tmp_path), "--out", tmp_path / "out"), 2, r"^--out .*: is not a directory$")
    assert (tmp_path / "out").read_text() == "mine"


def test_an_out_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    assert_refused(clawsim("run", scenario(tmp_path), "--out", "/proc/none/out"), 2, r"^--out /proc/none/out: ")


def test_a_junit_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path) -> None:
    assert_refused(clawsim("run", scenario(tmp_path), "--junit", tmp_path), 2, r"^--junit .*: is a directory")
    assert_refused(
        clawsim("run", scenario(tmp_path), "--junit", "/proc/none/j.xml"), 2, r"^--junit /proc/none/j\.xml: "
    )


@pytest.mark.parametrize("name", ["events.jsonl", "summary.json"])
def test_a_full_disk_is_said_with_the_name_of_the_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("/dev/full")
    done = clawsim("run", SCENARIOS / "upload.yaml", "--out", tmp_path)
    assert_refused(done, 3, rf"^{tmp_path / name}: No space left on device$")


def test_a_full_disk_under_junit_is_said_and_the_verdict_is_not_hidden(tmp_path: Path) -> None:
    done = clawsim("run", SCENARIOS / "upload.yaml", "--junit", "/dev/full")
    assert done.returncode == 3
    assert "/dev/full: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_behind_stdout_is_an_error_not_a_pass() -> None:
    with Path("/dev/full").open("w") as full:
        done = clawsim(
            "run", SCENARIOS / "upload.yaml", "--json", capture_output=False, stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 3
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_called_run_beside_the_results_and_is_not_ours_stays(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious.txt").write_text("mine")
    done = clawsim("run", scenario(tmp_path), "--world", "live", "--out", tmp_path)
    assert_refused(done, 2, "is not the state of an earlier run")
    assert (tmp_path / "run" / "precious.txt").read_text() == "mine"
