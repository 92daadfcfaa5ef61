"""Gateways, nodes and the cloud together: who has a node, whatever is cut."""

from itertools import pairwise
from typing import Any

from tests.virtual.scenes import Seen, fault, node, run, scene

MIN_S = 60


def site() -> list[dict[str, Any]]:
    """A primary and a secondary that sends nodes home."""
    policy = {"failback": "after", "failback_after": "1 min", "failback_hold": "2 min"}
    return [{"id": "gateway-01", "site": "barn"}, {"id": "gateway-02", "site": "barn", "role": "secondary"} | policy]


def joins(seen: Seen, who: str) -> list[str]:
    return [str(event.fields["gateway"]) for event in seen.of("failover.joined") if event.who == who]


def times_s(seen: Seen, kind: str, **fields: Any) -> list[float]:
    found = [event for event in seen.of(kind) if all(event.fields.get(name) == is_ for name, is_ in fields.items())]
    return [event.t_us / 1e6 for event in found]


def nothing_is_lost(seen: Seen) -> bool:
    account = seen.outcome.account
    return account.produced == account.delivered and account.duplicated == 0


def test_two_gateways_behind_one_cut_link_do_not_fight_over_a_node() -> None:
    seen = run(
        scene(
            duration="40 min",
            gateways=site(),
            timeline=[
                fault("cut", "* <-> cloud", at="2 min", for_="25 min", name="cut"),
                fault("power", "gateway-01", at="4 min", for_="4 min", name="dies"),
            ],
        )
    )
    for who in ("sensor-01", "sensor-02"):
        assert joins(seen, who) == ["gateway-02", "gateway-01"]
    back_s = times_s(seen, "fault.cleared", of="cut")[0]
    assert min(times_s(seen, "failback.ordered")) > back_s + 2 * MIN_S, "not while nobody can say who is up"
    assert nothing_is_lost(seen)


def test_what_two_gateways_decided_about_one_node_in_the_dark_is_one_alert() -> None:
    seen = run(
        scene(
            duration="30 min",
            gateways=[{"id": "gateway-01", "site": "barn"}, {"id": "gateway-02", "site": "barn", "role": "secondary"}],
            nodes=[node(count=1, sensors=[{"metric": "temp", "every": "30 s", "signal": {"constant": 35}}])],
            rules=[{"name": "hot", "when": "temp > 30", "clear": "temp < 29", "action": "alert"}],
            timeline=[
                fault("cut", "* <-> cloud", at="30 s", for_="15 min", name="cut"),
                fault("power", "gateway-01", at="4 min", for_="5 min", name="dies"),
            ],
        )
    )
    told = [event for event in seen.of("notification.sent") if "hot" in str(event.fields["subject"])]
    assert len(told) == 1
    assert nothing_is_lost(seen)


def test_a_primary_that_comes_and_goes_is_not_gone_back_to() -> None:
    on_and_off = [
        fault("power", "gateway-01", at=f"{minute} min", for_="2 min", name=f"off-{minute}")
        for minute in range(2, 18, 3)
    ]
    seen = run(scene(duration="26 min", gateways=site(), timeline=on_and_off))
    for who in ("sensor-01", "sensor-02"):
        assert joins(seen, who) == ["gateway-02", "gateway-01"]
    assert min(times_s(seen, "failback.ordered")) > 19 * MIN_S
    assert nothing_is_lost(seen)


def test_a_node_whose_way_home_is_still_broken_comes_back_and_stays_longer() -> None:
    seen = run(
        scene(
            duration="40 min",
            gateways=site(),
            nodes=[node(count=1)],
            timeline=[fault("cut", "sensor-01 <-> gateway-01", at="2 min", for_="30 min", name="radio")],
        )
    )
    ordered = times_s(seen, "failback.ordered", node="sensor-01")
    gaps = [later - sooner for sooner, later in pairwise(ordered)]
    assert len(ordered) >= 3 and gaps[1] > gaps[0], "each time it is tried, it is later"
    assert joins(seen, "sensor-01")[-1] == "gateway-01"
    assert nothing_is_lost(seen)
