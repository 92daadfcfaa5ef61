"""LoRa in the virtual world: frames collide, are captured, swallowed and heard twice, and no reading is lost by it."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from clawsim.airbook import ALLOWED_US, AirUse
from clawsim.live.deploy import DeployError
from clawsim.live.handout import Ports, hand_out
from clawsim.propagation import SENSITIVITY_DBM, reach_m, strength_dbm
from clawsim.report import show
from clawsim.run import run_live
from clawsim.scenario import ScenarioError
from tests.virtual.scenes import Seen, fault, run, scene

SOIL = {
    "metric": "soil_moisture", "every": "1 min", "unit": "%", "decimals": 1, "range": [0, 100],
    "signal": {"constant": 40},
}  # fmt: skip
SITE = [{"id": "barn"}, {"id": "house", "role": "secondary"}]


def radio(node_id: str = "soil-{:02d}", count: int | None = 2, **more: Any) -> dict[str, Any]:
    counted = {"count": count} if count else {}
    return {"id": node_id, "gateway": "barn", "link": "lora", "sf": 7, "sensors": [SOIL]} | counted | more


def field(*nodes: dict[str, Any], **parts: Any) -> Any:
    given = {"duration": "30 min", "settle": "1 h", "gateways": [{"id": "barn"}]}
    return scene(nodes=list(nodes), **given | parts)


def causes(seen: Seen) -> set[str]:
    return {event.fields["cause"] for event in seen.of("frame.lost")}


def test_readings_by_radio_arrive_once_and_every_one() -> None:
    seen = run(field(radio(count=5)))
    account = seen.outcome.account
    assert seen.outcome.verdict == "PASS", seen.outcome.reasons
    assert account.produced == account.delivered > 140 and account.duplicated == account.redelivered == 0
    assert len(seen.of("node.up")) == 5 and not seen.of("message.rejected")


def test_two_gateways_hear_one_frame_and_one_of_them_answers() -> None:
    seen = run(field(radio(), gateways=SITE))
    account = seen.outcome.account
    assert account.produced == account.delivered and account.duplicated == 0
    assert account.redelivered > account.produced // 2
    assert {event.who for event in seen.of("downlink.sent")} == {"barn"}


def test_when_the_answering_gateway_dies_another_answers_and_nothing_is_lost() -> None:
    timeline = [fault("power", "barn", at="5 min", for_="15 min")]
    seen = run(field(radio(), gateways=SITE, timeline=timeline, duration="40 min"))
    account = seen.outcome.account
    assert seen.outcome.verdict == "PASS", seen.outcome.reasons
    assert account.produced == account.delivered
    assert {event.who for event in seen.of("downlink.sent")} == {"barn", "house"}


def test_with_no_gateway_at_all_readings_wait_at_the_node() -> None:
    timeline = [fault("power", "barn", at="5 min", for_="15 min")]
    seen = run(field(radio(), timeline=timeline))
    assert seen.outcome.verdict == "PASS", seen.outcome.reasons
    assert seen.outcome.account.produced == seen.outcome.account.delivered


def test_a_node_that_loses_its_power_hands_over_what_it_had_with_its_next_boot() -> None:
    timeline = [fault("cut", "soil-01 <-> barn", at="2 min", for_="10 min"), fault("power", "soil-01", at="8 min")]
    seen = run(field(radio(), timeline=timeline))
    assert seen.outcome.verdict == "PASS", seen.outcome.reasons
    assert seen.outcome.account.produced == seen.outcome.account.delivered
    assert causes(seen) >= {"link"}


def test_bad_air_costs_frames_and_no_reading() -> None:
    timeline = [fault("loss", "soil-01 <-> *", at="1 min", for_="25 min", rate="40 %")]
    seen = run(field(radio(count=3), timeline=timeline))
    assert seen.outcome.verdict == "PASS", seen.outcome.reasons
    assert len(seen.of("frame.lost")) > 10
    assert seen.outcome.account.produced == seen.outcome.account.delivered


def test_a_loss_that_strikes_no_frame_is_no_fault() -> None:
    timeline = [fault("loss", "soil-01 <-> *", at="1 min", for_="1 s", rate="40 %", name="nothing")]
    assert "fault nothing had no effect" in [why for _, why in run(field(radio(), timeline=timeline)).outcome.reasons]


def test_many_nodes_of_equal_strength_collide_and_the_stronger_one_is_heard() -> None:
    crowd = [{**SOIL, "every": "20 s"}]
    far = radio("far-{:02d}", 24, sf=9, distance_m=1500, sensors=crowd, stagger="20 s")
    near = radio("near-01", None, sf=9, distance_m=200, sensors=crowd)
    seen = run(field(far, near, duration="8 min", settle="6 h"))
    assert seen.outcome.account.produced == seen.outcome.account.delivered
    lost = {event.fields["node"] for event in seen.of("frame.lost") if event.fields["cause"] == "collision"}
    assert len(lost) > 15 and "near-01" not in lost
    assert max(use.worst_hour_us for use in seen.outcome.air.values()) <= ALLOWED_US


def test_a_rule_of_the_cloud_sounds_the_alarm_of_a_node_by_radio() -> None:
    hot = {"metric": "temp", "every": "1 min", "signal": {"ramp": {"from": 20, "to": 40, "over": "20 min"}}}
    rule = {"name": "hot", "when": "temp > 30", "clear": "temp < 29", "action": "alert"}
    seen = run(field(radio(sensors=[hot]), rules=[rule]))
    assert {event.who for event in seen.of("alarm.local")} == {"soil-01", "soil-02"}
    assert len(seen.of("command.executed")) == 2


def test_a_sleeping_node_on_the_radio_is_not_taken_for_dead() -> None:
    slow = {**SOIL, "every": "30 min"}
    seen = run(field(radio(sensors=[slow], sleep=True, sf=12, distance_m=5000), duration="6 h", settle="2 h"))
    assert seen.outcome.verdict == "PASS", seen.outcome.reasons
    assert not seen.of("node.down")


def test_radio_and_wifi_share_a_gateway() -> None:
    wifi = {
        "id": "temp-01",
        "gateway": "barn",
        "sensors": [{"metric": "temp", "every": "1 min", "signal": {"constant": 20}}],
    }
    seen = run(field(radio(), wifi))
    assert seen.outcome.verdict == "PASS", seen.outcome.reasons
    assert set(seen.outcome.air) == {"soil-01", "soil-02"}


def test_the_report_and_the_summary_show_what_each_node_used_of_the_air() -> None:
    slow = {**SOIL, "every": "30 min"}
    far = radio("far-{:02d}", 2, sf=12, distance_m=5000, sensors=[slow], stagger="10 min")
    seen = run(field(far, radio(), duration="3 h", settle="2 h"))
    out = io.StringIO()
    show(Console(file=out, width=120), seen.outcome, [])
    (far,) = [line for line in out.getvalue().splitlines() if line.startswith("far-02")]
    use = seen.outcome.as_json()["air"]["far-02"]
    assert f"{use['duty_percent']:.2f} %" in far and 0.5 < use["duty_percent"] <= 1
    assert use["sf"] == 12 and use["merged"] > 3 and use["heartbeats"] > 30


def test_a_node_that_exceeds_its_duty_cycle_fails_the_run() -> None:
    outcome = run(field(radio())).outcome
    outcome.air["soil-01"] = AirUse(12, 1, ALLOWED_US + 1, ALLOWED_US + 36_000)
    assert outcome.verdict == "FAIL"
    assert outcome.reasons == [
        ("FAIL", "soil-01 was on the air for 1.001 % of an hour, more than its duty cycle of 1 %")
    ]


@pytest.mark.parametrize(
    ("real", "named"),
    [({"soil-01"}, "soil-01"), ({"barn"}, "barn"), ({"soil-01", "soil-02", "barn", "hub"}, "soil-01")],
)
def test_what_is_on_the_radio_cannot_be_real_and_the_run_says_so(real: set[str], named: str, tmp_path: Path) -> None:
    outcome = run_live(field(radio()), tmp_path / "run", tmp_path / "out", None, frozenset(real)).outcome
    assert outcome.verdict == "INVALID" and outcome.exit_code == 4
    ((_, why),) = outcome.reasons
    assert why.startswith("no radio here: ") and named in why and "--world virtual" in why
    assert not (tmp_path / "run").exists()


def test_nodes_on_the_radio_are_not_handed_out(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match=r"to be set up by hand .*: soil-01, soil-02"):
        hand_out(field(radio()), tmp_path / "site", Ports())
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"sf": 13}, "must be at most 12"),
        ({"sf": 6}, "must be at least 7"),
        ({"distance_m": 9000}, "nobody hears it beyond 2,223 m; SF8"),
        ({"sf": 12, "distance_m": 99_000}, "at SF12 nobody hears it beyond 8,921 m"),
        ({"link": "wifi"}, "sf: only a node with `link: lora` has it"),
        ({"link": "wifi", "sf": None, "distance_m": 5}, "distance_m: only a node with `link: lora` has it"),
    ],
)
def test_a_radio_that_cannot_be_is_refused(wrong: dict[str, Any], complaint: str) -> None:
    given = {key: value for key, value in {**radio(), **wrong}.items() if value is not None}
    with pytest.raises(ScenarioError, match=complaint):
        field(given)


def test_a_delay_cannot_strike_a_radio() -> None:
    with pytest.raises(ScenarioError, match="a frame by radio cannot be delayed"):
        field(radio(), timeline=[fault("delay", "soil-01 <-> barn", add="1 s")])
    with pytest.raises(ScenarioError, match="link 'lora' has no latency"):
        field(radio(), links={"lora": {"latency": "1 s"}})


def test_a_frame_reaches_as_far_as_its_spreading_factor_carries() -> None:
    for sf, least_dbm in SENSITIVITY_DBM.items():
        assert strength_dbm(reach_m(sf)) >= least_dbm > strength_dbm(reach_m(sf) + 2)
