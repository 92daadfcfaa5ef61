"""What a fault strikes: a link ("gateway-01 <-> cloud") or an entity (a node, a gateway, hub, fleet)."""

from __future__ import annotations

from clawsim.scenario.context import Context
from clawsim.scenario.errors import did_you_mean
from clawsim.scenario.plan import FLEET, HUB

CLOUD = "cloud"
ANY = "*"
_TIERS = ("node", "gateway", HUB, FLEET)


class TargetError(ValueError):
    """There is no such link or entity; the message says what there is."""


def entity_of(text: str, fault: str, context: Context) -> str:
    """The entity that ``text`` names. Raises :class:`TargetError`."""
    if "<->" in text:
        raise TargetError(f"{fault} strikes one entity, not a link; on a link use cut, delay or loss")
    name = text.strip()
    if name == CLOUD:
        raise TargetError("the cloud is two entities: hub (the broker) and fleet (the manager)")
    _tier(name, context)
    return name


def links_of(text: str, fault: str, context: Context) -> tuple[tuple[str, str], ...]:
    """The (lower, upper) ends of every link that ``text`` means. Raises :class:`TargetError`.

    ``*`` stands for all gateways of a node's site, or for all gateways opposite the hub.
    """
    ends = [HUB if end.strip() == CLOUD else end.strip() for end in text.split("<->")]
    if len(ends) != 2:
        raise TargetError(f"{fault} strikes a link, written with <-> between its ends, as in 'gateway-01 <-> cloud'")
    if ANY in ends:
        return _wildcard(ends[0] if ends[1] == ANY else ends[1], context)
    lower, upper = sorted(ends, key=lambda end: _TIERS.index(_tier(end, context)))
    _require_link(lower, upper, context)
    return ((lower, upper),)


def _tier(name: str, context: Context) -> str:
    if name in context.names.nodes:
        return "node"
    if name in context.names.gateways:
        return "gateway"
    if name in (HUB, FLEET):
        return name
    if any(character in name for character in "*?["):
        raise TargetError(
            f"'{name}': patterns are for `who`; a fault strikes one entity or link, so write an entry for each"
        )
    raise TargetError(f"unknown id '{name}'{did_you_mean(name, [*context.names.entities(), CLOUD])}")


def _wildcard(end: str, context: Context) -> tuple[tuple[str, str], ...]:
    if end == HUB:
        return tuple((gateway, HUB) for gateway in context.gateways)
    if end != ANY and _tier(end, context) == "node":
        return tuple((end, gateway) for gateway in _in_reach(end, context))
    raise TargetError(f"'{end} <-> *' is unclear; '*' goes with a node (its gateways) or with cloud (all gateways)")


def _in_reach(node_id: str, context: Context) -> list[str]:
    """The gateways of the node's site, or the one at its cable; all of them when the node has a mistake of its own."""
    node = context.nodes.get(node_id)
    if node is not None and node.wired:
        return [node.gateway]
    return [gateway.id for gateway in context.gateways.values() if node is None or gateway.site == node.site]


def _require_link(lower: str, upper: str, context: Context) -> None:
    tiers = (_tier(lower, context), _tier(upper, context))
    if tiers in (("gateway", HUB), (HUB, FLEET)):
        return
    if tiers == ("node", "gateway"):
        known = upper in context.gateways
        if known and upper not in _in_reach(lower, context):
            if context.nodes[lower].wired:
                raise TargetError(f"{lower} is at a cable of {context.nodes[lower].gateway}, and talks to no other")
            raise TargetError(f"{lower} and {upper} are not of one site, so they never talk")
        return
    raise TargetError(f"there is no link between {lower} and {upper}; links are node <-> gateway, "
                      "gateway <-> cloud and hub <-> fleet")  # fmt: skip
