"""Every planted bug is caught by the check that exists for it, and the same run without the bug passes."""

import re

import pytest

from tests.planted.catalogue import BUGS, Bug, plant, quiet
from tests.planted.cores import AsksTheWorldForChance, with_
from tests.planted.gateways import GATEWAY_BUGS, GatewayBug, failed_with
from tests.planted.live import LIVE_BUGS, LiveBug, run_disturbed
from tests.virtual.scenes import run


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_bug_is_caught_by_its_check(bug: Bug) -> None:
    outcome = plant(bug).outcome
    reasons = [why for verdict, why in outcome.reasons if verdict == bug.verdict]
    assert any(re.match(bug.caught_by, why) for why in reasons), outcome.reasons
    assert outcome.verdict == bug.verdict and outcome.exit_code != 0


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_same_run_without_it_passes(bug: Bug) -> None:
    outcome = run(bug.plan()).outcome
    assert outcome.verdict == "PASS", outcome.reasons


@pytest.mark.parametrize("bug", GATEWAY_BUGS, ids=lambda bug: bug.name)
def test_a_gateway_that_breaks_a_promise_is_caught_under_any_order_of_events(bug: GatewayBug) -> None:
    assert bug.caught_by in failed_with(bug.core)


def test_a_core_that_draws_its_own_randomness_is_caught_by_comparing_two_runs() -> None:
    planted = with_(node=AsksTheWorldForChance)
    assert run(quiet(), planted).outcome.events_sha256 != run(quiet(), planted).outcome.events_sha256
    assert run(quiet()).outcome.events_sha256 == run(quiet()).outcome.events_sha256


@pytest.mark.live
@pytest.mark.parametrize("bug", LIVE_BUGS, ids=lambda bug: bug.name)
def test_a_fault_that_real_processes_do_not_feel_makes_the_run_invalid(bug: LiveBug) -> None:
    outcome = run_disturbed(bug.world)
    assert ("INVALID", bug.caught_by) in outcome.reasons
    assert (outcome.verdict, outcome.exit_code) == ("INVALID", 4)


@pytest.mark.live
def test_the_same_live_run_without_it_passes() -> None:
    outcome = run_disturbed()
    assert outcome.verdict == "PASS", outcome.reasons
