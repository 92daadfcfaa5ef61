"""Sealed values in the virtual world: no link and no disk below the fleet manager ever sees one."""

from pathlib import Path
from typing import Any

import pytest

from clawsim.virtual.link import Link
from clawsim.virtual.memory import GatewayDisk, NodeFlash
from firmware.wire.messages import encode_value
from fleet.core.rows import Secret
from tests.virtual.scenes import Seen, fault, node, run, scene

SECRET, OPEN = 8314, 21.75
READINGS = "GET /api/v1/fleet/nodes/sensor-01/readings?metric=co2&points=2"
SENSORS = [
    {"metric": "co2", "every": "20 s", "sealed": True, "signal": {"constant": SECRET}},
    {"metric": "temp", "every": "20 s", "signal": {"constant": OPEN}},
]


def recorded(monkeypatch: pytest.MonkeyPatch, **parts: Any) -> tuple[Seen, str, str]:
    """A run, all that crossed a link, and all that nodes and gateways wrote to their disks."""
    crossed: list[str] = []
    written: list[str] = []
    carry = Link.transmit

    def transmit(self: Link, direction: int, size: int, arrive: Any, value: Any) -> bool:
        crossed.append(repr(value))
        return carry(self, direction, size, arrive, value)

    monkeypatch.setattr(Link, "transmit", transmit)
    for disk in (GatewayDisk, NodeFlash):
        perform = disk.perform
        monkeypatch.setattr(
            disk,
            "perform",
            lambda self, writes, perform=perform: (written.append(repr(writes)), perform(self, writes))[1],
        )
    seen = run(scene(nodes=[node(sensors=SENSORS)], **parts))
    return seen, "".join(crossed), "".join(written)


def test_no_link_and_no_disk_below_the_fleet_manager_sees_a_sealed_value(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    outage = fault("cut", "gateway-01 <-> cloud", at="1 min", for_="2 min")
    rule = {"name": "air", "when": f"co2 > {SECRET - 1}", "action": "notify", "message": "{metric} is {value}"}
    calls = [{"at": "5 min", "name": role, "call": READINGS, "as": role} for role in ("viewer", "operator")]
    expect = [{"call": "viewer", "status": 403}, {"call": "operator", "status": 200}]
    seen, crossed, written = recorded(monkeypatch, timeline=[outage, *calls], rules=[rule], expect=expect)
    assert seen.outcome.verdict == "PASS", seen.outcome.reasons
    for place in (crossed, written):
        assert encode_value(2175, 2) in place, "what is not sealed is there to be seen"
        assert '"sealed":' in place or "~" in place
        assert str(SECRET) not in place
    events = "".join(str(event) for event in seen.events)
    assert str(SECRET) not in events.replace(f"co2 > {SECRET - 1}", "")
    assert seen.world is not None
    stored = [row for row in seen.world.fleet.database.rows() if row.metric == "co2"]
    assert stored and all(type(row.value) is Secret and row.value.plain == SECRET for row in stored)
    assert {event.who for event in seen.of("alert.raised")} == {"fleet"}
    assert {(event.fields["node"], event.fields["rule"]) for event in seen.of("rule.blind")} == {
        ("sensor-01", "air"),
        ("sensor-02", "air"),
    }


def test_the_same_seed_seals_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = recorded(monkeypatch, seed=5), recorded(monkeypatch, seed=5)
    assert first[1:] == second[1:] and first[0].events == second[0].events
