"""What rules come to in the fleet manager: time, restarts, commands, cooldown, maintenance, capabilities."""

from typing import Any

import pytest

from fleet.wire.expression import parse
from tests.fleet_core.rig import BOOT, EPOCH_MS, HOT, KEYS, QUIET_MS, Cloud, Notify

SILENT = {"name": "silent", "when": parse("absent(temp, 10 min)"), "clear": None, "action": "notify"}
LONG = HOT | {"name": "long", "when": parse("temp > 30 for 5 min"), "action": "notify"}
MIN_MS = 60_000


def with_rules(*rules: dict[str, Any], **config: Any) -> Cloud:
    cloud = Cloud(**config)
    cloud.rules = list(rules)
    cloud.started().forget()
    return cloud


def again(cloud: Cloud, *rules: dict[str, Any]) -> None:
    """The manager dies, and begins again with these rules."""
    cloud.rules = list(rules)
    cloud.power_on()
    cloud.heartbeat()


def raised(cloud: Cloud) -> list[tuple[str, str | None]]:
    return [(event["rule"], event.get("node")) for event in cloud.events("alert.raised")]


def subjects(cloud: Cloud) -> list[str]:
    return [notify.subject for notify in cloud.of(Notify)]


def test_data_that_stays_away_is_an_alert_at_its_very_millisecond_and_over_with_the_next_reading() -> None:
    cloud = with_rules(SILENT)
    cloud.batch("b-1", cloud.reading(21, 5))
    cloud.alive_for(10 * MIN_MS - 1)
    assert raised(cloud) == []
    cloud.later(1)
    assert raised(cloud) == [("silent", "sensor-01")]
    assert cloud.events("alert.raised")[0]["id"] == f"silent:sensor-01:{BOOT}:5"
    assert cloud.events("alert.raised")[0]["value"] == 21
    cloud.batch("b-2", cloud.reading(21, 6))
    assert len(cloud.events("alert.cleared")) == 1


def test_a_restart_neither_forgets_a_silence_nor_counts_it_anew() -> None:
    cloud = with_rules(SILENT)
    cloud.batch("b-1", cloud.reading(21, 5))
    cloud.alive_for(8 * MIN_MS)
    again(cloud, SILENT)
    cloud.alive_for(2 * MIN_MS - 1)
    assert raised(cloud) == []
    cloud.later(1)
    assert raised(cloud) == [("silent", "sensor-01")]
    again(cloud, SILENT)
    cloud.alive_for(5 * MIN_MS)
    assert len(raised(cloud)) == 1, "it is open, and stays so"
    cloud.batch("b-2", cloud.reading(21, 6))
    assert len(cloud.events("alert.cleared")) == 1


def test_for_is_up_with_the_first_reading_that_is_late_enough_and_a_restart_does_not_begin_it_anew() -> None:
    cloud = with_rules(LONG)
    cloud.batch("b-0", cloud.reading(31, 0))
    cloud.alive_for(3 * MIN_MS)
    cloud.batch("b-1", cloud.reading(32, 1))
    again(cloud, LONG)
    cloud.alive_for(2 * MIN_MS - 1)
    cloud.batch("b-2", cloud.reading(33, 2))
    assert raised(cloud) == []
    cloud.later(1)
    cloud.batch("b-3", cloud.reading(34, 3))
    assert [event["id"] for event in cloud.events("alert.raised")] == [f"long:sensor-01:{BOOT}:0"]
    assert cloud.table("pending") == {}, "what is over does not come back with the next restart"


def test_for_waits_a_window_longer_where_no_reading_follows() -> None:
    cloud = with_rules(LONG)
    cloud.batch("b-0", cloud.reading(31, 0))
    cloud.alive_for(5 * MIN_MS + 64_999)
    assert raised(cloud) == []
    cloud.later(1)
    assert raised(cloud) == [("long", "sensor-01")]


def test_a_break_begins_for_anew_also_when_it_comes_in_the_same_batch() -> None:
    cloud = with_rules(LONG)
    cloud.batch("b-0", cloud.reading(31, 0))
    cloud.alive_for(4 * MIN_MS)
    cloud.batch("b-1", cloud.reading(20, 1, age_ms=40_000), cloud.reading(31, 2, age_ms=20_000))
    cloud.alive_for(2 * MIN_MS)
    cloud.batch("b-2", cloud.reading(31, 3))
    assert raised(cloud) == []


def test_late_readings_of_a_long_heat_raise_nothing() -> None:
    cloud = with_rules(LONG, HOT | {"name": "both", "when": parse("temp > 30 and temp > 31"), "action": "notify"})
    cloud.alive_for(60 * MIN_MS)
    late = [cloud.reading(35, seq, age_ms=50 * MIN_MS - seq * MIN_MS) for seq in range(20)]
    cloud.batch("b-1", *late)
    cloud.alive_for(10 * MIN_MS)
    assert raised(cloud) == []


def test_after_a_long_rest_the_last_values_of_before_are_not_taken_for_the_present() -> None:
    rule = HOT | {"name": "two", "when": parse("temp > 30 and humidity > 50"), "clear": None, "action": "notify"}
    cloud = with_rules(HOT)
    cloud.batch("b-1", cloud.reading(35, 0), cloud.reading(60, 1, metric="humidity"))
    cloud.now_ms += 60 * MIN_MS
    again(cloud, HOT, rule)
    cloud.later(5 * MIN_MS)
    assert ("two", "sensor-01") not in raised(cloud)


def test_what_time_raised_is_taken_back_when_the_database_refuses_and_comes_again() -> None:
    cloud = with_rules(SILENT)
    cloud.batch("b-1", cloud.reading(21, 5))
    cloud.alive_for(9 * MIN_MS)
    cloud.refuse_stores = True
    cloud.later(MIN_MS)
    assert raised(cloud) == [] and cloud.core.alert_views() == []
    cloud.refuse_stores = False
    cloud.alive_for(MIN_MS)
    assert raised(cloud) == [("silent", "sensor-01")]


def test_a_rule_about_a_site_is_one_alert_that_names_the_site() -> None:
    rule = {"name": "heat", "when": parse("count(site: office, temp > 30) >= 2"), "action": "notify"}
    cloud = with_rules(rule | {"message": "{value} nodes of {node} are hot"})
    cloud.batch("b-1", cloud.reading(31, 0), cloud.reading(32, 0, node="sensor-02"), cloud.reading(33, 1))
    assert raised(cloud) == [("heat", None)]
    assert cloud.events("alert.raised")[0]["scope"] == "site:office"
    cloud.later(QUIET_MS)
    assert subjects(cloud) == ["2 nodes of site:office are hot"]
    (row,) = cloud.table("alerts").values()
    assert row["node"] is None
    cloud.batch("b-2", cloud.reading(20, 2))
    assert len(cloud.events("alert.cleared")) == 1


def test_a_group_is_what_its_nodes_say_they_belong_to() -> None:
    rule = {"name": "heat", "when": parse("any(group: pumps, temp > 30)"), "action": "notify"}
    cloud = with_rules(rule)
    entry = {"id": "sensor-02", "site": "office", "gateway": "gateway-01", "key": KEYS["sensor-02"]}
    cloud.core.add_node(entry | {"groups": ["pumps"]}, cloud.now_ms)
    cloud.batch("b-1", cloud.reading(31, 0))
    assert raised(cloud) == []
    cloud.batch("b-2", cloud.reading(31, 0, node="sensor-02"))
    assert raised(cloud) == [("heat", None)]


def test_a_command_goes_to_its_targets_once_when_the_episode_begins() -> None:
    command = {"action": "restart", "params": {}, "targets": ["sensor-02"]}
    cloud = with_rules(HOT | {"action": "command", "command": command})
    cloud.batch("b-1", cloud.reading(35, 0))
    cloud.batch("b-2", cloud.reading(20, 1))
    cloud.later(QUIET_MS)
    told = {(sent["action"], sent["target"], sent["id"]) for sent in cloud.sent("cmd")}
    assert [(action, target) for action, target, _ in told] == [("restart", "sensor-02")]
    assert subjects(cloud) == []


def test_people_read_the_message_of_the_rule() -> None:
    cloud = with_rules(HOT | {"message": "{node}: {metric} is {value} ({severity})", "action": "notify"})
    cloud.batch("b-1", cloud.reading(35.25, 0))
    cloud.alive_for(MIN_MS)
    cloud.batch("b-2", cloud.reading(20, 1))
    cloud.later(QUIET_MS)
    assert subjects(cloud) == [
        "sensor-01: temp is 35.25 (warning)",
        "sensor-01: temp is 20 (warning) (cleared)",
    ]


# --- cooldown -------------------------------------------------------------------------------------------------------


def flap(cloud: Cloud, first: int) -> None:
    """Hot for a minute, cool for a minute."""
    cloud.batch(f"b-{first}", cloud.reading(35, first))
    cloud.alive_for(MIN_MS)
    cloud.batch(f"b-{first + 1}", cloud.reading(20, first + 1))
    cloud.alive_for(MIN_MS)


def test_in_the_cooldown_episodes_are_recorded_and_nobody_is_told() -> None:
    cloud = with_rules(HOT | {"cooldown_ms": 10 * MIN_MS})
    for first in (0, 2, 4):
        flap(cloud, first)
    assert len(raised(cloud)) == 3
    assert subjects(cloud) == ["hot on sensor-01: raised", "hot on sensor-01: cleared"]
    assert [event.get("silenced") for event in cloud.events("alert.raised")] == [None, "cooldown", "cooldown"]
    assert len({sent["id"] for sent in cloud.sent("cmd")}) == 2, "on and off, once"


@pytest.mark.parametrize("restarted", [False, True])
def test_what_is_still_there_after_the_cooldown_is_told_then(restarted: bool) -> None:
    rule = HOT | {"cooldown_ms": 10 * MIN_MS, "action": "notify"}
    cloud = with_rules(rule)
    flap(cloud, 0)
    cloud.batch("b-9", cloud.reading(36, 9))
    if restarted:
        again(cloud, rule)
    cloud.forget()
    cloud.alive_for(7 * MIN_MS)
    assert subjects(cloud) == []
    cloud.alive_for(2 * MIN_MS)
    assert subjects(cloud) == ["hot on sensor-01: raised"]


# --- maintenance ----------------------------------------------------------------------------------------------------


def window(cloud: Cloud, on: str, minutes: int = 10, begins_ms: int = 0) -> dict[str, Any]:
    utc_ms = EPOCH_MS + cloud.now_ms
    doc = {"on": on, "from_utc_ms": utc_ms + begins_ms, "until_utc_ms": utc_ms + minutes * MIN_MS}
    row = cloud.core.add_maintenance(doc, cloud.now_ms)
    cloud.pump()
    return row


@pytest.mark.parametrize(
    ("on", "silent"), [("node:sensor-01", True), ("site:office", True), ("all", True), ("node:sensor-02", False)]
)
def test_what_begins_in_a_window_is_recorded_and_nothing_follows(on: str, silent: bool) -> None:
    cloud = with_rules(HOT)
    row = window(cloud, on)
    again(cloud, HOT)  # a window outlives the manager
    cloud.forget()
    cloud.batch("b-1", cloud.reading(35, 0))
    cloud.alive_for(20 * MIN_MS)
    assert len(raised(cloud)) == 1
    assert bool(subjects(cloud)) is bool(cloud.sent("cmd")) is not silent
    (alert,) = cloud.core.alert_views()
    assert alert["doc"].get("silenced") == (row["id"] if silent else None)
    cloud.batch("b-2", cloud.reading(20, 1))
    cloud.later(QUIET_MS)
    assert bool(subjects(cloud)) is not silent, "of what was silenced nobody hears the end"


def test_before_a_window_after_it_and_once_it_is_ended_everything_follows() -> None:
    cloud = with_rules(HOT)
    row = window(cloud, "all", begins_ms=5 * MIN_MS)
    flap(cloud, 0)
    assert len(subjects(cloud)) == 2
    cloud.alive_for(4 * MIN_MS)
    flap(cloud, 2)
    assert len(subjects(cloud)) == 2
    assert cloud.core.end_maintenance(row["id"], cloud.now_ms)["doc"]["until_utc_ms"] == EPOCH_MS + cloud.now_ms
    flap(cloud, 4)
    assert len(subjects(cloud)) == 4


def test_a_node_that_goes_down_in_a_window_goes_down_and_comes_back_unheard() -> None:
    cloud = with_rules()
    cloud.status("sensor-01", "up")
    row = window(cloud, "site:office")
    cloud.status("sensor-01", "down")
    cloud.core.end_maintenance(row["id"], cloud.now_ms)
    cloud.alive_for(MIN_MS)
    cloud.status("sensor-01", "up")
    cloud.status("sensor-01", "down")
    cloud.later(QUIET_MS)
    assert subjects(cloud) == ["node sensor-01 is down"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"on": "node:nobody"},
        {"on": "site:nowhere"},
        {"on": "barn"},
        {"on": None},
        {"until_utc_ms": EPOCH_MS - 1},
        {"until_utc_ms": "soon"},
        {"from_utc_ms": EPOCH_MS + 1_000_000},
        {"reason": 3},
        {"when": "always"},
    ],
    ids=str,
)
def test_a_window_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    cloud = with_rules()
    with pytest.raises(ValueError, match=r"\w"):
        cloud.core.add_maintenance({"on": "all", "until_utc_ms": EPOCH_MS + 1_000_000} | wrong, cloud.now_ms)
    assert cloud.core.maintenance_views() == []


def test_a_window_that_the_database_refused_silences_nothing() -> None:
    cloud = with_rules(HOT)
    cloud.refuse_stores = True
    window(cloud, "all")
    cloud.refuse_stores = False
    assert cloud.core.maintenance_views() == []


# --- who can do what ------------------------------------------------------------------------------------------------


def test_a_gateway_gets_the_rules_that_it_has_announced_it_can_evaluate() -> None:
    cloud = with_rules(HOT, LONG)
    cloud.heartbeat(config=0)
    assert [rule["name"] for rule in cloud.sent("config")[-1]["rules"]] == ["hot"]
    cloud.forget()
    version = cloud.core.config_version
    for announced, names in ((["compare", "for"], ["hot", "long"]), ([], [])):
        cloud.say("gateway-01", "heartbeat", n=9, config=version, mode="online", capabilities=announced)
        assert [rule["name"] for rule in cloud.sent("config")[-1]["rules"]] == names
        cloud.say("gateway-01", "heartbeat", n=9, config=version, mode="online", capabilities=announced)
    assert len(cloud.sent("config")) == 2, "once for each change"


def test_capabilities_that_are_no_list_are_a_rejected_message() -> None:
    cloud = with_rules()
    cloud.say("gateway-01", "heartbeat", n=9, mode="online", capabilities="everything")
    assert cloud.kinds("message.rejected") == ["message.rejected"]
