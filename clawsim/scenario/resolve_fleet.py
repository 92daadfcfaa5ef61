"""Links, gateways and nodes: groups expanded, references checked, defaults filled in."""

from __future__ import annotations

import re

from clawsim.scenario.base import ID_PATTERN
from clawsim.scenario.context import Context
from clawsim.scenario.errors import did_you_mean
from clawsim.scenario.models import Fleet, Link, NodeGroup, Scenario
from clawsim.scenario.names import expanded_ids
from clawsim.scenario.plan import DATACENTER, SERIAL, UPLINK, GatewayPlan, LinkPlan, NodePlan, SensorPlan
from clawsim.scenario.resolve_signals import for_node, resolve_sensor
from clawsim.scenario.vocabulary import NODE_TYPES

DEFAULT_LINKS = {
    # Plausible one-way figures for a quiet site, to be changed under `links:`: a WiFi hop, a switched LAN, a wired line
    # to a cloud region in the country, an LTE hop in good coverage, two services in one data centre; of a serial line
    # what drivers add to the time that its bytes take at 115,200 baud.
    "wifi": LinkPlan("wifi", latency_us=5_000, jitter_us=3_000, loss=0.0),
    "ethernet": LinkPlan("ethernet", latency_us=1_000, jitter_us=0, loss=0.0),
    "lte": LinkPlan("lte", latency_us=60_000, jitter_us=25_000, loss=0.0),
    SERIAL: LinkPlan(SERIAL, latency_us=1_000, jitter_us=0, loss=0.0),
    UPLINK: LinkPlan(UPLINK, latency_us=40_000, jitter_us=10_000, loss=0.0),
    DATACENTER: LinkPlan(DATACENTER, latency_us=1_000, jitter_us=0, loss=0.0),
}
NOT_FOR_NODES = (UPLINK, DATACENTER)
NOT_YET = ("lora",)


def resolve_links(scenario: Scenario, context: Context) -> dict[str, LinkPlan]:
    """Every link profile: the defaults, changed and joined by those of the file."""
    links = dict(DEFAULT_LINKS)
    for name, link in scenario.links.items():
        links[name] = _link(name, link, context)
    return links


def _link(name: str, link: Link, context: Context) -> LinkPlan:
    if not re.fullmatch(ID_PATTERN, name) or name in NOT_YET:
        why = "is not available yet" if name in NOT_YET else "is not a name: lower-case letters, digits and hyphens"
        context.complain(link.mark(), f"link '{name}' {why}")
    default = DEFAULT_LINKS.get(name, LinkPlan(name, latency_us=5_000, jitter_us=0, loss=0.0))
    latency_us = default.latency_us if link.latency is None else link.latency
    jitter_us = min(default.jitter_us, latency_us) if link.jitter is None else link.jitter
    if jitter_us > latency_us:
        context.complain(link.mark("jitter"), "jitter: must not exceed the latency: nothing arrives before it is sent")
    return LinkPlan(name, latency_us, jitter_us, default.loss if link.loss is None else link.loss)


def resolve_fleet(fleet: Fleet, links: dict[str, LinkPlan], context: Context) -> None:
    """Fill ``context.gateways`` and ``context.nodes``, in the order of the file."""
    for gateway in fleet.gateways:
        for gateway_id in _ids(gateway.id, gateway.count, gateway.start):
            modes = tuple(sorted(gateway.modes.items()))
            context.gateways.setdefault(gateway_id, GatewayPlan(gateway_id, gateway.site, gateway.role, modes))
    for group in fleet.nodes:
        _resolve_group(group, links, context)
    _check_modes(fleet, context)


def _check_modes(fleet: Fleet, context: Context) -> None:
    """A mode for a metric that nobody measures would do nothing, and nobody would notice."""
    measured = {sensor.metric for group in fleet.nodes for sensor in group.sensors}
    for gateway in fleet.gateways:
        for metric in gateway.modes:
            if metric not in measured:
                hint = did_you_mean(metric, sorted(measured))
                context.complain(gateway.mark("modes"), f"modes: nobody measures '{metric}'{hint}")


def _ids(pattern: str, count: int | None, start: int) -> list[str]:
    try:
        return expanded_ids(pattern, count, start)
    except ValueError:  # noted when the names were gathered
        return []


def _resolve_group(group: NodeGroup, links: dict[str, LinkPlan], context: Context) -> None:
    _check_references(group, links, context)
    sensors = [plan for sensor in group.sensors if (plan := resolve_sensor(sensor, context))]
    _refuse_twins(group, context)
    gateway = context.gateways.get(group.gateway)
    for node_id in _ids(group.id, group.count, group.start):
        if gateway is not None:
            context.nodes.setdefault(node_id, _node(node_id, group, gateway, sensors, context))


def _check_references(group: NodeGroup, links: dict[str, LinkPlan], context: Context) -> None:
    gateways = context.names.gateways
    if group.gateway not in gateways:
        context.complain(
            group.mark("gateway"), f"unknown gateway '{group.gateway}'{did_you_mean(group.gateway, gateways)}"
        )
    usable = [name for name in links if name not in NOT_FOR_NODES]
    if group.link in NOT_YET:
        context.complain(
            group.mark("link"), f"link '{group.link}' is not available yet; use one of: {', '.join(usable)}"
        )
    elif group.link not in usable:
        context.complain(group.mark("link"), f"unknown link '{group.link}'{did_you_mean(group.link, usable)}")


def _refuse_twins(group: NodeGroup, context: Context) -> None:
    seen: set[str] = set()
    for sensor in group.sensors:
        if sensor.metric in seen:
            context.complain(sensor.mark("metric"), f"a node can measure '{sensor.metric}' only once")
        seen.add(sensor.metric)


def _node(
    node_id: str, group: NodeGroup, gateway: GatewayPlan, sensors: list[SensorPlan], context: Context
) -> NodePlan:
    spread_ms = group.stagger // 1000
    late_ms = context.draw(spread_ms + 1, "power-on", node_id) if spread_ms else 0
    return NodePlan(
        id=node_id,
        type=NODE_TYPES[group.type],
        gateway=gateway.id,
        site=gateway.site,
        link=group.link,
        sensors=tuple(for_node(sensor, node_id, context) for sensor in sensors),
        backlog_readings=group.backlog,
        groups=tuple(group.groups),
        sleep=group.sleep,
        power_on_us=group.power_on + late_ms * 1000,
    )
