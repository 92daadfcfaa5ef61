"""A second uplink in a rehearsal: it takes over when the first is cut, and the cloud sees what it carries."""

import tempfile
from pathlib import Path
from typing import Any

import pytest

from clawsim.live.selection import everything
from clawsim.run import run_live
from clawsim.scenario import Plan
from clawsim.scenario.errors import ScenarioError
from tests.virtual.scenes import fault, node, run, scene

BACKUP = {"name": "4g", "daily_mb": 1}
TAKES_OVER = [
    {"name": "over", "event": "uplink.switched", "where": {"uplink": "4g"}, "during": "cut", "equals": 1},
    {"name": "back", "event": "uplink.switched", "where": {"uplink": "uplink"}, "after": "cut", "equals": 1},
    {"name": "never offline", "event": "gateway.offline", "equals": 0},
    {"readings": "lost", "equals": 0},
    {"readings": "buffered", "equals": 0},
]


def cut_off(**more: Any) -> Plan:
    cut = fault("cut", "gateway-01 <-> cloud", at="30 s", for_="95 s", name="cut")
    gateway = {"id": "gateway-01", "backup": BACKUP}
    return scene(duration="210 s", gateways=[gateway], timeline=[cut], expect=TAKES_OVER, **more)


def test_the_backup_takes_over_and_the_cloud_knows_what_it_carries() -> None:
    seen = run(cut_off())
    assert seen.outcome.verdict == "PASS", seen.outcome.reasons
    assert seen.world is not None
    health = seen.world.fleet.host.core.gateway_views()[0]["health"]
    primary, backup = health["uplinks"]
    assert (primary["name"], primary["used"], backup["name"], backup["used"]) == ("uplink", True, "4g", False)
    carried = seen.world.links["gateway-01:4g", "hub"].bytes
    assert backup["daily_bytes"] == 1_000_000 and 0.5 < backup["spent_bytes"] / carried < 2


def test_a_gateway_without_a_backup_tells_of_no_uplinks() -> None:
    seen = run(scene(duration="2 min"))
    assert seen.world is not None and "uplinks" not in seen.world.fleet.host.core.gateway_views()[0]["health"]


def test_a_metered_line_alone_makes_batches_rarer() -> None:
    free = run(scene(duration="20 min", nodes=[node(count=6)]))
    metered = run(scene(duration="20 min", nodes=[node(count=6)], gateways=[{"id": "gateway-01", "daily_mb": 1}]))
    assert metered.outcome.verdict == "PASS"
    assert len(metered.of("batch.sent")) * 2 < len(free.of("batch.sent"))


@pytest.mark.parametrize(
    ("backup", "complaint"),
    [
        ({"link": "lta"}, "unknown profile 'lta'; did you mean 'lte'?"),
        ({"name": "uplink"}, "name: 'uplink' is what the first uplink is called"),
        ({"daily_mb": 0}, "daily_mb"),
    ],
)
def test_a_backup_that_cannot_be_is_refused(backup: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ScenarioError) as error:
        scene(gateways=[{"id": "gateway-01", "backup": backup}])
    assert complaint in str(error.value)


@pytest.mark.live
def test_real_processes_go_over_to_the_backup_and_back_as_virtual_ones_do() -> None:
    plan = cut_off()
    with tempfile.TemporaryDirectory() as directory:
        done = run_live(plan, Path(directory) / "run", None, None, everything(plan), timescale=60.0, broker="embedded")
    assert done.outcome.verdict == "PASS", done.outcome.reasons
