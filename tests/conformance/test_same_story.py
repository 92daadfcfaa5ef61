"""Whatever is real, the story is the same, as `clawsim compare` tells it."""

from __future__ import annotations

import subprocess

import pytest

from tests.conformance.conftest import LONGEST, ON_MICROPYTHON, SCENARIOS, brokers, mixtures
from tests.conformance.runs import CLAWSIM, Rehearsal, Runs, Spec

pytestmark = [pytest.mark.live, LONGEST]


def _assert_same_story(one: Rehearsal, other: Rehearsal) -> None:
    done = subprocess.run(
        [*CLAWSIM, "compare", str(one.directory), str(other.directory)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "THE SAME STORY" in done.stdout


@pytest.mark.parametrize("spec", [Spec(name, "live") for name in SCENARIOS], ids=str)
def test_the_live_world_tells_the_story_of_the_virtual_one(runs: Runs, spec: Spec) -> None:
    _assert_same_story(runs.get(Spec(spec.scenario)), runs.get(spec))


@pytest.mark.parametrize("spec", [Spec(name, "micropython") for name in ON_MICROPYTHON], ids=str)
def test_nodes_on_micropython_live_the_same_story(runs: Runs, spec: Spec) -> None:
    _assert_same_story(runs.get(Spec(spec.scenario)), runs.get(spec))


@pytest.mark.parametrize("spec", brokers(), ids=str)
def test_mosquitto_gives_the_same_verdict_and_the_same_story_as_the_embedded_broker(runs: Runs, spec: Spec) -> None:
    with_mosquitto = runs.get(spec)
    assert (with_mosquitto.exit_code, with_mosquitto.summary["verdict"]) == (0, "PASS"), with_mosquitto.output
    _assert_same_story(runs.get(Spec(spec.scenario)), with_mosquitto)
    _assert_same_story(runs.get(Spec(spec.scenario, "live")), with_mosquitto)


@pytest.mark.parametrize("spec", mixtures(), ids=str)
def test_any_part_alone_can_be_real(runs: Runs, spec: Spec) -> None:
    mixed = runs.get(spec)
    assert (mixed.exit_code, mixed.summary["verdict"]) == (0, "PASS"), mixed.output
    assert mixed.summary["world"] == "mixed"
    _assert_same_story(runs.get(Spec(spec.scenario)), mixed)
