"""A smallest valid scenario, and the means to change it one place at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from clawsim.scenario import Plan, ScenarioError, load

HEAD = """\
version: 1
name: tiny
duration: 10 min
"""
FLEET = """\
fleet:
  gateways: [{id: gateway-01}, {id: gateway-02}]
  nodes:
    - id: "sensor-{:02d}"
      count: 3
      gateway: gateway-01
      sensors: [{metric: temp, every: 60 s, signal: {constant: 21.5}}]
"""
CUT = """\
timeline:
  - {at: 1 min, fault: cut, on: "gateway-01 <-> cloud", for: 2 min}
"""

Loader = Callable[..., Plan]
Complainer = Callable[..., list[str]]


@pytest.fixture
def plan_of(tmp_path: Path) -> Loader:
    """Loads a scenario text (``HEAD + FLEET`` plus what is given, unless ``whole``) with overrides."""

    def loaded(text: str = "", *overrides: str, whole: bool = False) -> Plan:
        path = tmp_path / "s.yaml"
        path.write_text(text if whole else HEAD + FLEET + text, encoding="utf-8")
        return load(path, overrides)

    return loaded


@pytest.fixture
def complaints(plan_of: Loader, tmp_path: Path) -> Complainer:
    """The problems of a scenario text, each as ``line:column: message``."""

    def of(text: str = "", *overrides: str, whole: bool = False) -> list[str]:
        with pytest.raises(ScenarioError) as caught:
            plan_of(text, *overrides, whole=whole)
        return [str(problem).removeprefix(f"{tmp_path / 's.yaml'}:") for problem in caught.value.problems]

    return of
