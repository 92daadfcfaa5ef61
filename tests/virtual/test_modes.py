"""Metered uplinks in a whole run: each reading that does not go up is accounted for by its gateway's own word."""

import io
from typing import Any

import pytest
from rich.console import Console

from clawsim.report import show
from clawsim.scenario import ScenarioError
from clawsim.scenario.plan import Plan
from tests.virtual.scenes import Seen, fault, run, scene

STORM = [
    fault("cut", "gateway-01 <-> cloud", for_="2 min", name="outage"),
    fault("kill", "gateway-01", at="70 s", for_="10 s"),
    fault("power", "fleet", at="5 min", for_="20 s"),
]


def metered(mode: str, **more: Any) -> Plan:
    return scene(duration="8 min", gateways=[{"id": "gateway-01", "modes": {"temp": mode}}], **more)


def counted(seen: Seen) -> int:
    assert seen.world is not None
    told = seen.world.fleet.database.tables.get("node_events", {}).values()
    return sum(row["doc"]["count"] for row in told if row["kind"] == "summary")


def test_through_outages_and_deaths_every_reading_is_in_exactly_one_summary() -> None:
    seen = run(metered("summary", timeline=STORM))
    assert seen.outcome.verdict == "PASS"
    account = seen.outcome.account
    assert account.produced == account.summarised == counted(seen) == 48


def test_what_is_unchanged_is_suppressed_and_said_to_be() -> None:
    seen = run(metered("on_change", timeline=STORM))
    assert seen.outcome.verdict == "PASS"
    account = seen.outcome.account
    assert account.delivered + account.suppressed == account.produced
    assert account.suppressed > 40


def test_the_report_shows_both() -> None:
    out = io.StringIO()
    show(Console(file=out, width=120), run(metered("summary")).outcome, [])
    assert "48  summarised by its gateway, as configured" in out.getvalue()


@pytest.mark.parametrize(
    ("modes", "complaint"),
    [({"tmep": "summary"}, "nobody measures 'tmep'; did you mean 'temp'"), ({"temp": "sumary"}, "summary")],
)
def test_a_mode_that_would_do_nothing_is_refused(modes: dict[str, str], complaint: str) -> None:
    with pytest.raises(ScenarioError, match=complaint):
        scene(gateways=[{"id": "gateway-01", "modes": modes}])
