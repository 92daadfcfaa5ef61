"""A core that shows another one's rows: the same views, whatever changed."""

import random
from typing import Any

import pytest

from fleet.core.config import FleetConfig
from fleet.core.manager import FleetCore
from fleet.core.mirror import Mirror
from fleet.core.sensitive import about_key
from fleet.core.vault import Vault, VaultError

KEY = "11" * 32
NODE = {"id": "sensor-01", "doc": {"type": "microclaw", "site": "office", "gateway": "gateway-01", "state": "up"}}
GATEWAY = {"id": "gateway-01", "doc": {"site": "office", "role": "primary", "state": "up", "key": KEY}}
COMMAND = {"id": "c-1", "target": "sensor-01", "state": "queued", "created_utc_ms": 1, "doc": {"action": "restart"}}
ALERT = {"id": "a-1", "node": "sensor-01", "rule": "hot", "state": "raised", "raised_utc_ms": 1, "doc": {}}
LETTER = {"id": "m-1", "state": "failed", "subject": "x", "body": "y", "attempts": 5, "doc": {}}
RULE = {"name": "hot", "doc": {"name": "hot", "when": {"metric": "temp", "op": ">", "value": 30}, "action": "none"}}
WINDOW = {"id": "w-1", "doc": {"on": "all", "from_utc_ms": 1, "until_utc_ms": 2, "reason": "", "by": "alice"}}


def mirror(config: FleetConfig | None = None, **rows: Any) -> Mirror:
    return Mirror(config or FleetConfig(), rows, random.Random(0), 0)


def views(core: FleetCore) -> dict[str, Any]:
    """Everything that a core tells of itself."""
    return {
        "nodes": core.node_views(),
        "ids": core.registry.node_ids(),
        "gateways": core.gateway_views(),
        "alerts": core.alert_views(),
        "commands": [core.command_view(command) for command in core.commands.rows],
        "open": core.commands.open_for("sensor-01"),
        "rules": core.alerts.rules,
        "windows": core.maintenance_views(),
        "letters": core.dead_letter_views(),
        "sites": core.places.site_views(),
        "groups": core.places.groups,
        "version": core.config_version,
    }


def rows() -> dict[str, list[dict[str, Any]]]:
    return {
        "gateways": [GATEWAY],
        "nodes": [NODE],
        "rules": [RULE],
        "alerts": [ALERT],
        "commands": [COMMAND],
        "notifications": [LETTER],
        "maintenance": [WINDOW],
        "sites": [{"id": "shed", "doc": {"title": "The shed"}}],
        "groups": [{"id": "hall", "doc": {"nodes": ["sensor-01"]}}],
        "slots": [{"name": "config", "doc": {"version": 7}}],
    }


def test_rows_that_come_one_by_one_show_what_all_at_once_do() -> None:
    late = mirror()
    late.show((table, row.get("id") or row["name"], row) for table, found in rows().items() for row in found)
    assert views(late) == views(mirror(**rows()))


def test_rows_that_are_gone_are_shown_no_more() -> None:
    found = mirror(**rows())
    found.show((table, row.get("id") or row["name"], None) for table, some in rows().items() for row in some)
    assert views(found) == views(mirror()) | {"version": 7}  # which only ever rises


def test_a_mirror_asks_its_host_for_nothing() -> None:
    found = mirror(**rows())
    found.show([("commands", "c-1", COMMAND | {"state": "acknowledged"})])
    assert found.take_outputs() == []
    assert found.commands.open_for("sensor-01") == []


def test_a_dead_letter_that_is_tried_again_is_dead_no_more() -> None:
    found = mirror(**rows())
    found.show([("notifications", "m-1", LETTER | {"state": "pending"})])
    assert found.dead_letter_views() == []


def test_when_a_node_was_heard_of_is_the_latest_that_is_known_in_whichever_order_it_comes() -> None:
    heard = (
        "liveness",
        "sensor-01",
        {"id": "sensor-01", "doc": {"heard_utc_ms": 2_000, "health": {"uptime_seconds": 9}}},
    )
    older = ("nodes", "sensor-01", {"id": "sensor-01", "doc": NODE["doc"] | {"heard_utc_ms": 1_000}})
    newer = ("nodes", "sensor-01", {"id": "sensor-01", "doc": NODE["doc"] | {"heard_utc_ms": 3_000}})
    for order, expected in (([heard, older], 2_000), ([older, heard], 2_000), ([heard, newer], 3_000)):
        found = mirror()
        found.show((table, key, {"id": row["id"], "doc": dict(row["doc"])}) for table, key, row in order)
        assert found.node_view("sensor-01")["heard_utc_ms"] == expected


def test_a_mirror_keeps_no_more_of_what_is_over_than_a_core_does() -> None:
    found = mirror(FleetConfig(kept_commands=3))
    for number in range(6):
        state = "queued" if number == 0 else "acknowledged"
        found.show([("commands", f"c-{number}", COMMAND | {"id": f"c-{number}", "state": state})])
    assert list(found.commands.rows) == ["c-0", "c-4", "c-5"]


def test_what_is_sensitive_with_the_leader_is_at_once_sensitive_here() -> None:
    vault = Vault([bytes(32)], random.Random(1).randbytes)
    here = Mirror(FleetConfig(), rows(), random.Random(0), 0, vault)
    here.show([("sensitive", "co2", {"id": "co2", "doc": {"in": ["node:sensor-01"], "rules": False}})])
    assert here.sensitive.holds("sensor-01", "co2")
    sealed = {"metrics": ["temp"], "keys": [vault.close(KEY.encode(), about_key("sensor-01"))]}
    here.show([("sealing", "sensor-01", {"id": "sensor-01", "doc": sealed})])
    assert here.sensitive.holds("sensor-01", "temp") and vault.knows_seal_of("sensor-01")
    here.show([("sensitive", "co2", None)])
    assert not here.sensitive.holds("sensor-01", "co2")


def test_a_sealing_key_that_no_data_key_of_ours_opens_is_an_error_and_no_silence() -> None:
    closed = Vault([bytes(32)], random.Random(1).randbytes).close(KEY.encode(), about_key("sensor-01"))
    here = mirror(**rows())
    with pytest.raises(VaultError, match="missing"):
        here.show([("sealing", "sensor-01", {"id": "sensor-01", "doc": {"metrics": ["temp"], "keys": [closed]}})])
