"""The table of modes: every cell of it is walked, and whatever happens the gateway is where the table says."""

from itertools import product
from pathlib import Path

import pytest

from nanoclaw.core.mode import (
    BEHIND,
    CATCHING_UP,
    CAUSES,
    LATE,
    LOST,
    MODES,
    OFFLINE,
    ONLINE,
    PROBING,
    SILENT,
    TABLE,
    Row,
    as_markdown,
    step,
)
from tests.nanoclaw_core.rig import Station

DOCS = Path(__file__).resolve().parents[2] / "docs" / "gateway.md"
FACTS = list(product((False, True), repeat=3))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.mode}: {row.cause}, {row.guard or 'always'}")
def test_every_row_applies_in_some_case_and_says_an_event(row: Row) -> None:
    cases = [facts for facts in FACTS if step(row.mode, row.cause, *facts) == row]
    assert cases and row.says.startswith("gateway.")


@pytest.mark.parametrize(("mode", "cause"), list(product(MODES, CAUSES)))
def test_what_is_not_in_the_table_changes_nothing_and_nothing_leads_out_of_it(mode: str, cause: str) -> None:
    listed = [row for row in TABLE if (row.mode, row.cause) == (mode, cause)]
    for facts in FACTS:
        row = step(mode, cause, *facts)
        assert row is None or (row in listed and row.becomes in MODES)
        if not listed:
            assert row is None


def test_every_mode_is_left_and_reached() -> None:
    assert {row.mode for row in TABLE} == {row.becomes for row in TABLE} == set(MODES)


def test_only_offline_is_alone_and_only_a_silence_or_a_lost_line_leads_there() -> None:
    assert {row.cause for row in TABLE if row.becomes == OFFLINE} == {SILENT, LOST}
    assert all(row.says == "gateway.offline" for row in TABLE if row.becomes == OFFLINE)


def test_the_documentation_shows_the_table_as_it_is() -> None:
    assert as_markdown() in DOCS.read_text(encoding="utf-8"), as_markdown()


# --- walked by a gateway ----------------------------------------------------------------------------------------------


def mode(station: Station) -> str:
    return str(station.core.status()["mode"])


def said(station: Station) -> list[str]:
    kinds = {row.says for row in TABLE}
    return [kind for kind in station.kinds() if kind in kinds]


def test_from_the_start_it_probes_then_is_online_or_offline() -> None:
    station = Station().power_on()
    assert mode(station) == PROBING
    station.at(91_000)
    assert mode(station) == OFFLINE
    station.regain_uplink()
    assert mode(station) == ONLINE
    assert said(station) == ["gateway.offline", "gateway.online"]


def test_a_late_answer_is_a_doubt_that_passes_and_sends_nothing_twice() -> None:
    station = Station().online()
    station.heartbeat()
    station.at(30_000)
    station.forget()
    station.deaf_to = "heartbeat"
    station.at(30_000 + 74_999)
    assert mode(station) == ONLINE
    station.at(30_000 + 75_000)
    assert mode(station) == PROBING and not station.core.uplink.alone
    (doubt,) = station.events("gateway.probing")
    assert doubt == {"reason": "heartbeat timeout", "silent_ms": 75_000}
    station.reading(35.0, 0)
    station.later(6_000)
    assert station.events("alert.raised") == [], "a doubt is no reason to decide alone"
    station.deaf_to = ""
    station.later(9_500)
    assert mode(station) == OFFLINE or said(station)[-1] == "gateway.answered"


def test_a_doubt_ends_with_the_next_answer() -> None:
    station = Station().online()
    station.at(30_000)
    station.deaf_to = "heartbeat"
    station.at(30_000 + 76_000)
    station.forget()
    station.deaf_to = ""
    station.from_cloud("heartbeat/ack", {"v": 1, "n": station.core.uplink.heartbeats})
    assert (mode(station), said(station)) == (ONLINE, ["gateway.answered"])


def test_what_was_kept_is_caught_up_in_a_mode_of_its_own() -> None:
    station = Station(catchup_readings=1).online()
    station.lose_uplink()
    for seq in range(5):
        station.reading(20.0, seq)
    station.later(70_000)
    station.forget()
    station.regain_uplink()
    assert mode(station) == CATCHING_UP
    station.later(30_000)
    assert mode(station) == ONLINE
    assert said(station) == ["gateway.online", "gateway.catching-up", "gateway.caught-up"]


def test_it_goes_offline_out_of_the_middle_of_catching_up() -> None:
    station = Station(catchup_readings=1, catchup_every_ms=10_000).online()
    station.lose_uplink()
    for seq in range(50):
        station.reading(20.0, seq)
    station.later(70_000)
    station.regain_uplink()
    station.forget()
    station.lose_uplink()
    assert (mode(station), said(station)) == (OFFLINE, ["gateway.offline"])
    station.regain_uplink()
    assert mode(station) == CATCHING_UP, "and begins again where it was"


def test_a_doubt_in_the_middle_of_catching_up_ends_where_it_began() -> None:
    station = Station(catchup_readings=1, catchup_every_ms=10_000).online()
    station.lose_uplink()
    for seq in range(50):
        station.reading(20.0, seq)
    station.later(70_000)
    station.regain_uplink()
    station.deaf_to = "heartbeat"
    station.later(76_000)
    assert mode(station) == PROBING
    station.from_cloud("heartbeat/ack", {"v": 1, "n": station.core.uplink.heartbeats})
    assert mode(station) == CATCHING_UP


def test_causes_that_nothing_stands_for_are_no_events() -> None:
    station = Station().online()
    station.forget()
    for cause in (BEHIND, LATE):
        station.core.cloud.happens(cause, {"readings": 1}, station.now_ms)
    station.core.cloud.happens(BEHIND, {"readings": 1}, station.now_ms)
    station.pump()
    assert said(station) == ["gateway.catching-up", "gateway.probing", "gateway.catching-up"]
