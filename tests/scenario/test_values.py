"""An expectation that nothing can meet is a mistake in the file, not a check that always passes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clawsim.scenario.vocabulary import CLOSED, KINDS, LOST_CAUSES
from tests.scenario.conftest import CUT, Complainer, Loader

ROOT = Path(__file__).parents[2]
RULE = 'rules: [{name: hot, when: "temp > 30"}]\n'
SOURCES = [
    path
    for tree in ("clawsim/virtual", "clawsim/live", "fleet", "nanoclaw", "firmware")
    for path in sorted((ROOT / tree).rglob("*.py"))
]


@pytest.mark.parametrize(
    ("expect", "said"),
    [
        ("{readings: lost, cause: nonsense, equals: 0}", "nothing is lost by 'nonsense'"),
        ("{readings: lost, cause: backlog-ful, equals: 0}", "one of backlog-full, outbox-full, outbox-old, refused"),
        ("{readings: lost, cause: backlog-full at sensor-99, equals: 0}", "unknown place 'sensor-99'"),
        ("{readings: buffered, cause: gatway-01, equals: 0}", "did you mean 'gateway-01'?"),
        ("{readings: delivered, cause: backlog-full, equals: 0}", "not with delivered"),
        ("{event: alarm.local, where: {by: gatway}, equals: 0}", "it is one of node, gateway, cloud"),
        ("{event: alert.raised, where: {by: node}, equals: 0}", "it is one of gateway, cloud"),
        ("{event: alert.raised, where: {rule: hto}, equals: 0}", "never 'hto'; it is one of hot"),
        ("{event: node.down, where: {node: sensor-77}, equals: 0}", "never 'sensor-77'"),
        ("{event: sensor.fault, where: {reason: broken}, equals: 0}", "one of failed, out-of-range, stuck, too-long"),
        (
            "{event: node.down, after: {event: alarm.local, where: {by: x}}, equals: 0}",
            "never 'x'",
        ),
        ("{event: gateway.offline, not_before: 40 min, equals: 0}", "later than the run's end"),
        ("{event: readings.overflow, equals: 0}", "unknown event 'readings.overflow'"),
    ],
)
def test_what_no_event_can_hold_is_refused_with_what_can(complaints: Complainer, expect: str, said: str) -> None:
    [message] = complaints(f"{RULE}{CUT}expect:\n  - {expect}\n")
    assert said in message


@pytest.mark.parametrize("cause", [*LOST_CAUSES, *(f"{cause} at sensor-01" for cause in LOST_CAUSES)])
def test_a_loss_can_be_asked_for_by_cause_and_by_cause_and_place(plan_of: Loader, cause: str) -> None:
    [expectation] = plan_of(f"expect: [{{readings: lost, cause: {cause}, equals: 0}}]\n").expectations
    assert getattr(expectation, "cause", None) == cause


def _said() -> str:
    return "\n".join(path.read_text() for path in SOURCES)


def test_every_kind_of_event_is_said_by_some_code() -> None:
    said = _said()
    built = {"command.acknowledged", "notification.sent", "notification.failed"}  # f"command.{state}" and the like
    assert [kind for kind in KINDS if f'"{kind}"' not in said and kind not in built] == []


def test_every_event_that_code_says_is_in_the_vocabulary() -> None:
    calls = re.findall(r'\b(?:event|emit|_say|say|write|Event)\(\s*(?:[\w.]+, )?"([a-z]+\.[a-z-]+)"', _said())
    assert set(calls) - set(KINDS) - {"client.connected", "client.disconnected"} == set()


def test_every_cause_of_a_loss_is_known_and_said() -> None:
    assert set(re.findall(r'"cause": "([a-z-]+)"', _said())) == set(LOST_CAUSES)


def test_closed_fields_belong_to_kinds_that_have_them() -> None:
    for begins, field in CLOSED:
        kinds = [kind for kind in KINDS.values() if kind.name.startswith(begins)]
        assert kinds and all(field in kind.fields for kind in kinds), (begins, field)
