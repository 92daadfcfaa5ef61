"""Telling people: storms are one message, each message has one id for ever, and none is lost without a word."""

import contextlib
from itertools import pairwise
from typing import Any

import pytest

from fleet.core.notices import Notice
from fleet.core.transaction import Transaction
from tests.fleet_core.rig import QUIET_MS, Cloud, Crash, Notify


def fleet_of(count: int, **config: Any) -> Cloud:
    cloud = Cloud(**config).started()
    for number in range(count):
        node = {"id": f"node-{number:03d}", "site": "office", "gateway": "gateway-01", "key": f"{number:064x}"}
        cloud.core.add_node(node, cloud.now_ms)
        cloud.status(node["id"], "up")
    cloud.forget()
    return cloud


def all_down(cloud: Cloud, count: int, gap_ms: int) -> None:
    for number in range(count):
        cloud.status(f"node-{number:03d}", "down")
        cloud.later(gap_ms)


def test_500_nodes_that_go_down_within_a_heartbeat_interval_are_one_message() -> None:
    cloud = fleet_of(500)
    all_down(cloud, 500, 120)
    cloud.later(QUIET_MS)
    (told,) = [notify for notify in cloud.of(Notify) if "down" in notify.subject and "gateway" not in notify.subject]
    assert told.subject == "500 nodes are down (warning)"
    assert "node node-000 is down" in told.body and "and 450 more" in told.body
    assert len(told.body) < 5_000
    (event,) = [event for event in cloud.events("notification.sent") if "nodes" in event["subject"]]
    assert event["count"] == 500
    states = [row["state"] for row in cloud.table("notifications").values()]
    assert states.count("grouped") == 500 and "gathering" not in states


def test_a_single_notice_waits_for_others_for_five_seconds_and_no_longer() -> None:
    cloud = fleet_of(1)
    cloud.status("node-000", "down")
    cloud.later(QUIET_MS - 1)
    assert cloud.of(Notify) == []
    cloud.later(1)
    assert [notify.subject for notify in cloud.of(Notify)] == ["node node-000 is down"]


def test_a_trickle_without_end_is_told_after_90_seconds() -> None:
    cloud = fleet_of(30)
    all_down(cloud, 30, 4_000)
    subjects = [notify.subject for notify in cloud.of(Notify)]
    assert subjects == ["23 nodes are down (warning)"]


def test_kinds_and_severities_do_not_mix() -> None:
    cloud = fleet_of(2)
    for status in ("down", "up"):
        all_down(cloud, 2, 0) if status == "down" else [cloud.status(f"node-00{n}", "up") for n in (0, 1)]
    cloud.later(QUIET_MS)
    assert [notify.subject for notify in cloud.of(Notify)] == [
        "2 nodes are down (warning)",
        "2 nodes are back (warning)",
    ]


def test_pauses_grow_and_are_not_the_same_for_all() -> None:
    cloud = fleet_of(1)
    cloud.mail_works = False
    cloud.status("node-000", "down")
    at_ms, seen = [], 0
    for _ in range(1000):
        cloud.alive_for(1_000)
        if len(cloud.of(Notify)) > seen:
            seen = len(cloud.of(Notify))
            at_ms.append(cloud.now_ms)
    pauses_s = [(after - before) / 1000 for before, after in pairwise(at_ms)]
    assert len({notify.message_id for notify in cloud.of(Notify) if "node" in notify.subject}) == 1
    for pause_s, most_s in zip(pauses_s, (30, 60, 120, 240), strict=True):
        assert most_s / 2 <= pause_s <= most_s + 1


def dead_letter() -> Cloud:
    cloud = fleet_of(1)
    cloud.mail_works = False
    cloud.status("node-000", "down")
    cloud.alive_for(600_000)
    return cloud


def test_a_message_that_nobody_takes_is_a_dead_letter_that_outlives_the_manager_and_can_be_sent_again() -> None:
    cloud = dead_letter()
    (letter,) = cloud.core.dead_letter_views()
    assert (letter["subject"], letter["attempts"], letter["state"]) == ("node node-000 is down", 5, "failed")
    assert cloud.kinds("notification.failed") == ["notification.failed"]
    cloud.power_on()
    (again,) = cloud.core.dead_letter_views()
    assert again == letter
    cloud.mail_works = True
    cloud.forget()
    cloud.core.retry_notification(letter["id"], cloud.now_ms)
    cloud.later(1)
    assert [notify.message_id for notify in cloud.of(Notify)] == [letter["id"]]
    assert cloud.core.dead_letter_views() == [] and cloud.table("notifications")[letter["id"]]["state"] == "sent"
    with pytest.raises(KeyError):
        cloud.core.retry_notification(letter["id"], cloud.now_ms)


def test_attempts_are_counted_across_restarts() -> None:
    cloud = fleet_of(1)
    cloud.mail_works = False
    cloud.status("node-000", "down")
    cloud.later(QUIET_MS)
    for _ in range(3):
        cloud.power_on()
        cloud.heartbeat()
    assert [row["attempts"] for row in cloud.table("notifications").values()] == [4]


@pytest.mark.parametrize("cut_after", range(8))
def test_wherever_the_server_dies_what_gathered_is_told_under_one_id(cut_after: int) -> None:
    cloud = fleet_of(3)
    all_down(cloud, 3, 0)
    cloud.cut_after = cut_after
    with contextlib.suppress(Crash):
        cloud.later(QUIET_MS)
    cloud.cut_after = None
    if not cloud.alive:
        cloud.power_on()
        cloud.heartbeat()
    cloud.later(2 * QUIET_MS)
    told = [notify for notify in cloud.of(Notify) if "nodes are down" in notify.subject]
    assert told and len({notify.message_id for notify in told}) == 1
    assert {notify.subject for notify in told} == {"3 nodes are down (warning)"}


def test_what_the_database_does_not_take_gathers_until_it_does() -> None:
    cloud = fleet_of(2)
    all_down(cloud, 2, 0)
    cloud.refuse_stores = True
    cloud.later(4 * QUIET_MS)
    assert cloud.of(Notify) == []
    cloud.refuse_stores = False
    cloud.later(2 * QUIET_MS)
    assert [notify.subject for notify in cloud.of(Notify)] == ["2 nodes are down (warning)"]


@pytest.mark.parametrize(
    ("rules", "subject"),
    [
        (("hot", "hot"), "hot: 2 alerts are raised (warning)"),
        (("hot", "cold", "hot"), "cold, hot: 3 alerts are raised (warning)"),
        (("a", "b", "c", "d"), "4 alerts are raised (warning)"),
    ],
)
def test_a_message_about_alerts_of_few_rules_names_them(rules: tuple[str, ...], subject: str) -> None:
    cloud = fleet_of(1)
    tx = Transaction()
    for rule in rules:
        cloud.core.notify(tx, Notice("alert.raised", "warning", f"{rule} on x: raised", "", "x", rule))
    cloud.core.stores.commit(tx)
    cloud.pump()
    cloud.later(QUIET_MS)
    assert [notify.subject for notify in cloud.of(Notify)] == [subject]
