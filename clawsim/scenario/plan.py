"""The resolved scenario: what a world executes, with nothing left to look up, guess or convert.

:func:`clawsim.scenario.load` is the only maker of these records. Each is frozen, compares by value, and says its unit
in the name of the field: instants and durations of the story are integer microseconds (``_us``, the simulator's clock),
everything that is handed to a core is integer milliseconds (``_ms``), and every measured value is an integer in its
metric's resolution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

Json = dict[str, Any]
"""A JSON object: string keys, and values that :func:`json.dumps` writes without help."""

ValueKind = Literal["number", "bool", "text"]
FaultKind = Literal["cut", "delay", "loss", "kill", "stop", "power"]
Fate = Literal[
    "produced",
    "delivered",
    "lost",
    "buffered",
    "summarised",
    "suppressed",
    "duplicated",
    "redelivered",
    "conflict",
    "unaccounted",
    "phantom",
]

HUB = "hub"
"""The Event Hub. Scenarios may say ``cloud`` for it: to a gateway the two are one."""
FLEET = "fleet"
"""The fleet manager."""
UPLINK = "uplink"
"""Name of the link profile between gateways and the hub."""
DATACENTER = "datacenter"
"""Name of the link profile between the hub and the fleet manager."""
SERIAL = "serial"
"""Name of the link profile of nodes at a cable: a serial line to their own gateway, and to no other."""


@dataclass(frozen=True, slots=True)
class LinkPlan:
    """How a message crosses one kind of link: ``latency_us`` plus a uniform draw from ±``jitter_us``.

    ``loss`` is the share of messages (0..1) that the link swallows.
    """

    name: str
    latency_us: int
    jitter_us: int
    loss: float


@dataclass(frozen=True, slots=True)
class SensorPlan:
    """One metric that a node measures.

    Values, ``low`` and ``high`` are integers in units of ``10 ** -resolution_exp`` of ``unit`` (2 means 0.01); readings
    outside ``low..high`` are implausible. ``signal`` is what ``firmware.hal.signals.signal_from_spec`` understands.
    ``every_ms`` is ``None`` where the signal has instants of its own (a recording, or the steps of an event sensor).
    ``event`` readings (door, motion, leak) are forwarded at once, not aggregated.
    """

    metric: str
    unit: str
    kind: ValueKind
    resolution_exp: int
    low: int
    high: int
    every_ms: int | None
    signal: Json
    event: bool
    sealed: bool = False
    """Its values are for the fleet manager's eyes only: see `firmware.wire.sealing`."""


@dataclass(frozen=True, slots=True)
class GatewayPlan:
    """A regional gateway. Nodes fall back to any other gateway of their ``site``, secondary or not."""

    id: str
    site: str
    role: Literal["primary", "secondary"]
    modes: tuple[tuple[str, str], ...] = ()
    """By metric what goes up: raw, summary or on_change."""


@dataclass(frozen=True, slots=True)
class NodePlan:
    """A sensor node. ``gateway`` is its home; ``link`` names the :class:`LinkPlan` to every gateway of its ``site``."""

    id: str
    type: str
    gateway: str
    site: str
    link: str
    sensors: tuple[SensorPlan, ...]
    backlog_readings: int
    power_on_us: int
    groups: tuple[str, ...] = ()
    sleep: bool = False

    @property
    def wired(self) -> bool:
        """Whether it is at the end of a serial cable of its gateway."""
        return self.link == SERIAL


_Entity = TypeVar("_Entity", GatewayPlan, NodePlan)


@dataclass(frozen=True, slots=True)
class RulePlan:
    """A rule of the fleet: the tree that travels (``when``, ``clear``) and the text that people wrote."""

    name: str
    when: Json
    clear: Json | None
    action: Literal["alert", "notify", "command", "both", "none"]
    severity: str
    when_text: str
    clear_text: str | None
    message: str | None = None
    cooldown_ms: int | None = None
    command: Json | None = None

    def record(self) -> dict[str, Any]:
        """The rule as the fleet manager takes it."""
        found: dict[str, Any] = {"name": self.name, "when": dict(self.when), "clear": self.clear and dict(self.clear)}
        found |= {"action": self.action, "severity": self.severity}
        more = {"message": self.message, "cooldown_ms": self.cooldown_ms, "command": self.command}
        return found | {name: value for name, value in more.items() if value is not None}


@dataclass(frozen=True, slots=True)
class FaultAction:
    """A fault that is applied from outside at ``at_us`` and cleared ``for_us`` later.

    Link faults (``cut``, ``delay``, ``loss``) name their ``links``, each a pair (lower tier, upper tier), wildcards
    expanded and ``cloud`` resolved to ``hub``; entity faults (``kill``, ``stop``, ``power``) name their ``entity``: a
    node, a gateway, ``hub`` or ``fleet``. ``on`` is the text of the file. ``for_us`` is ``None`` for a fault that
    stays until the run's duration, when every fault clears. ``add_us`` belongs to ``delay``, ``rate`` (0..1) to
    ``loss``.
    """

    name: str
    at_us: int
    kind: FaultKind
    on: str
    links: tuple[tuple[str, str], ...] = ()
    entity: str | None = None
    for_us: int | None = None
    add_us: int = 0
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class CallAction:
    """A request to the public API at ``at_us``, with the rights of ``as_role`` (``anonymous``: with no token)."""

    name: str
    at_us: int
    method: str
    path: str
    body: Any
    as_role: str


@dataclass(frozen=True, slots=True)
class InjectAction:
    """A raw message published as ``as_id`` on ``broker``: its gateway's for a node, the ``hub`` for a gateway."""

    name: str
    at_us: int
    as_id: str
    broker: str
    topic: str
    payload: bytes


Action = FaultAction | CallAction | InjectAction


@dataclass(frozen=True, slots=True)
class Anchor:
    """The first event of ``kind`` by ``who`` (anyone when ``None``) from which an expectation counts.

    Every field of ``where`` must match, as in :class:`EventExpectation`. ``of`` is the name of the timeline entry when
    ``kind`` is about one: ``fault.*``, ``call.*``, ``inject.*``; these events carry it as their field ``of``.
    """

    kind: str
    who: str | None = None
    of: str | None = None
    where: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EventExpectation:
    """How often an event is to be seen, and when.

    An event counts when its kind, its speaker ``who`` (``None``: anyone) and every field of ``where`` match, it lies
    inside the fault ``during`` (from effective to cleared), and at least ``no_sooner_than_us`` and at most
    ``within_us`` after the anchor (after the start of the run where ``after`` is ``None``). Events before the anchor
    never count. Either ``equals`` is set or one or both of ``at_least`` and ``at_most``; a file that says none of them
    means ``at_least`` 1.
    """

    name: str
    kind: str
    who: str | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    after: Anchor | None = None
    no_sooner_than_us: int | None = None
    within_us: int | None = None
    during: str | None = None
    at_least: int | None = None
    at_most: int | None = None
    equals: int | None = None


@dataclass(frozen=True, slots=True)
class ReadingsExpectation:
    """How many readings met a ``fate``, of one ``cause`` (or place, for ``buffered``) or in total."""

    name: str
    fate: Fate
    cause: str | None = None
    equals: int | None = None
    at_least: int | None = None
    at_most: int | None = None


@dataclass(frozen=True, slots=True)
class CallExpectation:
    """What the call named ``of`` is answered: the HTTP status, a part of the JSON body, the time it may take."""

    name: str
    of: str
    status: int | None = None
    body_contains: Mapping[str, Any] = field(default_factory=dict)
    within_us: int | None = None


Expectation = EventExpectation | ReadingsExpectation | CallExpectation


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole scenario, resolved. ``timeline`` is ordered by instant, then by its place in the file.

    Sampling runs from 0 to ``duration_us``; then faults clear and the world runs on until its buffers are empty, at
    most ``settle_us`` longer. UTC is ``epoch_utc_ms`` at instant 0.
    """

    name: str
    description: str
    source_path: str
    seed: int
    epoch_utc_ms: int
    duration_us: int
    settle_us: int
    fleet_id: str
    gateways: tuple[GatewayPlan, ...]
    nodes: tuple[NodePlan, ...]
    rules: tuple[RulePlan, ...]
    links: Mapping[str, LinkPlan]
    timeline: tuple[Action, ...]
    expectations: tuple[Expectation, ...]

    def gateway(self, gateway_id: str) -> GatewayPlan:
        """The gateway of that id; :class:`KeyError` when there is none."""
        return _by_id(self.gateways, gateway_id)

    def node(self, node_id: str) -> NodePlan:
        """The node of that id; :class:`KeyError` when there is none."""
        return _by_id(self.nodes, node_id)

    def gateways_of(self, site: str) -> tuple[GatewayPlan, ...]:
        """The gateways that a node of ``site`` may join."""
        return tuple(gateway for gateway in self.gateways if gateway.site == site)

    def reach_of(self, node: NodePlan) -> tuple[GatewayPlan, ...]:
        """The gateways that ``node`` may join: those of its site, or the one at the other end of its cable."""
        return (self.gateway(node.gateway),) if node.wired else self.gateways_of(node.site)


def _by_id(entities: Sequence[_Entity], wanted: str) -> _Entity:
    for entity in entities:
        if entity.id == wanted:
            return entity
    raise KeyError(wanted)
