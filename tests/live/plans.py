"""Plans made by hand, for claims that need no scenario file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from clawsim.scenario.plan import Action, GatewayPlan, LinkPlan, NodePlan, Plan, RulePlan, SensorPlan

TEMP = SensorPlan(
    metric="temp",
    unit="°C",
    kind="number",
    resolution_exp=2,
    low=-4000,
    high=12500,
    every_ms=60_000,
    signal={
        "kind": "sine",
        "exp": 2,
        "type": "number",
        "mean": 27.0,
        "amplitude": 6.0,
        "period_ms": 1_200_000,
        "phase_ms": 0,
    },
    event=False,
)
HOT = RulePlan(
    name="hot",
    when={"metric": "temp", "op": ">", "value": 30},
    clear={"metric": "temp", "op": "<", "value": 29},
    action="alert",
    severity="warning",
    when_text="temp > 30",
    clear_text="temp < 29",
)


def node(number: int, gateway: str = "gateway-01", **changes: Any) -> NodePlan:
    made = NodePlan(f"sensor-{number:02d}", "microclaw", gateway, "site-01", "wifi", (TEMP,), 1000, 0)
    return replace(made, **changes)


def plan(*, nodes: int = 2, gateways: int = 1, minutes: float = 5, timeline: tuple[Action, ...] = ()) -> Plan:
    roles = ["primary", *["secondary"] * (gateways - 1)]
    return Plan(
        name="by-hand",
        description="",
        source_path="by-hand.yaml",
        seed=7,
        epoch_utc_ms=1_767_225_600_000,
        duration_us=int(minutes * 60_000_000),
        settle_us=300_000_000,
        fleet_id="clawland",
        gateways=tuple(GatewayPlan(f"gateway-{i + 1:02d}", "site-01", roles[i]) for i in range(gateways)),  # type: ignore[arg-type]
        nodes=tuple(node(i + 1) for i in range(nodes)),
        rules=(HOT,),
        links={name: LinkPlan(name, 5_000, 1_000, 0.0) for name in ("wifi", "uplink", "datacenter")},
        timeline=timeline,
        expectations=(),
    )
