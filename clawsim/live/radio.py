"""What of a plan is on the radio, and so cannot be real here: this machine has none."""

from clawsim.enumeration import listed
from clawsim.scenario.plan import LORA, Plan


def unreachable(plan: Plan, real: frozenset[str]) -> list[str]:
    """Why these parts cannot be real, or nothing: a radio is virtual, with the nodes and gateways on it."""
    nodes = [node for node in plan.nodes if node.link == LORA]
    sites = {node.site for node in nodes}
    on_radio = [node.id for node in nodes] + [gateway.id for gateway in plan.gateways if gateway.site in sites]
    wanted = [each for each in on_radio if each in real]
    if not wanted:
        return []
    return [
        f"no radio here: {listed(wanted)} cannot be real, for `link: lora` is virtual; "
        "run it with --world virtual, or make only others real, as in --real hub,fleet"
    ]
