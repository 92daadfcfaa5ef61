"""Links, gateways and nodes: groups expanded, references checked, defaults filled in."""

from __future__ import annotations

import re

from clawsim.propagation import SENSITIVITY_DBM, reach_m
from clawsim.scenario.base import ID_PATTERN
from clawsim.scenario.context import Context
from clawsim.scenario.errors import did_you_mean
from clawsim.scenario.models import Backup, Fleet, Gateway, Link, NodeGroup, Scenario
from clawsim.scenario.names import expanded_ids
from clawsim.scenario.plan import (
    DATACENTER,
    LORA,
    PRIMARY,
    SERIAL,
    UPLINK,
    BackupPlan,
    GatewayPlan,
    LinkPlan,
    NodePlan,
    SensorPlan,
)
from clawsim.scenario.resolve_signals import for_node, resolve_sensor
from clawsim.scenario.vocabulary import NODE_TYPES

DEFAULT_LINKS = {
    # Plausible one-way figures for a quiet site, to be changed under `links:`: a WiFi hop, a switched LAN, a wired line
    # to a cloud region in the country, an LTE hop in good coverage, two services in one data centre; of a serial line
    # what drivers add to the time that its bytes take at 115,200 baud.
    "wifi": LinkPlan("wifi", latency_us=5_000, jitter_us=3_000, loss=0.0),
    "ethernet": LinkPlan("ethernet", latency_us=1_000, jitter_us=0, loss=0.0),
    "lte": LinkPlan("lte", latency_us=60_000, jitter_us=25_000, loss=0.0),
    LORA: LinkPlan(LORA, latency_us=0, jitter_us=0, loss=0.0),  # how long a frame takes is its time on air
    SERIAL: LinkPlan(SERIAL, latency_us=1_000, jitter_us=0, loss=0.0),
    UPLINK: LinkPlan(UPLINK, latency_us=40_000, jitter_us=10_000, loss=0.0),
    DATACENTER: LinkPlan(DATACENTER, latency_us=1_000, jitter_us=0, loss=0.0),
}
NOT_FOR_NODES = (UPLINK, DATACENTER)
SPREADING_FACTOR = 9
DISTANCE_M = 1000


def resolve_links(scenario: Scenario, context: Context) -> dict[str, LinkPlan]:
    """Every link profile: the defaults, changed and joined by those of the file."""
    links = dict(DEFAULT_LINKS)
    for name, link in scenario.links.items():
        links[name] = _link(name, link, context)
    return links


def _link(name: str, link: Link, context: Context) -> LinkPlan:
    if not re.fullmatch(ID_PATTERN, name):
        context.complain(link.mark(), f"link '{name}' is not a name: lower-case letters, digits and hyphens")
    default = DEFAULT_LINKS.get(name, LinkPlan(name, latency_us=5_000, jitter_us=0, loss=0.0))
    if name == LORA and (link.latency or link.jitter):
        context.complain(link.mark(), "link 'lora' has no latency or jitter: what a frame takes is its time on air")
    latency_us = default.latency_us if link.latency is None else link.latency
    jitter_us = min(default.jitter_us, latency_us) if link.jitter is None else link.jitter
    if jitter_us > latency_us:
        context.complain(link.mark("jitter"), "jitter: must not exceed the latency: nothing arrives before it is sent")
    return LinkPlan(name, latency_us, jitter_us, default.loss if link.loss is None else link.loss)


def resolve_fleet(fleet: Fleet, links: dict[str, LinkPlan], context: Context) -> None:
    """Fill ``context.gateways`` and ``context.nodes``, in the order of the file."""
    for gateway in fleet.gateways:
        for gateway_id in _ids(gateway.id, gateway.count, gateway.start):
            context.gateways.setdefault(gateway_id, _gateway(gateway_id, gateway, links, context))
    for group in fleet.nodes:
        _resolve_group(group, links, context)
    _check_modes(fleet, context)


def _gateway(gateway_id: str, gateway: Gateway, links: dict[str, LinkPlan], context: Context) -> GatewayPlan:
    if "failback_after" in gateway.model_fields_set and gateway.failback != "after":
        context.complain(gateway.mark("failback_after"), "failback_after: says something with `failback: after` only")
    return GatewayPlan(
        id=gateway_id,
        site=gateway.site,
        role=gateway.role,
        modes=tuple(sorted(gateway.modes.items())),
        failback=gateway.failback,
        failback_after_ms=context.whole_ms(gateway, "failback_after", gateway.failback_after),
        failback_hold_ms=context.whole_ms(gateway, "failback_hold", gateway.failback_hold),
        daily_bytes=_bytes_of(gateway.daily_mb),
        backup=_backup(gateway.backup, links, context),
    )


def _bytes_of(daily_mb: int | None) -> int | None:
    return None if daily_mb is None else daily_mb * 1_000_000


def _backup(backup: Backup | None, links: dict[str, LinkPlan], context: Context) -> BackupPlan | None:
    if backup is None:
        return None
    if backup.link not in links:
        hint = did_you_mean(backup.link, links)
        context.complain(backup.mark("link"), f"link: unknown profile '{backup.link}'{hint}")
    if backup.name == PRIMARY:
        context.complain(backup.mark("name"), f"name: '{PRIMARY}' is what the first uplink is called")
    return BackupPlan(backup.name, backup.link, _bytes_of(backup.daily_mb))


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
    _check_radio(group, context)
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
    if group.link not in usable:
        context.complain(group.mark("link"), f"unknown link '{group.link}'{did_you_mean(group.link, usable)}")


def _check_radio(group: NodeGroup, context: Context) -> None:
    """``sf`` and ``distance_m`` belong to lora, and a node that nobody can hear is a mistake."""
    if group.link != LORA:
        for name in ("sf", "distance_m"):
            if getattr(group, name) is not None:
                context.complain(group.mark(name), f"{name}: only a node with `link: lora` has it")
        return
    sf, distance_m = group.sf or SPREADING_FACTOR, group.distance_m or DISTANCE_M
    if distance_m > reach_m(sf):
        far = [f"SF{more} {reach_m(more):,} m" for more in SENSITIVITY_DBM if more > sf]
        hint = f"; {', '.join(far)}" if far else ""
        context.complain(
            group.mark("distance_m"), f"distance_m: at SF{sf} nobody hears it beyond {reach_m(sf):,} m{hint}"
        )


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
        sf=(group.sf or SPREADING_FACTOR) if group.link == LORA else None,
        distance_m=(group.distance_m or DISTANCE_M) if group.link == LORA else 0,
    )
