"""Failure scenario 1: the cloud connection is lost."""

from __future__ import annotations

from clawsim.timing import BACKOFF_S, PROMPT_S, WINDOW_S
from tests.conformance.runs import Rehearsal

SCENARIO = "cloud-outage"
NODES = [f"sensor-{number:02d}" for number in range(1, 6)]


def test_the_gateway_goes_offline_60_to_90_s_after_the_cut(run: Rehearsal) -> None:
    cut, offline = run.one("fault.effective", of="outage"), run.one("gateway.offline")
    assert 60 <= offline.t_s - cut.t_s <= 90 + PROMPT_S
    assert offline["reason"] == "heartbeat timeout"


def test_the_cloud_counts_the_gateway_as_down_after_180_s_of_silence_and_its_nodes_as_unknown(run: Rehearsal) -> None:
    down = run.one("gateway.down", "fleet", gateway="gateway-01")
    assert 180 <= down["silent_ms"] / 1000 <= 180 + PROMPT_S
    assert {event["node"] for event in run.all("node.unknown", "fleet")} == set(NODES)
    assert not run.all("node.down")


def test_while_cut_off_the_gateway_alone_raises_every_alert_and_commands_every_alarm(run: Rehearsal) -> None:
    during = list(run.during("outage"))
    raised = [event for event in during if event.kind == "alert.raised"]
    alarms = [event for event in during if event.kind == "alarm.local"]
    sent = {event["id"]: event.who for event in during if event.kind == "command.sent"}
    assert sorted(event["node"] for event in raised) == sorted(event.who for event in alarms) == NODES
    assert {(event.who, event["by"]) for event in raised} == {("gateway-01", "gateway")}
    for alarm in alarms:
        assert alarm["by"] == "gateway"
        assert sent[alarm["id"]] == "gateway-01"


def test_no_cloud_is_involved_meanwhile(run: Rehearsal) -> None:
    offline_s = run.one("gateway.offline").t_s
    said = [event.kind for event in run.during("outage") if event.who == "fleet" and event.t_s > offline_s]
    assert set(said) <= {"gateway.down", "node.unknown", "notification.sent", "host.lag"}


def test_an_alarm_follows_the_hot_reading_at_once(run: Rehearsal) -> None:
    for alarm in run.all("alarm.local"):
        hot = [
            event
            for event in run.all("reading.produced", alarm.who, metric="temp")
            if event["value"] > 30 and event.t_s > run.one("gateway.offline").t_s
        ]
        assert 0 < alarm.t_s - hot[0].t_s <= PROMPT_S


def test_nothing_reaches_the_cloud_while_the_link_is_cut(run: Rehearsal) -> None:
    cut_s = run.one("fault.effective", of="outage").t_s
    stored = [event for event in run.during("outage") if event.kind == "reading.stored"]
    assert all(event.t_s - cut_s <= 1 for event in stored)  # what was already past the link


def test_after_the_outage_the_gateway_reconnects_and_catches_up(run: Rehearsal) -> None:
    healed_s = run.one("fault.cleared", of="outage").t_s
    back = [event for event in run.all("gateway.online") if event.t_s > healed_s]
    assert len(back) == 1
    assert back[0].t_s - healed_s <= BACKOFF_S
    assert run.one("gateway.catching-up")["readings"] >= 50  # ten minutes of five nodes, once a minute
    assert 0 <= run.one("gateway.caught-up").t_s - back[0].t_s <= WINDOW_S


def test_everything_read_during_the_outage_is_stored_once(run: Rehearsal) -> None:
    stored = run.readings("stored")
    kept = [event for event in run.during("outage") if event.kind == "reading.produced"]
    assert len(kept) == 50
    assert all(len(stored[event.who, event["boot"], event["seq"]]) == 1 for event in kept)


def test_the_backlog_comes_in_its_own_order(run: Rehearsal) -> None:
    healed_s = run.one("fault.cleared", of="outage").t_s
    for node in NODES:
        made = {(e["boot"], e["seq"]) for e in run.during("outage") if e.kind == "reading.produced" and e.who == node}
        stored = [(e["boot"], e["seq"]) for e in run.all("reading.stored", node=node) if e.t_s > healed_s]
        backlog = [identity for identity in stored if identity in made]
        assert backlog == sorted(backlog)
        assert len(backlog) == 10


def test_live_readings_do_not_wait_for_the_backlog(run: Rehearsal) -> None:
    back_s = run.all("gateway.online")[-1].t_s
    stored = run.readings("stored")
    for event in run.all("reading.produced"):
        if event.t_s > back_s:
            [said] = stored[event.who, event["boot"], event["seq"]]
            assert said.t_s - event.t_s <= WINDOW_S


def test_an_alert_decided_offline_is_one_episode_that_the_cloud_takes_over_and_ends(run: Rehearsal) -> None:
    raised = {event["id"]: event for event in run.all("alert.raised")}
    cleared = run.all("alert.cleared", "fleet")
    assert len(raised) == len(NODES)
    assert sorted(event["id"] for event in cleared) == sorted(raised)
    assert all(len(run.all("alarm.local", node)) == 1 for node in NODES)
    messages = [e for e in run.all("notification.sent") if "raised" in e["subject"]]  # one, or one about several
    told = [node for event in messages for node in event.fields.get("nodes", [event.fields.get("node")])]
    assert sorted(told) == sorted(NODES)


def test_old_readings_raise_no_alert_as_if_they_were_now(run: Rehearsal) -> None:
    healed_s = run.one("fault.cleared", of="outage").t_s
    assert not [event for event in run.all("alert.raised") if event.t_s > healed_s]
