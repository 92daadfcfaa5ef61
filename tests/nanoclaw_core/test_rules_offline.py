"""Rules that need more than a comparison, judged by a gateway whose cloud is away; commands, cooldown, the journal."""

from typing import Any

import pytest

from firmware.hosting.aes import aes_block
from firmware.wire import messages
from firmware.wire.sealing import seal
from fleet.wire import snapshot
from fleet.wire.expression import parse
from nanoclaw.core.journal import MOST_ENTRIES, entries_of
from tests.nanoclaw_core.rig import BOOT, EPOCH_MS, GATEWAY, HOT, KEY, NODE_KEYS, Crash, Station

MIN_MS, HOUR_MS = 60_000, 3_600_000
LONG = {"name": "long", "when": parse("temp > 30 for 3 min"), "clear": parse("temp < 29"), "action": "alert"}
SILENT = {"name": "silent", "when": parse("absent(temp, 5 min)"), "clear": None, "action": "notify"}
STEEP = {"name": "steep", "when": parse("rate(temp, 5 min) > 4"), "clear": None, "action": "notify"}
IDENTIFY = {"action": "identify", "params": {}, "targets": ["sensor-02"]}
BOTH = {
    "name": "both",
    "when": parse("all(group: pens, temp > 30)"),
    "clear": None,
    "action": "both",
    "command": IDENTIFY,
}
PLACES = {"groups": {"sensor-01": ["pens"], "sensor-02": ["pens"]}, "members": {"group:pens": 5}}


def offline(*rules: dict[str, Any], **config: Any) -> Station:
    """A gateway that was online with these rules, and has lost the cloud."""
    station = Station(**config).online()
    give(station, rules)
    for node in ("sensor-01", "sensor-02"):
        station.heartbeat(node, interval_ms=HOUR_MS)
    station.later(1_000)
    station.lose_uplink()
    station.forget()
    return station


def give(station: Station, rules: tuple[dict[str, Any], ...], version: int = 2) -> None:
    built = snapshot.build(version, list(rules), NODE_KEYS, GATEWAY, KEY, bytes(12), places=PLACES)
    station.from_cloud("config", built)


def raised(station: Station) -> list[tuple[str, str | None]]:
    return [(event["rule"], event.get("node")) for event in station.events("alert.raised")]


def journal(station: Station) -> list[dict[str, Any]]:
    return [entry for _, entry in entries_of(station.disk.slots)]


# --- conditions -----------------------------------------------------------------------------------------------------


def test_a_spell_that_is_shorter_than_its_for_passes_and_a_longer_one_sounds_the_alarm() -> None:
    station = offline(LONG)
    for seq, value in enumerate((31.0, 31.0, 20.0, 31.0, 31.0, 31.0)):
        station.reading(value, seq)
        station.later(MIN_MS)
    assert raised(station) == []
    station.reading(31.0, 6)
    assert raised(station) == [("long", "sensor-01")]
    assert [command["state"] for command in station.to_node("cmd")] == ["on"]


def test_for_is_believed_soon_after_when_no_reading_confirms_it() -> None:
    station = offline(LONG)
    station.reading(31.0, 0)
    station.later(3 * MIN_MS + 4_999)
    assert raised(station) == []
    station.later(1)
    assert raised(station) == [("long", "sensor-01")]


def test_absence_is_noticed_and_ends_with_the_next_reading() -> None:
    station = offline(SILENT)
    station.reading(20.0, 0)
    station.later(5 * MIN_MS)
    assert raised(station) == [("silent", "sensor-01")]
    station.reading(20.0, 1)
    assert [event["id"] for event in station.events("alert.cleared")] == [f"silent:sensor-01:{BOOT}:0"]


def test_a_steep_rise_is_noticed() -> None:
    station = offline(STEEP)
    for seq, value in enumerate((20.0, 22.0, 25.0)):
        station.reading(value, seq)
        station.later(MIN_MS)
    assert raised(station) == [("steep", "sensor-01")]


def test_a_rule_about_a_group_is_judged_over_the_nodes_here_and_says_over_how_many() -> None:
    station = offline(BOTH)
    station.reading(20.0, 0, node="sensor-02")
    station.reading(31.0, 0)
    assert raised(station) == []
    station.reading(31.0, 1, node="sensor-02")
    (event,) = station.events("alert.raised")
    assert (event["scope"], event["judged"], event["members"]) == ("group:pens", 2, 5) and "node" not in event
    (report,) = [report for report in station.reports_on_disk() if report.get("rule") == "both"]
    assert "sensor" not in report and (report["judged"], report["members"]) == (2, 5)


def test_a_node_that_another_gateway_has_by_now_counts_no_more() -> None:
    station = offline(BOTH)
    station.regain_uplink()
    station.reading(20.0, 0)
    station.command("c-9", target=None, action="release", params={"node": "sensor-01", "attach": 5})
    station.lose_uplink()
    station.forget()
    station.reading(31.0, 1, node="sensor-02")
    (event,) = station.events("alert.raised")
    assert (event["judged"], event["members"]) == (1, 5)


def test_absence_is_judged_of_a_sealed_value_too_and_its_value_is_not() -> None:
    station = offline(SILENT, LONG)
    sealed = seal(aes_block(bytes(32)), "sensor-01", "temp", BOOT, 0, "35.00")
    payload = messages.encode_reading(sealed, '"°C"', BOOT, 0, "age_ms", 0)
    station.raw("nodes", "clawland/sensor-01/temp", payload)
    assert [event["rule"] for event in station.events("rule.blind")] == ["long"]
    station.later(5 * MIN_MS)
    assert raised(station) == [("silent", "sensor-01")]


def test_online_it_evaluates_and_decides_nothing_and_going_offline_it_says_what_the_cloud_cannot_know() -> None:
    station = Station().online()
    give(station, (LONG,))
    station.heartbeat(interval_ms=HOUR_MS)
    station.reading(31.0, 0)
    station.later(4 * MIN_MS)
    assert raised(station) == [] and station.to_node("cmd") == []
    station.lose_uplink()
    assert [command["state"] for command in station.to_node("cmd")] == ["on"]


def test_a_rule_marked_always_is_acted_upon_online() -> None:
    station = Station().online()
    give(station, (LONG | {"always": True},))
    station.heartbeat(interval_ms=HOUR_MS)
    station.reading(31.0, 0)
    station.later(4 * MIN_MS)
    assert raised(station) == [("long", "sensor-01")]


# --- commands and cooldown --------------------------------------------------------------------------------------------


def test_a_rules_command_goes_to_its_targets_and_the_report_names_it() -> None:
    station = offline(BOTH)
    station.reading(31.0, 0)
    (command,) = station.to_node("cmd", "sensor-02")
    assert command["action"] == "identify"
    (report,) = [report for report in station.reports_on_disk() if report.get("rule") == "both"]
    assert report["commands"] == [{"id": command["id"], "action": "identify", "target": "sensor-02"}]
    station.answer(command["id"], node="sensor-02")
    assert station.events("command.acknowledged")[-1]["target"] == "sensor-02"
    assert not any(slot.startswith("cmd:") for slot in station.disk.slots)


def test_a_rules_command_survives_a_power_cut_and_has_the_same_id_after_it() -> None:
    station = offline(BOTH)
    station.reading(31.0, 0)
    (before,) = station.to_node("cmd", "sensor-02")
    station.forget()
    station.power_on()
    station.heartbeat("sensor-02", n=2)
    assert {command["id"] for command in station.to_node("cmd", "sensor-02")} == {before["id"]}


def test_a_target_that_is_not_served_here_is_refused_and_said_to_be() -> None:
    station = offline(BOTH | {"command": IDENTIFY | {"targets": ["sensor-09", "sensor-02"]}})
    station.reading(31.0, 0)
    (refused,) = station.events("command.refused")
    assert (refused["rule"], refused["target"]) == ("both", "sensor-09")
    assert len(station.to_node("cmd", "sensor-02")) == 1
    assert "command-refused" in [entry["what"] for entry in journal(station)]


def test_within_the_cooldown_an_episode_waits_and_is_acted_upon_if_it_is_still_there_when_that_ends() -> None:
    station = offline(HOT | {"cooldown_ms": 10 * MIN_MS})
    station.reading(31.0, 0)
    station.later(MIN_MS)
    station.reading(20.0, 1)
    station.later(MIN_MS)
    for command in station.to_node("cmd"):
        station.answer(command["id"])
    station.forget()
    station.reading(31.0, 2)
    assert station.events("alert.raised")[-1]["silenced"] == "cooldown" and station.to_node("cmd") == []
    station.later(8 * MIN_MS - 1)
    assert station.to_node("cmd") == []
    station.later(1)
    assert [command["state"] for command in station.to_node("cmd")] == ["on"]


def test_a_cooldown_is_neither_forgotten_nor_counted_anew_by_a_restart() -> None:
    station = offline(HOT | {"cooldown_ms": 10 * MIN_MS})
    station.reading(31.0, 0)
    station.later(MIN_MS)
    station.reading(20.0, 1)
    station.later(MIN_MS)
    for command in station.to_node("cmd"):
        station.answer(command["id"])
    station.power_on()
    station.heartbeat(n=2, interval_ms=HOUR_MS)
    station.later(2 * MIN_MS)
    station.forget()
    station.reading(31.0, 2)
    assert station.to_node("cmd") == []
    station.later(6 * MIN_MS)
    assert [command["state"] for command in station.to_node("cmd")] == ["on"]


@pytest.mark.parametrize("known", [(False, False), (True, False), (False, True)], ids=str)
def test_a_cooldown_survives_a_restart_also_where_utc_is_not_known_before_or_after(known: tuple[bool, bool]) -> None:
    station = offline(HOT | {"cooldown_ms": 10 * MIN_MS})
    station.power_on(utc=known[0])
    station.heartbeat(n=2, interval_ms=HOUR_MS)
    station.later(2 * MIN_MS)
    station.reading(31.0, 0)
    station.later(MIN_MS)
    station.reading(20.0, 1)
    station.later(MIN_MS)
    for command in station.to_node("cmd"):
        station.answer(command["id"])
    station.power_on(utc=known[1])
    station.heartbeat(n=3, interval_ms=HOUR_MS)
    station.later(2 * MIN_MS)
    station.forget()
    station.reading(31.0, 2)
    assert station.to_node("cmd") == []
    station.later(10 * MIN_MS)
    assert {command["state"] for command in station.to_node("cmd")} == {"on"}


def test_a_cooldown_that_was_assumed_ends_when_it_should_once_utc_is_known() -> None:
    station = offline(HOT | {"cooldown_ms": 10 * MIN_MS})
    station.reading(31.0, 0)
    station.later(MIN_MS)
    station.reading(20.0, 1)
    station.later(MIN_MS)
    for command in station.to_node("cmd"):
        station.answer(command["id"])
    station.now_ms += 4 * MIN_MS
    station.power_on(utc=False)
    station.heartbeat(n=2, interval_ms=HOUR_MS)
    station.later(2 * MIN_MS)
    station.forget()
    station.reading(31.0, 2)
    station.core.learn_utc(EPOCH_MS + station.now_ms, station.now_ms)
    assert station.to_node("cmd") == []
    station.later(2 * MIN_MS)
    assert [command["state"] for command in station.to_node("cmd")] == ["on"]


# --- the disk ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("utc", [True, False], ids=["with UTC", "UTC later"])
def test_a_for_under_way_goes_on_after_a_power_cut(utc: bool) -> None:
    station = offline(LONG)
    station.reading(31.0, 0)
    station.later(MIN_MS)
    station.power_on(utc=utc)
    if not utc:
        station.core.learn_utc(EPOCH_MS + station.now_ms, station.now_ms)
        station.pump()
    station.heartbeat(n=2, interval_ms=HOUR_MS)
    station.later(2 * MIN_MS - 1)
    station.forget()
    station.reading(31.0, 1)
    assert raised(station) == []
    station.later(1)
    station.reading(31.0, 2)
    (event,) = station.events("alert.raised")
    assert event["id"] == f"long:sensor-01:{BOOT}:0", "named after the reading that began it, before the cut"


@pytest.mark.parametrize("known", [(False, False), (True, False), (False, True)], ids=str)
def test_without_utc_a_for_goes_on_as_old_as_it_was_but_old_values_alone_raise_nothing(
    known: tuple[bool, bool],
) -> None:
    station = offline(LONG)
    station.power_on(utc=known[0])
    station.heartbeat(interval_ms=HOUR_MS)
    station.later(2 * MIN_MS)
    station.reading(31.0, 0)
    station.later(2 * MIN_MS)
    station.now_ms += HOUR_MS
    station.power_on(utc=known[1])
    station.heartbeat(n=2, interval_ms=HOUR_MS)
    station.later(10 * MIN_MS)
    assert raised(station) == []
    station.reading(31.0, 1)
    assert [event["id"] for event in station.events("alert.raised")] == [f"long:sensor-01:{BOOT}:0"]


def test_silence_while_the_gateway_itself_was_down_is_no_absence() -> None:
    station = offline(SILENT)
    station.reading(20.0, 0)
    station.later(MIN_MS)
    station.alive = False
    station.now_ms += 20 * MIN_MS
    station.power_on()
    station.later(4 * MIN_MS)
    assert raised(station) == []
    station.later(2 * MIN_MS)
    assert raised(station) == [("silent", "sensor-01")]


def test_an_episode_is_raised_once_whatever_restarts() -> None:
    station = offline(SILENT)
    station.reading(20.0, 0)
    station.later(6 * MIN_MS)
    station.power_on()
    station.later(20 * MIN_MS)
    assert raised(station) == [("silent", "sensor-01")]
    station.regain_uplink()
    station.later(1_000)
    told = [report for report in station.reports.values() if report.get("rule") == "silent"]
    assert [report["status"] for report in told] == ["alert-raised"]


def test_the_journal_names_what_was_decided_and_the_report_that_tells_of_it() -> None:
    station = offline(LONG)
    station.reading(31.0, 0)
    station.later(4 * MIN_MS)
    entries = journal(station)
    assert [entry["what"] for entry in entries] == ["online", "offline", "alert-raised"]
    assert entries[-1]["alert"] == f"long:sensor-01:{BOOT}:0" and entries[-1]["utc_ms"] > EPOCH_MS
    assert entries[-1]["item"] in {report["item"] for report in station.reports_on_disk()}


def test_the_journal_is_bounded_and_the_oldest_goes() -> None:
    station = offline(HOT)
    for turn in range(MOST_ENTRIES):
        station.core.journal.write("command-refused", {"target": str(turn)}, station.now_ms)
        station.pump()
        station.outputs.clear()
    numbers = [number for number, _ in entries_of(station.disk.slots)]
    assert len(numbers) == MOST_ENTRIES and numbers == list(range(numbers[0], numbers[0] + MOST_ENTRIES))
    assert journal(station)[-1]["target"] == str(MOST_ENTRIES - 1)


def test_the_journal_goes_on_counting_after_a_restart() -> None:
    station = offline(HOT)
    before = journal(station)
    station.power_on()
    station.later(2 * MIN_MS)
    assert journal(station)[: len(before)] == before and len(journal(station)) == len(before) + 1


# --- a configuration that cannot be taken -----------------------------------------------------------------------------


def test_a_rule_that_cannot_be_taken_is_said_upstream_and_in_the_status_until_a_good_one_comes() -> None:
    station = Station().online()
    odd = HOT | {"name": "odd", "when": {"median": "temp", "over_ms": 60_000}, "clear": None}
    for _ in range(2):
        give(station, (HOT, odd), version=7)
    assert [event["version"] for event in station.events("config.refused")] == [7], "once"
    assert station.core.status()["config_refused"]["version"] == 7
    station.later(31_000)
    assert "odd" in station.to_cloud("heartbeat")[-1]["config_refused"]["reason"]
    assert list(station.core.decisions.rules) == ["hot"]
    give(station, (HOT, LONG), version=8)
    assert "config_refused" not in station.core.status()


def test_it_announces_all_that_it_can_do() -> None:
    station = Station().online()
    (first, *_) = station.to_cloud("heartbeat")
    assert {"for", "absent", "rate", "any", "all", "count", "avg", "and", "or", "not", "command"} <= set(
        first["capabilities"]
    )


# --- the power goes at any instant ------------------------------------------------------------------------------------


def cut_while_deciding(after: int) -> Station | None:
    """The power goes after so many outputs of an outage with one decision; None when there are fewer."""
    station = offline(BOTH, LONG)
    station.cut_after = after
    try:
        station.reading(31.0, 0)
        station.reading(31.0, 0, node="sensor-02")
        station.later(4 * MIN_MS)
    except Crash:
        station.cut_after = None
        return station
    return None


@pytest.mark.parametrize("first", range(4))
def test_whenever_the_power_goes_what_was_said_is_in_the_journal_once_and_the_cloud_is_told_once(first: int) -> None:
    for after in range(first, 400, 4):
        station = cut_while_deciding(after)
        if station is None:
            assert after > 10
            return
        said = {event["id"] for event in station.events("alert.raised")}
        station.power_on()
        for node in ("sensor-01", "sensor-02"):
            station.heartbeat(node, n=2, interval_ms=HOUR_MS)
            station.reading(31.0, 1, node=node)
        station.later(6 * MIN_MS)
        station.regain_uplink()
        station.later(MIN_MS)
        raised = [report["alert"] for report in station.reports.values() if report.get("status") == "alert-raised"]
        decided = [entry["alert"] for entry in journal(station) if entry["what"] == "alert-raised"]
        assert sorted(raised) == sorted(set(raised)) == sorted(decided) and said <= set(raised)
        ids = [command["id"] for command in station.to_node("cmd", "sensor-02") if command["action"] == "identify"]
        assert len(set(ids)) <= len([episode for episode in raised if episode.startswith("both:")])
    pytest.fail("the outage has more than 400 outputs")
