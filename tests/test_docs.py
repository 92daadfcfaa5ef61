"""What the documentation says is true: its examples load, its tables are complete, its commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from clawsim.scenario import load
from clawsim.scenario import models as m
from clawsim.scenario import signal_models as s
from clawsim.scenario.base import Strict
from clawsim.scenario.reference import renewed

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "scenarios.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TABLES: dict[str, tuple[type[Strict], ...]] = {
    "## The file": (m.Scenario,),
    "## `fleet`": (m.Fleet,),
    "### `fleet.gateways`": (m.Gateway,),
    "### `fleet.nodes`": (m.NodeGroup,),
    "### `sensors`": (m.Sensor,),
    "A recording goes with these keys:": (s.CsvSignal,),
    "## `links`": (m.Link,),
    "## `rules`": (m.Rule,),
    "### Faults": (m.FaultEntry,),
    "### Calls of the API": (m.CallEntry,),
    "### Injected messages": (m.InjectEntry,),
    "### Events": (m.EventExpect,),
    "| key of `after`": (m.After,),
    "### Readings": (m.ReadingsExpect,),
    "### Answers": (m.CallExpect,),
}
ELSEWHERE = {s.CsvSignal: {"csv", "noise"}}
"""Keys that the text beside the table tells of."""


def examples() -> list[tuple[str, str]]:
    found = [
        (page.name, block)
        for page in PAGES
        for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    ]
    return [(f"{name} {number}", block) for number, (name, block) in enumerate(found, 1)]


@pytest.mark.parametrize("example", [pytest.param(block, id=name) for name, block in examples()])
def test_an_example_of_a_scenario_loads(example: str, tmp_path: Path) -> None:
    (tmp_path / "office.csv").write_text("time,co2_ppm\n2015-02-05T00:00:00Z,410\n2015-02-05T00:01:00Z,420\n")
    path = tmp_path / "example.yaml"
    path.write_text(example if "version:" in example else in_place_of_parts(example), encoding="utf-8")
    load(path)


def in_place_of_parts(example: str) -> str:
    """The first example of the reference, with its parts replaced by those of this one."""
    whole = next(block for name, block in examples() if name.startswith(REFERENCE.name))
    new = set(yaml.safe_load(example))
    parts = re.split(r"^(?=[a-z])", whole, flags=re.MULTILINE)
    return "".join(part for part in parts if part.partition(":")[0] not in new) + example


@pytest.mark.parametrize("heading", TABLES)
def test_a_table_has_every_key_and_no_other(heading: str) -> None:
    _, _, rest = REFERENCE.read_text(encoding="utf-8").partition(f"\n{heading}")
    rows = re.search(r"(?:^\|.*\n)+", rest, re.MULTILINE)
    assert rows is not None, f"no table after {heading}"
    named = set(re.findall(r"^\| `([a-z_]+)` \|", rows[0], re.MULTILINE))
    keys = {key for model in TABLES[heading] for key in set(model.keys()) - ELSEWHERE.get(model, set())}
    assert named == keys


def test_every_kind_of_signal_is_told() -> None:
    _, _, rest = REFERENCE.read_text(encoding="utf-8").partition("\n### `signal`")
    assert re.findall(r"^\| `([a-z]+)` \|", rest.partition("A recording goes")[0], re.MULTILINE) == list(s.SIGNALS)


@pytest.mark.parametrize(
    ("model", "key", "heading"), [(m.FaultEntry, "fault", "| fault | on"), (m.ReadingsExpect, "readings", "| fate")]
)
def test_every_fault_and_every_fate_is_told(model: type[Strict], key: str, heading: str) -> None:
    _, _, rest = REFERENCE.read_text(encoding="utf-8").partition(f"\n{heading}")
    told = re.findall(r"^\| `([a-z]+)` \|", rest.partition("\n\n")[0], re.MULTILINE)
    assert set(told) == set(model.model_json_schema()["properties"][key]["enum"])


def test_the_tables_of_events_and_metrics_are_those_of_the_code() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    assert text == renewed(text), "the code knows other events or metrics: `make docs` renews the tables"


def test_every_file_that_a_page_links_to_is_there() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_scenario_has_its_line_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {path.name for path in (ROOT / "scenarios").glob("*.yaml")} == set(re.findall(r"`([a-z-]+\.yaml)`", readme))


def test_the_readme_shows_what_the_demo_prints_but_for_the_speed_of_the_machine() -> None:
    command = [Path(sys.executable).with_name("clawsim"), "run", "scenarios/cloud-outage.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = readme.partition("$ make demo\n")[2].partition("```")[0]
    assert without_speed(shown) == without_speed(done.stdout)


def without_speed(text: str) -> list[str]:
    lines = [re.sub(r"in [\d.]+ m?s \([\d,]+×\) *", "in … ", line) for line in text.strip().splitlines()]
    return [re.sub(r"─+", "─", line).rstrip() for line in lines]
