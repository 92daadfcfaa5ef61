"""Alert episodes: raised and cleared once, imported from gateways, never from late readings, never half."""

import contextlib

import pytest

from fleet.wire.expression import parse
from tests.fleet_core.rig import BOOT, EPOCH_MS, HOT, QUIET_MS, Cloud, Crash, Notify

EPISODE = f"hot:sensor-01:{BOOT}:0"


def feed(cloud: Cloud, *values: float) -> None:
    """One batch a minute, one reading each."""
    for seq, value in enumerate(values):
        cloud.batch(f"b-{cloud.now_ms}-{seq}", cloud.reading(value, seq))
        cloud.alive_for(60_000)


def alarms(cloud: Cloud) -> list[str]:
    """What the node's alarm was told, each command once."""
    told = {command["id"]: command["params"]["state"] for command in cloud.sent("cmd") if command["action"] == "alert"}
    return list(told.values())


def test_one_hot_spell_is_one_episode_with_a_quiet_band() -> None:
    cloud = Cloud().started()
    feed(cloud, 31, 35, 29.5, 30.5, 28.9, 29.5, 28)
    assert [(e["id"], e["value"]) for e in cloud.events("alert.raised")] == [(EPISODE, 31)]
    assert [(e["id"], e["value"]) for e in cloud.events("alert.cleared")] == [(EPISODE, 28.9)]
    assert alarms(cloud) == ["on", "off"]
    (row,) = cloud.table("alerts").values()
    assert (row["state"], row["node"], row["rule"]) == ("cleared", "sensor-01", "hot")
    assert row["cleared_utc_ms"] - row["raised_utc_ms"] == 4 * 60_000


def test_people_are_told_when_it_begins_and_when_it_ends() -> None:
    cloud = Cloud().started()
    feed(cloud, 31, 20)
    subjects = [notify.subject for notify in cloud.of(Notify) if "hot" in notify.subject]
    assert len(subjects) == 2
    assert len({notify.message_id for notify in cloud.of(Notify)}) == len(cloud.of(Notify))


def test_a_rule_that_only_notifies_commands_nothing_and_one_with_no_action_does_nothing() -> None:
    cloud = Cloud().started()
    for action, subjects in (("notify", 1), ("none", 0)):
        cloud.core.set_rules([HOT | {"name": f"r-{action}", "action": action}], cloud.now_ms)
        cloud.forget()
        cloud.batch(f"b-{action}", cloud.reading(35, subjects, node="sensor-02"))
        cloud.later(QUIET_MS)
        assert alarms(cloud) == []
        assert len(cloud.of(Notify)) == subjects
        assert len(cloud.events("alert.raised")) == 1


def test_a_late_reading_raises_nothing_and_is_not_the_latest() -> None:
    cloud = Cloud().started()
    cloud.batch("b-1", cloud.reading(21, 5))
    cloud.batch("b-2", cloud.reading(35, 1, age_ms=180_001))
    cloud.batch("b-3", cloud.reading(35, 2, age_ms=20_000))
    assert cloud.kinds("alert.raised") == []
    assert len(cloud.rows()) == 3
    assert cloud.core.alerts.latest["sensor-01", "temp"].seq == 5


def test_at_the_edge_of_lateness_a_reading_still_counts() -> None:
    cloud = Cloud().started()
    cloud.batch("b-1", cloud.reading(35, 1, age_ms=180_000))
    assert cloud.kinds("alert.raised") == ["alert.raised"]


def test_a_reading_whose_time_is_a_guess_raises_nothing() -> None:
    cloud = Cloud().started()
    cloud.batch("b-1", cloud.reading(35, 1, time_quality="estimated"))
    assert cloud.kinds("alert.raised") == []


def test_a_reading_from_the_future_does_not_deafen_the_rules() -> None:
    """A gateway whose clock was an hour ahead until it learned better: what follows is judged all the same."""
    cloud = Cloud().started()
    cloud.batch("b-1", cloud.reading(21, 1, age_ms=-3_600_000))
    cloud.alive_for(60_000)
    cloud.batch("b-2", cloud.reading(35, 2))
    assert cloud.kinds("alert.raised") == ["alert.raised"]


def test_a_restart_neither_repeats_nor_forgets_an_episode() -> None:
    cloud = Cloud().started()
    feed(cloud, 31)
    cloud.power_on()
    cloud.heartbeat()
    cloud.forget()
    cloud.batch("b-8", cloud.reading(33, 8))
    assert cloud.kinds("alert.raised") == []
    cloud.batch("b-9", cloud.reading(20, 9))
    assert [event["id"] for event in cloud.events("alert.cleared")] == [EPISODE]


def test_a_decision_of_an_offline_gateway_is_imported_once_and_repeats_nothing() -> None:
    cloud = Cloud().started()
    cloud.forget()
    for _ in range(2):
        cloud.decided("alert-raised", 0, 35.0)
    cloud.later(QUIET_MS)
    assert cloud.kinds("alert.raised") == [], "the gateway has said so"
    assert alarms(cloud) == [], "and has given the alarm"
    assert len([n for n in cloud.of(Notify) if "hot" in n.subject]) == 1
    assert cloud.table("alerts")[EPISODE]["doc"]["by"] == "gateway"
    assert len(cloud.acks()) == 2
    cloud.batch("b-1", cloud.reading(35.0, 0, age_ms=60_000), cloud.reading(36.0, 1))
    assert cloud.kinds("alert.raised") == []
    cloud.batch("b-2", cloud.reading(20.0, 2))
    assert [event["id"] for event in cloud.events("alert.cleared")] == [EPISODE]


def test_an_episode_that_began_and_ended_offline_is_over_when_it_is_imported() -> None:
    cloud = Cloud().started()
    cloud.forget()
    cloud.decided("alert-raised", 0, 35.0)
    cloud.decided("alert-cleared", 0, 20.0)
    assert cloud.table("alerts")[EPISODE]["state"] == "cleared"
    cloud.decided("alert-raised", 0, 35.0)  # the first report again
    assert cloud.table("alerts")[EPISODE]["state"] == "cleared"
    assert alarms(cloud) == []


def test_a_decision_about_an_episode_of_our_own_changes_nothing() -> None:
    cloud = Cloud().started()
    feed(cloud, 31)
    cloud.forget()
    cloud.decided("alert-raised", 0, 31.0)
    assert cloud.of(Notify) == [] and cloud.table("alerts")[EPISODE]["doc"]["by"] == "cloud"
    assert len(cloud.acks()) == 1


def test_a_failed_commit_takes_the_whole_episode_back() -> None:
    cloud = Cloud().started()
    cloud.refuse_stores = True
    cloud.batch("b-1", cloud.reading(35, 0))
    assert cloud.kinds("alert.raised") == [] and alarms(cloud) == [] and cloud.core.alert_views() == []
    cloud.refuse_stores = False
    cloud.batch("b-1", cloud.reading(35, 0))
    cloud.refuse_stores = True
    cloud.batch("b-2", cloud.reading(20, 1))
    assert cloud.core.alert_views()[0]["state"] == "raised"
    cloud.refuse_stores = False
    cloud.batch("b-2", cloud.reading(20, 1))
    assert cloud.core.alert_views()[0]["state"] == "cleared"
    assert len(cloud.events("alert.raised", "alert.cleared")) == 2


def test_a_report_that_came_during_a_commit_that_failed_is_not_forgotten_with_it() -> None:
    cloud = Cloud().started()
    cloud.hold_stores = True
    cloud.batch("b-1", cloud.reading(35, 0))
    cloud.decided("alert-raised", 0, 35.0)
    batch, *others = cloud.held
    cloud.held.clear()
    cloud.hold_stores = False
    cloud.core.store_failed(batch.token, "gone", cloud.now_ms)
    cloud.pump()
    cloud.held.extend(others)
    cloud.finish_stores()
    acknowledged = bool(cloud.acks())
    assert EPISODE in cloud.table("alerts") or not acknowledged


@pytest.mark.parametrize("cut_after", range(16))
def test_an_alert_in_the_database_has_its_alarm_and_its_message_wherever_the_server_dies(cut_after: int) -> None:
    cloud = Cloud().started()
    cloud.cut_after = cut_after
    with contextlib.suppress(Crash):
        cloud.batch("b-1", cloud.reading(35, 0))
    cloud.cut_after = None
    cloud.forget()
    cloud.power_on()
    cloud.heartbeat()
    cloud.batch("b-1", cloud.reading(35, 0))
    cloud.alive_for(60_000)
    commands = [row for row in cloud.table("commands").values() if row["doc"]["action"] == "alert"]
    assert cloud.table("alerts").keys() == {EPISODE}
    assert len(commands) == 1
    assert len([row for row in cloud.table("notifications").values() if "hot" in row["subject"]]) == 1
    assert set(alarms(cloud)) == {"on"} or commands[0]["state"] == "sent"


def test_a_message_that_nobody_accepted_is_tried_again_and_given_up_at_last() -> None:
    cloud = Cloud().started()
    cloud.mail_works = False
    cloud.batch("b-1", cloud.reading(35, 0))
    cloud.alive_for(900_000)
    tried = [notify.message_id for notify in cloud.of(Notify) if "hot" in notify.subject]
    assert len(tried) == 5 and len(set(tried)) == 1, "the same message, with the same id"
    assert len(cloud.events("notification.failed")) >= 1


def test_a_message_that_was_not_accepted_survives_a_restart() -> None:
    cloud = Cloud().started()
    cloud.mail_works = False
    cloud.batch("b-1", cloud.reading(35, 0))
    cloud.later(QUIET_MS)
    first = cloud.of(Notify)[-1].message_id
    cloud.mail_works = True
    cloud.forget()
    cloud.power_on()
    cloud.later(1_000)
    assert first in [notify.message_id for notify in cloud.of(Notify)]
    assert "notification.sent" in cloud.kinds()


def test_rules_are_checked_before_they_are_taken() -> None:
    cloud = Cloud().started()
    for rules in ([HOT, HOT], [HOT | {"action": "explode"}], [HOT | {"clear": parse("humidity < 3")}], [{}]):
        with pytest.raises(ValueError, match=r"\w"):
            cloud.core.set_rules(rules, cloud.now_ms)
    assert list(cloud.core.alerts.rules.values()) == [HOT]


def test_an_alert_of_a_rule_that_is_taken_away_does_not_stay_raised_for_ever() -> None:
    cloud = Cloud().started()
    feed(cloud, 35)
    cloud.core.set_rules([], cloud.now_ms)
    cloud.pump()
    assert [row["state"] for row in cloud.core.alert_views()] == ["cleared"]
    cloud.power_on()
    assert [row["state"] for row in cloud.core.alert_views() if row["rule"] == "hot"] in ([], ["cleared"])


def test_the_time_of_an_episode_is_that_of_its_readings() -> None:
    cloud = Cloud().started()
    cloud.alive_for(120_000)
    cloud.batch("b-1", cloud.reading(35, 0, age_ms=45_000))
    assert cloud.table("alerts")[EPISODE]["raised_utc_ms"] == EPOCH_MS + 75_000
