"""The exit code says whose turn it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clawsim.cli import app
from tests.cli.command import EXPECT_ALL, TINY, assert_refused, clawsim, scenario


def test_0_when_everything_is_as_expected(tmp_path: Path) -> None:
    done = clawsim("run", scenario(tmp_path, TINY + EXPECT_ALL))
    assert (done.returncode, done.stderr) == (0, "")
    assert "PASS" in done.stdout


def test_1_when_an_expectation_failed_and_it_says_which_and_what_was_seen(tmp_path: Path) -> None:
    done = clawsim("run", scenario(tmp_path, TINY + "expect: [{readings: produced, equals: 7}]\n"))
    assert done.returncode == 1
    assert "FAIL: readings produced = 7: 30" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "Missing argument 'FILE'"),
        (["run", "none.yaml"], r"^none\.yaml: no such file|^none\.yaml: .*No such file"),
        (["run", "."], r"^\.: "),
        (["run", "x.yaml", "--colour"], "No such option: --colour"),
        (["run", "x.yaml", "--world", "moon"], "Invalid value for '--world'"),
        (["rnu"], "No such command 'rnu'"),
    ],
)
def test_2_when_the_command_line_is_wrong(tmp_path: Path, arguments: list[str], said: str) -> None:
    assert_refused(clawsim(*arguments, cwd=tmp_path), 2, said)


def test_3_when_mosquitto_is_wanted_and_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clawsim.live.run._which", lambda program: None)
    arguments = ["run", str(scenario(tmp_path)), "--world", "live", "--broker", "mosquitto"]
    done = CliRunner().invoke(app, arguments)
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr == "the broker Mosquitto is not installed: apt-get install mosquitto\n"


def test_4_when_a_fault_touched_nothing(tmp_path: Path) -> None:
    cut = 'timeline: [{at: 62 s, name: nothing, fault: cut, on: "gateway-01 <-> cloud", for: 1 s}]\n'
    done = clawsim("run", scenario(tmp_path, TINY + cut))
    assert done.returncode == 4
    assert "INVALID: fault nothing had no effect" in done.stdout


def test_4_when_an_expectation_counts_from_something_that_never_happened(tmp_path: Path) -> None:
    expect = "expect: [{event: node.up, who: sensor-01, after: {event: gateway.offline}, within: 10 s}]\n"
    done = clawsim("run", scenario(tmp_path, TINY + expect))
    assert done.returncode == 4
    assert "gateway.offline never happened" in done.stdout


def test_invalid_outweighs_failed(tmp_path: Path) -> None:
    cut = 'timeline: [{at: 62 s, name: nothing, fault: cut, on: "gateway-01 <-> cloud", for: 1 s}]\n'
    done = clawsim("run", scenario(tmp_path, TINY + cut + "expect: [{readings: produced, equals: 7}]\n"), "--json")
    assert (done.returncode, json.loads(done.stdout)["verdict"]) == (4, "INVALID")
    assert len(json.loads(done.stdout)["reasons"]) == 2
