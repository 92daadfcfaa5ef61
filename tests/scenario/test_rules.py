"""Rules in a scenario file: what they become, and where a mistake is."""

from collections.abc import Callable
from typing import Any

import pytest

from clawsim.scenario import Plan, load
from fleet.wire.expression import parse

HEAD = """version: 1
name: rules
duration: 5 min
fleet:
  gateways: [{id: gateway-01, site: barn}]
  nodes:
    - id: sensor-01
      gateway: gateway-01
      groups: [pumps]
      sensors:
        - {metric: temp, every: 20 s, signal: {constant: 20}}
        - {metric: door, every: 20 s, signal: {constant: true}}
rules:
  - """

Write = Callable[[str], Any]


@pytest.fixture
def plan_of(tmp_path: Any) -> Callable[[str], Plan]:
    def write(rule: str) -> Plan:
        path = tmp_path / "rules.yaml"
        path.write_text(HEAD + rule + "\n")
        return load(path)

    return write


def test_a_rule_is_what_the_fleet_manager_takes(plan_of: Callable[[str], Plan]) -> None:
    rule = (
        '{name: warm, when: "temp > 30 and any(group: pumps, door == true)", for: 5 min, clear: "temp < 20",'
        ' action: both, command: {action: restart}, severity: critical, message: "{node} is {value}", cooldown: 1 h}'
    )
    assert plan_of(rule).rules[0].record() == {
        "name": "warm",
        "when": {"for_ms": 300_000, "of": parse("temp > 30 and any(group: pumps, door == true)")},
        "clear": parse("temp < 20"),
        "action": "both",
        "command": {"action": "restart", "params": {}, "targets": []},
        "severity": "critical",
        "message": "{node} is {value}",
        "cooldown_ms": 3_600_000,
    }


@pytest.mark.parametrize(
    ("rule", "where", "words"),
    [
        ('{name: a, when: "temp > 30 for"}', "rules.yaml:14:21", "column 14"),
        ('{name: a, when: "tmp > 30"}', "rules.yaml:14:21", "temp"),
        ('{name: a, when: "rate(door, 5 min) > 1"}', "rules.yaml:14:21", "only numbers"),
        ('{name: a, when: "any(site: ban, temp > 1)", action: notify}', "rules.yaml:14:21", "barn"),
        ('{name: a, when: "any(group: x, temp > 1)", action: notify}', "rules.yaml:14:21", "no group"),
        ('{name: a, when: "any(fleet, temp > 1)"}', "rules.yaml:14:21", "no single node"),
        ('{name: a, when: "temp > 1", for: 0 s}', "rules.yaml:14:38", "1 ms to 7 days"),
        ('{name: a, when: "temp > 1", for: 8 d}', "rules.yaml:14:38", "1 ms to 7 days"),
        ('{name: a, when: "temp > 1 for 5 s", for: 5 s}', "rules.yaml:14:46", "one of its own"),
        ('{name: a, when: "temp > 1", clear: "door == true"}', "rules.yaml:14:40", "different metrics"),
        ('{name: a, when: "temp > 1", message: "{nose}"}', "rules.yaml:14:42", "{nose}"),
        ('{name: a, when: "temp > 1", action: command}', "rules.yaml:14:41", "need `command`"),
        (
            '{name: a, when: "temp > 1", action: both, command: {action: restart, targets: [sensor-02]}}',
            "rules.yaml:14:56",
            "sensor-01",
        ),
        ('{name: a, when: "temp > 1", cooldown: soon}', "rules.yaml:14:43", "soon"),
    ],
)
def test_a_mistake_is_named_with_file_line_and_column(
    rule: str, where: str, words: str, plan_of: Callable[[str], Plan]
) -> None:
    with pytest.raises(Exception, match=r"\w") as caught:
        plan_of(rule)
    assert where in str(caught.value) and words in str(caught.value), str(caught.value)
