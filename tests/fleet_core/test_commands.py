"""Commands from the request to the answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.wire import messages
from firmware.wire.auth import Sealer
from fleet.core.commands import InvalidCommand, UnknownTarget
from tests.fleet_core.rig import EPOCH_MS, Cloud, Crash

KINDS = ("command.queued", "command.sent", "command.acknowledged", "command.failed", "command.expired")


def test_a_command_is_durable_before_it_is_sent_and_carries_its_expiry() -> None:
    cloud = Cloud().started()
    cloud.forget()
    cloud.hold_stores = True
    row = cloud.restart()
    assert cloud.sent("cmd") == [] and row["state"] == "queued"
    cloud.finish_stores()
    (command,) = cloud.sent("cmd")
    assert (command["id"], command["action"], command["target"]) == (row["id"], "restart", "sensor-01")
    assert command["expires_utc_ms"] == EPOCH_MS + 60_000
    assert cloud.kinds(*KINDS) == ["command.queued", "command.sent"]


def test_it_is_sent_again_with_the_same_id_until_it_is_answered() -> None:
    cloud = Cloud().started()
    row = cloud.restart()
    cloud.alive_for(25_000)
    assert [command["id"] for command in cloud.sent("cmd")] == [row["id"]] * 3
    cloud.say("gateway-01", "ack", id=row["id"], target="sensor-01", status="restarted", item="gateway-01-r9")
    assert cloud.core.command_view(row["id"])["state"] == "acknowledged"
    assert "gateway-01-r9" in cloud.acks()
    cloud.forget()
    cloud.alive_for(120_000)
    assert cloud.sent("cmd") == []
    cloud.say("gateway-01", "ack", id=row["id"], target="sensor-01", status="restarted", item="gateway-01-r9")
    assert cloud.acks() == ["gateway-01-r9"], "said twice, acknowledged twice"
    assert cloud.kinds(*KINDS) == [], "and counted once"


def test_the_answer_counts_once_it_is_durable() -> None:
    cloud = Cloud().started()
    row = cloud.restart()
    cloud.hold_stores = True
    cloud.say("gateway-01", "ack", id=row["id"], target="sensor-01", status="restarted", item="gateway-01-r9")
    assert "gateway-01-r9" not in cloud.acks() and "command.acknowledged" not in cloud.kinds()
    cloud.finish_stores()
    assert "gateway-01-r9" in cloud.acks() and "command.acknowledged" in cloud.kinds()


def test_an_answer_that_could_not_be_stored_comes_again_and_counts_then() -> None:
    cloud = Cloud().started()
    row = cloud.restart()
    cloud.refuse_stores = True
    cloud.say("gateway-01", "ack", id=row["id"], target="sensor-01", status="restarted", item="gateway-01-r9")
    assert cloud.acks() == []
    cloud.refuse_stores = False
    cloud.say("gateway-01", "ack", id=row["id"], target="sensor-01", status="restarted", item="gateway-01-r9")
    assert cloud.core.command_view(row["id"])["state"] == "acknowledged"
    assert cloud.kinds("command.acknowledged") == ["command.acknowledged"]


def test_a_failure_is_told_with_its_reason() -> None:
    cloud = Cloud().started()
    row = cloud.restart()
    cloud.say("gateway-01", "ack", id=row["id"], target="sensor-01", status="failed", reason="unknown action")
    assert cloud.events("command.failed")[0]["reason"] == "unknown action"


def test_a_command_whose_time_is_over_expires_and_not_a_millisecond_before() -> None:
    cloud = Cloud().started()
    row = cloud.restart(ttl_ms=45_000)
    cloud.alive_for(45_000)
    assert cloud.core.command_view(row["id"])["state"] == "sent"
    cloud.later(1)
    assert cloud.core.command_view(row["id"])["state"] == "expired"
    assert cloud.table("commands")[row["id"]]["state"] == "expired"
    cloud.say("gateway-01", "ack", id=row["id"], target="sensor-01", status="restarted")
    assert cloud.core.command_view(row["id"])["state"] == "expired"


def test_a_command_waits_for_a_gateway_that_is_away_and_goes_when_it_is_heard() -> None:
    cloud = Cloud().power_on()
    row = cloud.restart(ttl_ms=900_000)
    cloud.later(60_000)
    assert cloud.sent("cmd") == [] and cloud.core.command_view(row["id"])["state"] == "queued"
    cloud.heartbeat()
    cloud.later(0)
    assert [command["id"] for command in cloud.sent("cmd")] == [row["id"]]


@pytest.mark.parametrize("cut_after", range(10))
def test_a_command_that_was_taken_survives_the_server_wherever_it_dies(cut_after: int) -> None:
    cloud = Cloud().started()
    cloud.cut_after = cut_after
    try:
        row = cloud.restart(ttl_ms=300_000)
    except Crash:
        pass
    else:
        cloud.cut_after = None
        assert row["id"] in cloud.table("commands")
    cloud.cut_after = None
    stored = list(cloud.table("commands"))
    cloud.forget()
    cloud.power_on()
    cloud.heartbeat()
    cloud.later(1_000)
    assert {command["id"] for command in cloud.sent("cmd")} == set(stored)


def test_the_same_idempotency_key_is_the_same_command() -> None:
    cloud = Cloud().started()
    cloud.forget()
    first, again = cloud.restart(key="k-1"), cloud.restart(key="k-1")
    assert first["id"] == again["id"] and len(cloud.sent("cmd")) == 1
    cloud.power_on()
    assert cloud.restart(key="k-1")["id"] == first["id"]


def test_a_command_that_could_not_be_stored_fails_and_its_key_is_free_again() -> None:
    cloud = Cloud().started()
    cloud.refuse_stores = True
    row = cloud.restart(key="k-1")
    assert cloud.core.command_view(row["id"])["state"] == "failed"
    cloud.refuse_stores = False
    again = cloud.restart(key="k-1")
    assert again["id"] != row["id"] and len(cloud.sent("cmd")) == 1


def test_nobody_known_nonsense_and_endless_lifetimes_are_refused_with_words() -> None:
    cloud = Cloud().started()
    core, now_ms = cloud.core, cloud.now_ms
    with pytest.raises(UnknownTarget, match="stranger"):
        core.request_command("restart", "stranger", {}, "operator", 1000, now_ms)
    for action, params, ttl_ms in (
        ("Re start", {}, 1000),
        ("restart", {"x": "y" * 300}, 1000),
        ("restart", {}, 0),
        ("restart", {}, messages.MAX_TTL_MS + 1),
    ):
        with pytest.raises(InvalidCommand, match=r"\w"):
            core.request_command(action, "sensor-01", params, "operator", ttl_ms, now_ms)
    assert cloud.table("commands") == {}


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=120) | st.integers(-(2**60), 2**60), max_size=3))
def test_every_command_that_is_accepted_fits_a_nodes_message(params: dict[str, object]) -> None:
    """Else the node refuses it and the caller learns of it by the expiry only."""
    cloud = Cloud().started()
    try:
        row = cloud.core.request_command("restart", "sensor-01", params, "operator", 1000, cloud.now_ms)
    except InvalidCommand:
        return
    body = messages.encode_command("restart", row["id"], messages.MAX_TTL_MS, "cloud", params)
    sealed = Sealer(bytes(32)).seal("clawland/sensor-01/cmd", body)
    assert len(sealed) <= messages.MAX_NODE_MESSAGE_BYTES


def test_an_answer_of_a_gateway_of_another_site_is_refused() -> None:
    cloud = Cloud().started()
    row = cloud.restart()
    cloud.say("gateway-09", "ack", id=row["id"], target="sensor-01", status="restarted")
    assert cloud.core.command_view(row["id"])["state"] == "sent"
    assert "message.rejected" in cloud.kinds()


def test_an_answer_to_nothing_is_acknowledged_and_changes_nothing() -> None:
    cloud = Cloud().started()
    cloud.forget()
    cloud.say("gateway-01", "ack", id="c-unknown", target="sensor-01", status="restarted", item="gateway-01-r3")
    assert cloud.acks() == ["gateway-01-r3"] and cloud.kinds(*KINDS) == []


def test_what_the_hub_lost_is_sent_again_when_it_is_back() -> None:
    cloud = Cloud().started()
    row = cloud.restart(ttl_ms=300_000)
    cloud.core.link_down("hub", cloud.now_ms)
    cloud.later(20_000)
    cloud.core.link_up("hub", cloud.now_ms)
    cloud.forget()
    cloud.heartbeat()
    cloud.later(0)
    assert [command["id"] for command in cloud.sent("cmd")] == [row["id"]]
