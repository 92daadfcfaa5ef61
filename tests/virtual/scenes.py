"""Small scenarios made in Python, and runs of them that keep every event."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml

from clawsim.ledger import Ledger
from clawsim.run import run_virtual
from clawsim.scenario import Plan, load
from clawsim.trace import EventLog, TraceEvent
from clawsim.verdict import Outcome
from clawsim.virtual.machines import Cores
from clawsim.virtual.world import VirtualWorld

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = tuple(sorted(path.stem for path in (ROOT / "scenarios").glob("*.yaml") if path.stem != "big-day"))
"""All but the one that is only long: benchmarks run it."""
TEMP = {"metric": "temp", "every": "20 s", "signal": {"constant": 21.5}}
HOT_RULE = {"name": "hot", "when": "temp > 30", "clear": "temp < 29", "action": "alert"}


def node(
    node_id: str = "sensor-{:02d}", gateway: str = "gateway-01", count: int | None = 2, **more: Any
) -> dict[str, Any]:
    """A group of nodes with one thermometer each."""
    return {"id": node_id, "gateway": gateway, "sensors": [TEMP]} | ({"count": count} if count else {}) | more


def scene(name: str = "scene", **parts: Any) -> Plan:
    """A plan: one gateway and two nodes for six minutes, unless `parts` say otherwise."""
    gateways = parts.pop("gateways", [{"id": "gateway-01"}])
    nodes = parts.pop("nodes", [node()])
    text: dict[str, Any] = {
        "version": 1,
        "name": name,
        "duration": "6 min",
        "fleet": {"gateways": gateways, "nodes": nodes},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.yaml"
        path.write_text(yaml.safe_dump(text | parts), encoding="utf-8")
        return load(path)


def scenario(name: str) -> Plan:
    """One of the scenarios that come with the project."""
    return load(ROOT / "scenarios" / f"{name}.yaml")


def fault(kind: str, on: str, at: str = "2 min", for_: str | None = "1 min", **more: Any) -> dict[str, Any]:
    """An entry of a timeline."""
    return {"at": at, "fault": kind, "on": on} | ({"for": for_} if for_ else {}) | more


@dataclass
class Seen:
    """A finished run: the outcome, every event, and the world as it stands at the end."""

    outcome: Outcome
    events: list[TraceEvent] = field(default_factory=list)
    world: VirtualWorld | None = None

    def of(self, *kinds: str) -> list[TraceEvent]:
        return [event for event in self.events if event.kind in kinds]

    def first_us(self, kind: str) -> int:
        return self.of(kind)[0].t_us


def run(
    plan: Plan, cores: type[Cores] = Cores, world: type[VirtualWorld] = VirtualWorld, out: Path | None = None
) -> Seen:
    """Run `plan` as `clawsim run` does, with these cores in this world."""
    events: list[TraceEvent] = []
    worlds: list[VirtualWorld] = []

    class Watched(world):  # type: ignore[misc,valid-type]
        def __init__(self, plan: Plan, log: EventLog, cores: type[Cores]) -> None:
            log.listen(events.append)
            super().__init__(plan, log, cores)
            worlds.append(self)

    with patch("clawsim.run.VirtualWorld", Watched):
        outcome = run_virtual(plan, out, cores=cores).outcome
    return Seen(outcome, events, worlds[0])


__all__ = ["HOT_RULE", "SCENARIOS", "TEMP", "Ledger", "Seen", "fault", "node", "run", "scenario", "scene"]
