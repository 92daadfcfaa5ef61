"""Any part may be real, alone or with others, by its own name or its tier's."""

from dataclasses import replace

import pytest

from clawsim.live.selection import UnknownPart, everything, select
from tests.live.plans import plan

PLAN = plan(nodes=2, gateways=2)


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (["fleet"], {"fleet"}),
        (["hub", "nodes"], {"hub", "sensor-01", "sensor-02"}),
        (["gateways,sensor-02"], {"gateway-01", "gateway-02", "sensor-02"}),
        (["cloud"], {"hub", "fleet"}),
        ([" gateway-01 , "], {"gateway-01"}),
        ([], set()),
    ],
)
def test_names_stand_for_parts(names: list[str], parts: set[str]) -> None:
    assert select(PLAN, names) == parts


def test_all_is_everything() -> None:
    assert select(PLAN, ["all"]) == everything(PLAN) == select(PLAN, ["cloud", "gateways", "nodes"])


def test_a_name_that_is_nothings_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UnknownPart, match=r"nothing is called 'gatway-01'.*did you mean 'gateway-01'"):
        select(PLAN, ["fleet", "gatway-01"])


def test_the_two_ends_of_a_serial_cable_are_real_together_or_not_at_all() -> None:
    cabled = replace(PLAN, nodes=tuple(replace(node, link="serial") for node in PLAN.nodes))
    assert select(cabled, ["gateway-01", "nodes"]) == {"gateway-01", "sensor-01", "sensor-02"}
    with pytest.raises(UnknownPart, match="sensor-01 is at a serial cable of gateway-01: make both real, or neither"):
        select(cabled, ["gateways", "sensor-02"])
