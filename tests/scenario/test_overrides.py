"""``--set``: one value from the command line, with messages that point back to it."""

from __future__ import annotations

from tests.scenario.conftest import Complainer, Loader


def test_an_override_replaces_any_value_before_anything_is_checked(plan_of: Loader) -> None:
    plan = plan_of("", "fleet.nodes.0.count=50", "seed=9", "fleet.gateways.1={id: other}")
    assert (len(plan.nodes), plan.seed, plan.gateways[1].id) == (50, 9, "other")


def test_an_override_can_add_a_key(plan_of: Loader) -> None:
    assert plan_of("", "settle=1 min", "links={wifi: {loss: 5 %}}").links["wifi"].loss == 0.05


def test_a_bad_value_is_located_at_its_option(complaints: Complainer) -> None:
    assert complaints("", "duration=5") == [
        "--set duration=5: duration: a duration needs a unit: s, ms, min, h, d (for example '30 s')"
    ]


def test_a_bad_path_says_where_it_stops_existing_and_what_is_there(complaints: Complainer) -> None:
    assert complaints("", "fleet.nodse.0.count=5")[0].endswith("there is no 'nodse' in 'fleet'; did you mean 'nodes'?")
    assert complaints("", "fleet.nodes.7.count=5")[0].endswith(
        "there is no '7' in 'fleet.nodes', a list with positions 0 to 0"
    )
    assert complaints("", "name.x.y=5")[0].endswith("there is no 'x' in 'name', which is the value 'tiny'")
    assert complaints("", "durration=5 s") == ["--set durration=5 s: unknown key 'durration'; did you mean 'duration'?"]


def test_an_override_that_is_none_says_what_it_should_be(complaints: Complainer) -> None:
    assert "expected PATH=VALUE" in complaints("", "duration")[0]
    assert "not YAML" in complaints("", "duration=[")[0]
