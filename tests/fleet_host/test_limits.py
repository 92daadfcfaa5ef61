"""How often one may ask."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fleet.host.limits import Limits, Rate, Rates, rates_of
from tests.fleet_host.stand import problem, served

NODES = "/api/v1/fleet/nodes"


@given(st.lists(st.floats(0, 10), max_size=60))
def test_no_pattern_of_requests_gets_more_than_the_burst_and_the_rate(pauses_s: list[float]) -> None:
    now_s, taken = 0.0, 0
    limits = Limits(lambda: now_s)
    for pause_s in pauses_s:
        now_s += pause_s
        wait_s = limits.take("alice", Rate(2, 5))
        assert 0 <= wait_s <= 0.5
        taken += not wait_s
    assert taken <= 5 + 2 * now_s + 1e-6


def test_whoever_waits_as_long_as_told_is_let_in() -> None:
    now_s = 0.0
    limits = Limits(lambda: now_s)
    while not (wait_s := limits.take("alice", Rate(3, 2))):
        pass
    now_s += wait_s + 1e-9
    assert limits.take("alice", Rate(3, 2)) == 0


def test_a_million_strangers_take_bounded_memory_and_nobody_elses_place() -> None:
    limits = Limits(lambda: 0.0, most=100)
    for number in range(10_000):
        limits.take(f"at 10.0.0.{number}", Rate(1, 1))
        limits.take("alice", Rate(1, 20_000))
    assert len(limits) == 100


def test_one_flag_scales_all_rates_in_proportion() -> None:
    assert rates_of(100) == Rates() and rates_of(200).address == Rate(10, 100) and rates_of(0.1).login.burst == 1


async def test_a_caller_who_asks_too_often_is_told_when_to_come_back_and_others_are_served(tmp_path: Path) -> None:
    rates = Rates(caller=Rate(0.5, 3), address=Rate(0.5, 2), login=Rate(0.5, 1))
    async with served(tmp_path, rates=rates) as fleet:
        viewer, operator = fleet.as_role("viewer"), fleet.as_role("operator")
        statuses = [(await fleet.http.get(NODES, headers=viewer)).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        refused = await fleet.http.get(NODES, headers=viewer)
        assert problem(refused) == (429, "too_many_requests") and refused.headers["retry-after"] == "2"
        assert (await fleet.http.get(NODES, headers=operator)).status_code == 200


async def test_strangers_share_their_addresss_rate_and_passwords_have_one_of_their_own(tmp_path: Path) -> None:
    rates = Rates(caller=Rate(0.5, 3), address=Rate(0.5, 2), login=Rate(0.5, 1))
    async with served(tmp_path, rates=rates) as fleet:
        tokens = ["", "Bearer x.y.z", "Bearer reg_made-up", "Basic eA=="]
        statuses = [(await fleet.http.get(NODES, headers={"Authorization": token})).status_code for token in tokens]
        assert statuses == [401, 401, 429, 429]
        login = {"url": "/api/v1/auth/login", "json": {"name": "a", "password": "b"}, "headers": {"Authorization": ""}}
        assert [(await fleet.http.post(**login)).status_code for _ in range(2)] == [401, 429]
        for probe in ("/healthz", "/readyz", "/metrics"):
            assert {(await fleet.http.get(probe)).status_code for _ in range(5)} <= {200, 503}, probe
        assert (await fleet.http.get(NODES)).status_code == 200, "whoever has a token is not held up by the others"
