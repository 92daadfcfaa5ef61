"""The timeline: targets found, payloads made."""

from __future__ import annotations

import json

from clawsim.scenario.base import Strict
from clawsim.scenario.context import Context
from clawsim.scenario.errors import did_you_mean
from clawsim.scenario.models import CallEntry, FaultEntry, InjectEntry, Payload, Scenario
from clawsim.scenario.plan import HUB, LORA, Action, CallAction, FaultAction, InjectAction
from clawsim.scenario.source import plain
from clawsim.scenario.targets import TargetError, entity_of, links_of

LINK_FAULTS = ("cut", "delay", "loss")
MAX_PAYLOAD_BYTES = 2**20
STREAM = "/api/v1/events/stream"


def resolve_timeline(scenario: Scenario, context: Context) -> list[Action]:
    """The actions in order of time; entries of the same instant keep the order of the file."""
    actions: list[Action] = []
    for entry in scenario.timeline:
        action = _action(entry, entry.label, context)
        if entry.at >= context.duration_us:
            context.complain(entry.mark("at"), "at: must be before the end of `duration`")
        if action is not None:
            actions.append(action)
    return sorted(actions, key=lambda action: action.at_us)


def _action(entry: FaultEntry | CallEntry | InjectEntry, name: str, context: Context) -> Action | None:
    if isinstance(entry, FaultEntry):
        return _fault(entry, name, context)
    if isinstance(entry, CallEntry):
        method, _, path = entry.call.partition(" ")
        if path.partition("?")[0] == STREAM:
            context.complain(entry.mark("call"), f"call: {STREAM} never ends, so that no answer ever comes")
        return CallAction(name, entry.at, method, path, plain(entry.body), entry.as_)
    return _inject(entry, name, context)


def _fault(entry: FaultEntry, name: str, context: Context) -> FaultAction | None:
    _check_particulars(entry, context)
    links: tuple[tuple[str, str], ...] = ()
    entity: str | None = None
    try:
        if entry.fault in LINK_FAULTS:
            links = links_of(entry.on, entry.fault, context)
        else:
            entity = entity_of(entry.on, entry.fault, context)
    except TargetError as error:
        context.complain(entry.mark("on"), f"on: {error}")
        return None
    if entry.fault == "delay" and any(_by_radio(lower, context) for lower, _ in links):
        context.complain(entry.mark("fault"), "fault: a frame by radio cannot be delayed; use loss or cut")
    return FaultAction(
        name, entry.at, entry.fault, entry.on, links, entity, entry.for_, entry.add or 0, entry.rate or 0.0
    )


def _by_radio(node_id: str, context: Context) -> bool:
    node = context.nodes.get(node_id)
    return node is not None and node.link == LORA


def _check_particulars(entry: FaultEntry, context: Context) -> None:
    """``add`` belongs to delay, ``rate`` to loss, and each needs its own; nothing may last no time."""
    for key, value, kind in (("add", entry.add, "delay"), ("rate", entry.rate, "loss")):
        if entry.fault == kind and not value:
            context.complain(entry.mark(key), f"a {kind} needs `{key}`, more than 0")
        elif entry.fault != kind and value is not None:
            context.complain(entry.mark(key), f"{key}: only a {kind} has it, a {entry.fault} has not")
    if entry.for_ == 0:
        context.complain(entry.mark("for"), "for: must be longer than 0; leave it out for the rest of the run")


def _inject(entry: InjectEntry, name: str, context: Context) -> InjectAction | None:
    payload = _payload(entry, context)
    if any(character in "+#" or ord(character) < 32 for character in entry.topic):
        context.complain(
            entry.mark("topic"), "topic: a message cannot be published to + or #, or with control characters"
        )
    if entry.as_ in context.names.gateways:
        return InjectAction(name, entry.at, entry.as_, HUB, entry.topic, payload)
    if entry.as_ in context.names.nodes:
        node = context.nodes.get(entry.as_)
        return InjectAction(name, entry.at, entry.as_, node.gateway, entry.topic, payload) if node else None
    known = [*context.names.nodes, *context.names.gateways]
    context.complain(entry.mark("as"), f"unknown id '{entry.as_}'{did_you_mean(entry.as_, known)}")
    return None


def _payload(entry: InjectEntry, context: Context) -> bytes:
    if isinstance(entry.inject, str):
        return entry.inject.encode()
    found = _variants(entry.inject)
    if len(found) != 1:
        context.complain(entry.inject.mark(), "inject: needs exactly one of: text, hex, json")
        return b""
    if len(found[0]) * entry.inject.times > MAX_PAYLOAD_BYTES:
        context.complain(entry.inject.mark(), f"inject: more than {MAX_PAYLOAD_BYTES // 2**20} MiB")
        return b""
    return found[0] * entry.inject.times


def _variants(payload: Payload) -> list[bytes]:
    found = [] if payload.text is None else [payload.text.encode()]
    if payload.hex is not None:
        found.append(bytes.fromhex(payload.hex))
    if payload.json_ is not None:
        found.append(json.dumps(plain(payload.json_), ensure_ascii=False).encode())
    return found


def refuse_overlaps(scenario: Scenario, actions: list[Action], context: Context) -> None:
    """A fault cannot begin while the same fault (for an entity: any) holds on the same target."""
    at = {entry.label: entry for entry in scenario.timeline}
    busy: dict[tuple[object, ...], FaultAction] = {}
    for action in actions:
        if not isinstance(action, FaultAction):
            continue
        for target in _targets(action):
            earlier = busy.get(target)
            if earlier and _end_us(earlier, context) > action.at_us:
                _overlap(at[action.name], earlier, context)
            if earlier is None or _end_us(action, context) > _end_us(earlier, context):
                busy[target] = action


def _overlap(entry: Strict, earlier: FaultAction, context: Context) -> None:
    context.complain(entry.mark("at"), f"at: '{earlier.name}' still holds on the same target then")


def _targets(action: FaultAction) -> list[tuple[object, ...]]:
    return [(action.entity,)] if action.entity else [(action.kind, *link) for link in action.links]


def _end_us(action: FaultAction, context: Context) -> int:
    return context.duration_us if action.for_us is None else action.at_us + action.for_us
