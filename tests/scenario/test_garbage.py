"""Whatever a file holds, loading it gives a plan or a ScenarioError, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from clawsim.scenario import ScenarioError, load
from clawsim.scenario.models import Scenario
from tests.scenario.conftest import CUT, FLEET, HEAD

VALID = (
    HEAD
    + FLEET
    + CUT
    + """\
  - {at: 1 min, name: ask, call: GET /api/nodes}
  - {at: 1 min, inject: x, as: sensor-01, topic: a/b}
rules: [{name: hot, when: "temp > 30", clear: "temp < 29"}]
links: {wifi: {latency: 9 ms}}
expect:
  - {event: gateway.offline, who: gateway-01, after: fault.effective, within: 95 s}
  - {event: alarm.local, who: "sensor-*", during: fault, where: {by: gateway}}
  - {readings: lost, equals: 0}
  - {call: ask, status: 200}
"""
)
FURTHER_WORDS = ("id", "count", "sensors", "signal", "at", "fault", "on", "for", "event", "who", "after")
WORDS = sorted({*Scenario.model_fields, *FURTHER_WORDS})

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(WORDS)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=5), inner),
    max_leaves=15,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("garbage") / "s.yaml"


def _load(path: Path, content: bytes, *overrides: str) -> None:
    path.write_bytes(content)
    try:
        load(path, overrides)
    except ScenarioError as error:
        assert error.problems
        assert all("\n" not in str(problem) and str(problem).isprintable() for problem in error.problems)


@given(
    content=st.binary(max_size=300) | st.text(alphabet="[]{}:,-&*!|>'\"%@`# \n\tab\\0123", max_size=80).map(str.encode)
)
def test_bytes_of_any_kind(path: Path, content: bytes) -> None:
    _load(path, content)


@given(tree=trees)
def test_yaml_of_any_shape(path: Path, tree: Any) -> None:
    _load(path, yaml.safe_dump(tree, allow_unicode=True).encode())


@given(data=st.data())
def test_a_valid_file_with_one_value_replaced_by_anything(path: Path, data: st.DataObject) -> None:
    scenario = yaml.safe_load(VALID)
    where: Any = scenario
    while True:
        keys = list(where) if isinstance(where, dict) else list(range(len(where)))
        key = data.draw(st.sampled_from(keys))
        inner = where[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            where[key] = data.draw(trees)
            break
        where = inner
    _load(path, yaml.safe_dump(scenario, allow_unicode=True).encode())


@given(content=st.data())
def test_a_valid_file_with_a_few_bytes_changed(path: Path, content: st.DataObject) -> None:
    raw = bytearray(VALID.encode())
    for _ in range(content.draw(st.integers(1, 4))):
        raw[content.draw(st.integers(0, len(raw) - 1))] = content.draw(st.integers(0, 255))
    _load(path, bytes(raw))


@given(override=st.text(max_size=40) | st.builds("{}={}".format, st.sampled_from(WORDS), st.text(max_size=20)))
def test_an_override_of_any_kind(path: Path, override: str) -> None:
    _load(path, VALID.encode(), override)


def test_the_file_that_is_changed_here_is_valid(path: Path) -> None:
    path.write_text(VALID)
    assert load(path).expectations
