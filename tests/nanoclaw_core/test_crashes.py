"""A gateway that dies between any two outputs: what it promised still holds when it is back."""

from collections.abc import Callable

import pytest

from tests.nanoclaw_core.rig import BOOT, Crash, Station

Story = Callable[[Station], None]


def upload(station: Station) -> None:
    for seq in range(3):
        station.reading(21.0, seq)
    station.later(70_000)


def hot_offline(station: Station) -> None:
    station.lose_uplink()
    station.reading(35.0, 0)
    station.later(12_000)
    station.reading(20.0, 1)
    station.later(12_000)


def hot_then_outage(station: Station) -> None:
    station.reading(35.0, 0)
    station.later(6_000)
    station.lose_uplink()
    station.later(12_000)


def command(station: Station) -> None:
    station.command("c-1")
    station.answer("c-1", "restarted")
    station.later(2_000)


def catching_up(station: Station) -> None:
    station.lose_uplink()
    for seq in range(6):
        station.reading(21.0, seq)
    station.later(70_000)
    station.regain_uplink()
    station.later(10_000)


def live(story: Story, cut_after: int) -> tuple[Station, bool]:
    """The story until the crash, a restart, a cloud that is there again, and time to settle."""
    station = Station().online()
    station.heartbeat()
    station.later(5_500)
    station.cut_after = cut_after
    crashed = False
    try:
        story(station)
    except Crash:
        crashed = True
    station.cut_after = None
    acknowledged = station.acknowledged()
    if crashed:
        station.power_on()
    station.regain_uplink()
    station.heartbeat(n=9)
    for seq, (value, at_ms) in station.given.items():  # the node sends again what was not acknowledged
        if ("sensor-01", BOOT, seq) not in acknowledged:
            station.reading(value, seq, age_ms=station.now_ms - at_ms)
    station.later(200_000)
    return station, crashed


STORIES: list[Story] = [upload, hot_offline, hot_then_outage, command, catching_up]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
@pytest.mark.parametrize("cut_after", range(24))
def test_what_was_acknowledged_to_a_node_reaches_the_cloud_wherever_the_gateway_dies(
    story: Story, cut_after: int
) -> None:
    station, _ = live(story, cut_after)
    assert station.acknowledged() <= station.cloud_has.keys() | set(station.on_disk())


@pytest.mark.parametrize("cut_after", range(24))
def test_an_alarm_that_the_gateway_decided_is_told_to_the_cloud_wherever_the_gateway_dies(cut_after: int) -> None:
    station, _ = live(hot_offline, cut_after)
    raised = {event["id"] for event in station.events("alert.raised")}
    told = {report["alert"] for report in station.reports.values() if report.get("status") == "alert-raised"}
    assert raised <= told


@pytest.mark.parametrize("cut_after", range(24))
def test_an_episode_that_is_on_disk_is_never_a_secret(cut_after: int) -> None:
    """Either the episode is forgotten with the crash, and its reading raises it anew, or somebody is told of it."""
    station, _ = live(hot_then_outage, cut_after)
    if not station.disk.slots.get("episodes"):
        return
    told = {report["alert"] for report in station.reports.values() if report.get("status") == "alert-raised"}
    early = [batch["at_ms"] for batch in station.batches if any(r["seq"] == 0 for r in batch["readings"])]
    in_time = early and early[0] <= 180_000  # then the cloud's own rules raise it
    assert told or in_time


@pytest.mark.parametrize("cut_after", range(16))
def test_a_command_is_answered_exactly_as_the_node_said_wherever_the_gateway_dies(cut_after: int) -> None:
    station, crashed = live(command, cut_after)
    if crashed:
        station.command("c-1")  # the cloud asks again until it is answered
        station.later(1_000)
        for said in station.to_node("cmd"):
            station.answer(said["id"], "restarted")
        station.later(5_000)
    answers = {report["status"] for report in station.reports.values() if report.get("id") == "c-1"}
    assert answers == {"restarted"}
