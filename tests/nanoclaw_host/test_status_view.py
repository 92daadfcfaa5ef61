"""What `nanoclaw status` tells people, of a gateway that runs and of one that does not."""

from typing import Any

from nanoclaw.host.status_view import table

NOW_MS = 1_790_000_000_000
FOUND: dict[str, Any] = {
    "id": "gateway-01", "fleet": "clawland", "site": "barn", "role": "primary", "running": True, "mode": "online",
    "pid": 7, "utc_ms": NOW_MS, "started_utc_ms": NOW_MS - 7_200_000, "answered_utc_ms": NOW_MS - 5_000,
    "mqtt_port": 1883, "nodes_up": 2, "nodes_down": 1, "failures": [],
    "nodes": [{"id": "sensor-01", "state": "up"}, {"id": "sensor-02", "state": "down"}],
    "uplinks": [
        {"name": "ethernet", "state": "down", "used": False, "target": "hub:8883", "through": "eth0",
         "failure": "Connection refused"},
        {"name": "4g", "state": "up", "used": True, "target": "hub:8883", "through": "wwan0", "failure": "",
         "spent_bytes": 12_345_678, "daily_bytes": 50_000_000, "batch_ms": 180_000},
    ],
    "serial": [
        {"name": "barn", "url": "/dev/ttyUSB0", "state": "up", "nodes": ["sensor-01", "sensor-02"], "failure": "",
         "opened": 2, "lost": 1, "messages": 300, "spoilt": 4, "rejected": 1, "dropped": 0},
        {"name": "silo", "url": "socket://silo:4000", "state": "down", "nodes": [], "failure": "connection refused",
         "opened": 0, "lost": 0, "messages": 0, "spoilt": 0, "rejected": 0, "dropped": 0},
    ],
    "outbox_readings": 20_000, "outbox_reports": 3, "outbox_max_readings": 200_000, "readings_per_hour": 3_000.0,
    "version": "0.1.0", "config": 4, "moved_aside": [],
}  # fmt: skip


def rows(**changes: Any) -> dict[str, str]:
    return dict(table({**FOUND, **changes}, NOW_MS))


def test_a_running_gateway_is_told_in_a_few_lines() -> None:
    assert table(FOUND, NOW_MS) == [
        ("gateway", "gateway-01 (primary, site barn, fleet clawland)"),
        ("state", "running, online, started 2 hours ago (2026-09-21 12:13:20 UTC), process 7"),
        ("nodes", "2 up, 1 down, on port 1883 (down: sensor-02)"),
        ("serial", "barn: up, /dev/ttyUSB0, sensor-01, sensor-02 behind it; 4 spoilt lines, 1 refused"),
        ("serial", "silo: down, socket://silo:4000 (connection refused)"),
        ("uplink", "ethernet: down, to hub:8883 through eth0 (Connection refused)"),
        ("uplink", "4g: up, in use, to hub:8883 through wwan0; 12.3 of 50 MB today, a batch every 180 s"),
        ("cloud", "last answered 5 s ago (2026-09-21 14:13:15 UTC)"),
        ("outbox", "20,000 readings, 3 reports; room for 180,000 more readings, 60.0 hours at 3,000 an hour"),
        ("versions", "nanoclaw 0.1.0, configuration 4 of the fleet manager"),
    ]


def test_a_stopped_gateway_shows_when_it_was_last_seen_and_what_it_keeps() -> None:
    found = rows(running=False, utc_ms=NOW_MS - 3 * 86_400_000)
    assert found["state"] == "not running, last seen 3 days ago (2026-09-18 14:13:20 UTC)"
    assert "20,000 readings" in found["outbox"]
    assert "nodes" not in found and "uplink" not in found


def test_a_long_time_of_capacity_is_told_in_days() -> None:
    assert rows(readings_per_hour=100.0)["outbox"].endswith("75 days at 100 an hour")


def test_a_gateway_that_nothing_comes_to_has_no_hours_to_tell() -> None:
    assert rows(readings_per_hour=None)["outbox"].endswith("room for 180,000 more readings")


def test_problems_and_outboxes_that_were_moved_aside_are_told() -> None:
    found = rows(failures=["the outbox cannot be written: disk full"], moved_aside=["outbox.sqlite.broken-1"])
    assert found["problem"] == "the outbox cannot be written: disk full"
    assert found["moved"] == "outbox.sqlite.broken-1: an outbox that could not be read"


def test_an_unused_directory_and_a_broken_outbox_are_told() -> None:
    unused = {"running": False, "outbox_readings": 0, "outbox_reports": 0}
    assert table(unused)[:2] == [
        ("gateway", "no gateway has written its status here yet"),
        ("state", "not running"),
    ]
    assert rows(outbox_error="file is not a database")["outbox"] == "cannot be read: file is not a database"
