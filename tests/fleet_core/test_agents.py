"""Agents that speak HTTP, in the core: registration, heartbeats, reports, commands."""

from typing import Any

import pytest

from fleet.core.agents import SILENT_MS
from fleet.core.errors import Busy, Conflict, Unknown
from tests.fleet_core.rig import EPOCH_MS, Cloud

HARDWARE = {"chip": "ESP32-S3", "ram_kb": 512, "flash_mb": 8, "model": None}


def agent(node: str = "agent-01", **changes: Any) -> dict[str, Any]:
    found = {"id": node, "type": "picoclaw", "hardware": HARDWARE, "capabilities": ["dht22"], "metadata": {}}
    return found | changes


def registered(cloud: Cloud | None = None, **changes: Any) -> Cloud:
    cloud = cloud or Cloud().started()
    cloud.core.agents.register(agent(**changes), "alice", cloud.now_ms)
    cloud.pump()
    return cloud


def beat(cloud: Cloud, node: str = "agent-01", **health: Any) -> dict[str, Any]:
    told = cloud.core.agents.heartbeat(node, {"free_memory_kb": 200} | health, cloud.now_ms)
    cloud.pump()
    return told


def seen(value: Any = 21.5, at_ms: int = EPOCH_MS, **changes: Any) -> dict[str, Any]:
    event = {"type": "sensor_reading", "utc_ms": at_ms, "sensor_type": "temp", "severity": "info", "message": ""}
    return event | {"data": {"value": value, "unit": "C"}} | changes


def report(cloud: Cloud, *events: dict[str, Any], node: str = "agent-01") -> tuple[int, list[bool]]:
    """How many of the events are new, and what was said of the commit."""
    told: list[bool] = []
    count = cloud.core.agent_events.report(node, list(events), told.append, cloud.now_ms)
    cloud.pump()
    return count, told


# --- registration ----------------------------------------------------------------------------------------------------


def test_an_agent_is_a_node_like_any_other_and_survives_the_server() -> None:
    cloud = registered()
    assert cloud.core.node_view("agent-01")["registered_utc_ms"] == EPOCH_MS + cloud.now_ms
    cloud.power_on()
    assert cloud.core.node_view("agent-01")["hardware"] == HARDWARE


def test_the_same_hardware_may_register_again_and_outdates_earlier_tokens() -> None:
    cloud = registered()
    registered(cloud, capabilities=["bme280"])
    view = cloud.core.node_view("agent-01")
    assert (view["capabilities"], view["generation"]) == (["bme280"], 2)


@pytest.mark.parametrize("node", ["agent-01", "sensor-01", "gateway-01"])
def test_an_id_of_other_hardware_or_of_a_gateways_world_is_refused(node: str) -> None:
    cloud = registered()
    with pytest.raises(Conflict):
        cloud.core.agents.register(agent(node, hardware=HARDWARE | {"ram_kb": 1}), "alice", cloud.now_ms)


def test_a_registration_that_is_not_stored_never_was() -> None:
    cloud = Cloud().started()
    cloud.refuse_stores = True
    registered(cloud)
    with pytest.raises(Unknown):
        beat(cloud)


# --- liveness --------------------------------------------------------------------------------------------------------


def test_an_agent_is_down_after_three_missed_heartbeats_and_not_a_millisecond_before() -> None:
    cloud = registered()
    beat(cloud)
    assert cloud.state("agent-01") == "up"
    cloud.alive_for(SILENT_MS)
    assert cloud.state("agent-01") == "up"
    cloud.later(1)
    assert cloud.state("agent-01") == "down" and cloud.table("nodes")["agent-01"]["doc"]["state"] == "down"
    assert [event["silent_ms"] for event in cloud.events("node.down")] == [SILENT_MS + 1]
    beat(cloud)
    assert cloud.state("agent-01") == "up"
    subjects = [row["subject"] for row in cloud.table("notifications").values()]
    assert subjects == ["node agent-01 is down", "node agent-01 is back"]


def test_an_agent_that_was_up_before_a_restart_is_given_its_time_again() -> None:
    cloud = registered()
    beat(cloud)
    cloud.power_on()
    cloud.alive_for(SILENT_MS)
    assert cloud.state("agent-01") == "up"
    cloud.later(1)
    assert cloud.state("agent-01") == "down"


def test_a_silence_that_could_not_be_written_is_written_later() -> None:
    cloud = registered()
    beat(cloud)
    cloud.refuse_stores = True
    cloud.alive_for(SILENT_MS + 1)
    assert cloud.table("nodes")["agent-01"]["doc"]["state"] == "up"
    cloud.refuse_stores = False
    cloud.alive_for(10_000)
    assert cloud.table("nodes")["agent-01"]["doc"]["state"] == "down"


def test_little_memory_and_open_alerts_are_warnings() -> None:
    cloud = registered()
    assert beat(cloud)["warnings"] == []
    assert beat(cloud, free_memory_kb=20)["warnings"] == ["20 KB of 512 KB are free"]
    report(cloud, seen(40.0, EPOCH_MS + cloud.now_ms))
    assert beat(cloud)["warnings"] == ["the alert hot is open"]


# --- reports ---------------------------------------------------------------------------------------------------------


def test_readings_of_an_agent_are_stored_and_judged_like_any_other() -> None:
    cloud = registered()
    count, told = report(cloud, seen(40.0, EPOCH_MS + cloud.now_ms), seen(None, data={"humidity": 60, "door": True}))
    assert (count, told) == (2, [True])
    assert {(row.metric, row.value) for row in cloud.rows()} == {("temp", 40.0), ("humidity", 60), ("door", True)}
    assert cloud.kinds("alert.raised") == ["alert.raised"]


def test_a_report_that_comes_again_stores_nothing_also_after_a_restart() -> None:
    cloud = registered()
    event = seen()
    assert report(cloud, event, event) == (1, [True])
    assert report(cloud, event) == (0, [True])
    cloud.power_on()
    assert report(cloud, event, seen(22.0)) == (1, [True])
    assert sorted(row.seq for row in cloud.rows()) == [0, 1]


def test_a_report_that_is_not_stored_is_as_if_it_had_never_come() -> None:
    cloud = registered()
    cloud.refuse_stores = True
    assert report(cloud, seen()) == (1, [False])
    cloud.refuse_stores = False
    assert report(cloud, seen()) == (1, [True])
    assert len(cloud.rows()) == 1


def test_one_report_of_an_agent_at_a_time() -> None:
    cloud = registered()
    cloud.hold_stores = True
    report(cloud, seen())
    with pytest.raises(Busy):
        report(cloud, seen(22.0))
    cloud.finish_stores()
    assert report(cloud, seen(22.0)) == (1, [True])


def test_everything_but_readings_is_kept_as_an_event_and_people_hear_of_alerts() -> None:
    cloud = registered()
    alert = seen(type="alert", severity="warning", message="too hot", data={})
    report(cloud, alert, seen(type="status_change", message="rebooted", data={}), alert)
    kinds = sorted(row["kind"] for row in cloud.table("node_events").values())
    assert kinds == ["alert", "status_change"]
    assert [row["subject"] for row in cloud.table("notifications").values()] == ["alert on agent-01: warning"]


def test_an_alert_that_an_agent_had_to_keep_is_not_told_as_if_it_were_now() -> None:
    cloud = registered()
    cloud.later(60 * 60_000)
    old = seen(type="alert", severity="critical", message="smoke", at_ms=EPOCH_MS + cloud.now_ms - 27 * 60_000)
    report(cloud, old)
    subjects = [row["subject"] for row in cloud.table("notifications").values()]
    assert "alert on agent-01: critical, 27 min ago" in subjects


@pytest.mark.parametrize("data", [{}, {"unit": "C"}, {"value": None}, {"Not a metric": 1}, {"value": "x" * 300}])
def test_one_wrong_event_spoils_the_whole_report_and_says_which(data: dict[str, Any]) -> None:
    cloud = registered()
    with pytest.raises(ValueError, match=r"events\.1"):
        report(cloud, seen(), seen(data=data))
    assert cloud.rows() == [] and report(cloud, seen()) == (1, [True])


# --- commands --------------------------------------------------------------------------------------------------------


def test_an_agent_fetches_its_command_once_a_minute_until_it_answers() -> None:
    cloud = registered()
    row = cloud.restart("agent-01", ttl_ms=600_000)

    def poll() -> list[str]:
        found = [command["id"] for command in cloud.core.agents.poll("agent-01", cloud.now_ms)]
        cloud.pump()
        return found

    assert beat(cloud)["commands_pending"] == 1 and cloud.sent("cmd") == []
    assert poll() == [row["id"]] and poll() == []
    assert cloud.table("commands")[row["id"]]["state"] == "sent"
    cloud.alive_for(60_000)
    assert poll() == [row["id"]]
    answer = {"id": row["id"], "status": "success", "reason": None, "result": {"seconds": 3}}
    cloud.core.agents.answer("agent-01", answer, cloud.now_ms)
    cloud.pump()
    view = cloud.core.command_view(row["id"])
    assert (view["state"], view["doc"]["result"]) == ("acknowledged", {"seconds": 3})
    assert beat(cloud)["commands_pending"] == 0


def test_a_command_that_nobody_fetches_expires() -> None:
    cloud = registered()
    row = cloud.restart("agent-01", ttl_ms=45_000)
    cloud.alive_for(45_001)
    assert cloud.core.command_view(row["id"])["state"] == "expired"
    assert cloud.core.agents.poll("agent-01", cloud.now_ms) == []


def test_an_agent_cannot_answer_a_command_of_another() -> None:
    cloud = registered(registered(), id="agent-02")
    row = cloud.restart("agent-01")
    for command in (row["id"], "c-unknown"):
        with pytest.raises(Unknown):
            cloud.core.agents.answer("agent-02", {"id": command, "status": "success"}, cloud.now_ms)
    assert cloud.core.command_view(row["id"])["state"] == "queued"


def test_a_stranger_and_a_node_of_a_gateway_are_no_agents() -> None:
    cloud = registered()
    for node in ("stranger", "sensor-01"):
        for ask in (beat, lambda cloud, node: cloud.core.agents.poll(node, cloud.now_ms)):
            with pytest.raises(Unknown):
                ask(cloud, node)
