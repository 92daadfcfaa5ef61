"""``clawsim check`` and ``clawsim schema`` as a person or an editor meets them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clawsim.cli import app
from clawsim.scenario.vocabulary import KINDS
from tests.scenario.conftest import CUT, FLEET, HEAD

SCENARIOS = Path(__file__).parents[2] / "scenarios"


def _check(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["check", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_check_prints_the_expanded_timeline_with_what_is_expected_when() -> None:
    code, out, err = _check(str(SCENARIOS / "cloud-outage.yaml"))
    assert (code, err) == (0, "")
    assert re.search(r"0:05:00 +outage: cut gateway-01 <-> cloud for 10 min", out)
    assert re.search(r"by 0:06:35 +expected: gateway.offline gateway-01 within 95 s after outage", out)
    assert re.search(r"0:15:00 +outage clears", out)
    assert "5 × sensor-01 … sensor-05, microclaw over wifi: temp every 60 s (sine)" in out


@pytest.mark.parametrize(
    ("start", "epoch", "said"),
    [
        ("", "2026-01-01T00:00:00Z", "2 rows, shifted: the first row, 2015-02-04T17:51:00Z, is replayed as "
         "2026-01-01T00:00:00Z, the scenario's `epoch`"),
        (", start: '2015-02-04T17:51:59Z'", "2026-01-01T00:00:00Z", "1 rows, shifted: `start`, 2015-02-04T17:51:59Z, "
         "is replayed as 2026-01-01T00:00:00Z"),
        ("", "2015-02-04T17:51:00Z", "2 rows at their own times"),
        (", start: '2015-02-04T17:00:00Z'", "2015-02-04T17:00:00Z", "2 rows at their own times"),
    ],
)  # fmt: skip
def test_check_says_whether_a_recording_is_shifted_in_time(tmp_path: Path, start: str, epoch: str, said: str) -> None:
    (tmp_path / "r.csv").write_text("time,x\n2015-02-04T17:51:00Z,1\n2015-02-04T17:52:00Z,2\n")
    signal = f"signal: {{csv: r.csv, column: x{start}}}"
    path = tmp_path / "s.yaml"
    path.write_text(f"{HEAD}epoch: '{epoch}'\n" + FLEET.replace("every: 60 s, signal: {constant: 21.5}", signal))
    code, out, err = _check(str(path))
    assert (code, err) == (0, "")
    assert said in " ".join(out.split())


def test_check_takes_overrides() -> None:
    _, out, _ = _check(str(SCENARIOS / "cloud-outage.yaml"), "--set", "fleet.nodes.0.count=50", "--set", "seed=42")
    assert "50 × sensor-01 … sensor-50" in out
    assert "seed 42" in out


def test_check_of_a_bad_file_exits_2_with_every_mistake_on_stderr_and_nothing_on_stdout(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(HEAD + FLEET + CUT.replace("2 min", "2") + "expect: [{event: nope}]\n")
    code, out, err = _check(str(path))
    assert (code, out) == (2, "")
    assert [line.split(":")[1:3] for line in err.splitlines()] == [["12", "62"], ["13", "18"]]


def test_texts_of_a_file_are_shown_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(HEAD + 'description: "[bold]not markup[/bold] :smile:"\n' + FLEET)
    assert "[bold]not markup[/bold] :smile:" in _check(str(path))[1]


def test_events_lists_every_kind_with_its_meaning() -> None:
    result = CliRunner().invoke(app, ["events"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert {line.split(" ")[0] for line in result.stdout.splitlines()} >= KINDS.keys()
    assert re.search(r"alarm\.local +a node's alarm sounded +a node +by, rule, id", result.stdout)


def test_the_schema_knows_units_words_and_every_key() -> None:
    result = CliRunner().invoke(app, ["schema"])
    schema = json.loads(result.stdout)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["properties"]["duration"]["pattern"]
    assert schema["additionalProperties"] is False
    assert "gateway.offline" in schema["$defs"]["EventExpect"]["properties"]["event"]["enum"]
    assert {"at", "fault", "on", "for", "add", "rate", "name"} == set(schema["$defs"]["FaultEntry"]["properties"])
    assert schema["required"] == ["version", "name", "duration", "fleet"]
