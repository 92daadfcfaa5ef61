"""Who seals what in a rehearsed fleet: sealing keys under names of their own beside the nodes' other keys."""

from __future__ import annotations

from typing import Any

from clawsim.scenario.plan import NodePlan, Plan
from fleet.wire.condition import metrics_of


def sealing_name(node_id: str) -> str:
    """The name of a node's sealing key among the keys of the fleet; no id has a point in it."""
    return f"{node_id}.sealing"


def sealed_by(node: NodePlan) -> list[str]:
    """The metrics that the node seals."""
    return [sensor.metric for sensor in node.sensors if sensor.sealed]


def sealing_nodes(plan: Plan) -> list[str]:
    """The nodes that seal something."""
    return [node.id for node in plan.nodes if sealed_by(node)]


def inventory_of(node: NodePlan, key: bytes) -> dict[str, Any]:
    """What the fleet manager's inventory says of a node's sealing; nothing for one that seals nothing."""
    sealed = sealed_by(node)
    return {"sealed": sealed, "sealing_key": key.hex()} if sealed else {}


def sensitive(plan: Plan) -> list[dict[str, Any]]:
    """The sealed metrics that rules of the scenario look at: whoever wrote both wants the fleet manager to look."""
    sealed = {metric for node in plan.nodes for metric in sealed_by(node)}
    asked = {metric for rule in plan.rules for metric in metrics_of(dict(rule.when))}
    return [{"metric": metric, "in": ["fleet"], "rules": True} for metric in sorted(sealed & asked)]
