"""The scenario file as it is written: the models that validate it and that the editors' JSON Schema is made of.

These check shape and units, one value at a time. Whatever needs a second look elsewhere in the file (ids, metrics, the
names of faults) is checked when the models are resolved into a :class:`~clawsim.scenario.plan.Plan`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, Tag, WithJsonSchema

from clawsim.scenario.base import (
    Duration,
    Flag,
    Id,
    NonNegative,
    Real,
    Scalar,
    Share,
    Strict,
    Value,
    by_key,
    text_or_mapping,
)
from clawsim.scenario.vocabulary import KINDS

MAX_NODES = 10_000
MAX_SENSORS = 16
MAX_STEPS = 10_000
CALL_PATTERN = r"^(GET|POST|PUT|PATCH|DELETE) /[!-~]{0,500}$"
HEX_PATTERN = r"^([0-9a-fA-F]{2})*$"


class Sine(Strict):
    mean: Real
    amplitude: Real
    period: Duration
    phase: Duration = Field(default=0, description="How far into its period the sine is at the start of the run")
    noise: NonNegative = Field(default=0, description="Standard deviation of added noise, in the metric's unit")


class Step(Strict):
    at: Duration
    value: Value


class Ramp(Strict):
    from_: Real = Field(alias="from")
    to: Real
    over: Duration
    at: Duration = Field(default=0, description="When the ramp begins; before it the value is `from`, after it `to`")


class Noisy(Strict):
    noise: NonNegative = Field(default=0, description="Standard deviation of added noise, in the metric's unit")


class ConstantSignal(Noisy):
    constant: Value


class SineSignal(Noisy):
    sine: Sine


class StepsSignal(Noisy):
    steps: list[Step] = Field(min_length=1, max_length=MAX_STEPS, description="The value from each instant on")


class RampSignal(Noisy):
    ramp: Ramp


class CsvSignal(Noisy):
    csv: str = Field(description="Path of the recording, relative to the scenario file")
    column: str
    time: str = Field(default="time", description="Column of ISO 8601 times; without an offset they are UTC")
    start: str | None = Field(default=None, description="ISO 8601 time that is instant 0; by default the first row's")
    loop: Flag = Field(default=False, description="Begin anew at the end of the recording")
    gaps: Literal["error", "skip"] = Field(default="error", description="What an empty cell means")


SIGNALS = ("constant", "sine", "steps", "ramp", "csv")
Signal = Annotated[
    Annotated[ConstantSignal, Tag(":constant")]
    | Annotated[SineSignal, Tag(":sine")]
    | Annotated[StepsSignal, Tag(":steps")]
    | Annotated[RampSignal, Tag(":ramp")]
    | Annotated[CsvSignal, Tag(":csv")],
    by_key("a signal", SIGNALS),
]


class Sensor(Strict):
    metric: str = Field(description="temp, humidity, co2, light, door, …; any other needs unit, decimals and range")
    every: Duration | None = Field(default=None, description="Sampling period; a recording has its own instants")
    signal: Signal
    unit: Annotated[str, Field(max_length=16)] | None = None
    kind: Literal["number", "bool", "text"] | None = None
    decimals: int | None = Field(default=None, ge=0, le=6, description="Resolution: 2 means steps of 0.01")
    range: Annotated[list[Real], Field(min_length=2, max_length=2)] | None = None
    event: bool | None = Field(default=None, description="Forwarded at once instead of aggregated")
    sealed: bool = Field(default=False, description="Only the fleet manager can read it; rules at gateways cannot")


class NodeGroup(Strict):
    id: str = Field(description='An id; with `count` a pattern such as "sensor-{:02d}"')
    count: int | None = Field(default=None, ge=1, le=MAX_NODES)
    start: int = Field(default=1, ge=0, le=1_000_000, description="Number of the first node of the pattern")
    type: Literal["microclaw", "picoclaw", "picclaw"] = "microclaw"
    gateway: str
    link: str = Field(default="wifi", description="A link profile: wifi, ethernet, lte, serial, or one of `links`")
    sensors: list[Sensor] = Field(min_length=1, max_length=MAX_SENSORS)
    backlog: int = Field(default=1000, ge=1, le=1_000_000, description="Readings kept until acknowledged")
    power_on: Duration = Field(default=0, description="When the nodes get power")
    groups: list[Id] = Field(default_factory=list, max_length=20, description="What rules call group: ID")
    sleep: Flag = Field(default=False, description="Sleep between samples, connected only to hand them over and listen")
    stagger: Duration = Field(default=0, description="Nodes power on spread over this time, each at its own instant")


class Gateway(Strict):
    id: str = Field(description='An id; with `count` a pattern such as "gateway-{:02d}"')
    count: int | None = Field(default=None, ge=1, le=1000)
    start: int = Field(default=1, ge=0, le=1_000_000)
    site: Id = Field(default="site-01", description="Nodes fall back to the other gateways of their site")
    role: Literal["primary", "secondary"] = "primary"
    modes: dict[str, Literal["raw", "summary", "on_change"]] = Field(
        default_factory=dict, max_length=100, description="By metric what goes up a metered uplink; raw where not said"
    )


class Fleet(Strict):
    id: Id | None = Field(default=None, description="Announced by gateways, part of every join; default: the name")
    gateways: list[Gateway] = Field(min_length=1, max_length=1000)
    nodes: list[NodeGroup] = Field(default_factory=list, max_length=MAX_NODES)


class Link(Strict):
    latency: Duration | None = None
    jitter: Duration | None = Field(default=None, description="Uniform, plus or minus")
    loss: Share | None = Field(default=None, description="Share of messages that never arrive")


class RuleCommand(Strict):
    action: Literal["alert", "restart", "config", "identify"]
    params: dict[str, Any] = Field(default_factory=dict)
    targets: list[str] = Field(default_factory=list, max_length=100, description="Default: the node of the episode")


class Rule(Strict):
    name: Id
    when: str = Field(
        description="temp > 30; rate(temp, 10 min) > 2; absent(temp, 15 min); and, or, not; any(site: barn, x > 30), "
        "all, count(group: pumps, …) > 3, avg(fleet, temp) > 25; at its end: for 5 min"
    )
    clear: str | None = Field(default=None, description="Ends the episode, for example: temp < 29")
    for_: Duration | None = Field(default=None, alias="for", description="How long `when` has to hold without a break")
    action: Literal["alert", "notify", "command", "both", "none"] = "alert"
    command: RuleCommand | None = Field(default=None, description="What actions command and both send")
    severity: Literal["info", "warning", "critical"] = "warning"
    message: str | None = Field(default=None, description='What people read: "{node}: {metric} is {value}"')
    cooldown: Duration | None = Field(
        default=None, description="After an episode that people heard of, others wait so long until they are told"
    )


class Timed(Strict):
    name: Id | None = Field(default=None, description="How expectations refer to this entry")
    at: Duration


class FaultEntry(Timed):
    fault: Literal["cut", "delay", "loss", "kill", "stop", "power"]
    on: str = Field(description='A link ("gateway-01 <-> cloud") or an entity: a node, a gateway, hub, fleet')
    for_: Duration | None = Field(default=None, alias="for", description="Default: until the end of `duration`")
    add: Duration | None = Field(default=None, description="Extra latency of a delay")
    rate: Share | None = Field(default=None, description="Share of messages that a loss swallows")


class CallEntry(Timed):
    call: str = Field(pattern=CALL_PATTERN, examples=["POST /api/nodes/n1/restart"])
    body: Any = None
    as_: Literal["viewer", "operator", "admin", "anonymous"] = Field(default="operator", alias="as")


class Payload(Strict):
    text: str | None = None
    hex: str | None = Field(default=None, pattern=HEX_PATTERN)
    json_: Any = Field(default=None, alias="json")
    times: int = Field(default=1, ge=1, le=1_000_000, description="Repeat the payload, to make it oversize")


class InjectEntry(Timed):
    inject: Annotated[Annotated[str, Tag("=text")] | Annotated[Payload, Tag("=mapping")], text_or_mapping()] = Field(
        description="The payload: a text, or {text}, {hex} or {json}, with `times` to repeat it"
    )
    as_: str = Field(alias="as", description="The node or gateway whose credentials are used")
    topic: str = Field(min_length=1, max_length=1024)


Entry = Annotated[
    Annotated[FaultEntry, Tag(":fault")] | Annotated[CallEntry, Tag(":call")] | Annotated[InjectEntry, Tag(":inject")],
    by_key("an entry of the timeline", ("fault", "call", "inject")),
]


class Counted(Strict):
    name: str | None = Field(default=None, min_length=1, max_length=120)
    equals: int | None = Field(default=None, ge=0)
    at_least: int | None = Field(default=None, ge=0)
    at_most: int | None = Field(default=None, ge=0)


EventName = Annotated[str, WithJsonSchema({"enum": list(KINDS)})]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Whom = Annotated[
    Annotated[list[str], Field(min_length=1, max_length=1000)],
    BeforeValidator(_as_list),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
"""One id, several, or a pattern such as ``sensor-*``."""


class After(Strict):
    event: EventName
    who: str | None = None
    of: str | None = None
    where: dict[str, Scalar] = Field(default_factory=dict)


class EventExpect(Counted):
    event: EventName
    who: Whom | None = Field(default=None, description="Each of these ids (or patterns) must meet the expectation")
    where: dict[str, Scalar] = Field(default_factory=dict, description="Fields of the event and their values")
    after: Annotated[Annotated[str, Tag("=text")] | Annotated[After, Tag("=mapping")], text_or_mapping()] | None = (
        Field(
            default=None, description="An event, an entry of the timeline, or {event, who, of}; counting starts there"
        )
    )
    of: str | None = Field(default=None, description="The entry of the timeline that `event` or `after` is about")
    not_before: Duration | None = Field(default=None, description="Earliest, counted from `after`")
    within: Duration | None = Field(default=None, description="Latest, counted from `after`")
    during: str | None = Field(default=None, description="A fault of the timeline; `fault` means its only one")


class ReadingsExpect(Counted):
    readings: Literal[
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
    cause: str | None = Field(
        default=None,
        description="Only those lost by this cause, as in backlog-full or backlog-full at sensor-01, or buffered there",
    )


class CallExpect(Strict):
    name: str | None = Field(default=None, min_length=1, max_length=120)
    call: str = Field(description="Name of a call of the timeline")
    status: int | None = Field(default=None, ge=100, le=599)
    body: dict[str, Any] = Field(default_factory=dict, description="Members that the JSON answer must have")
    within: Duration | None = None


Expect = Annotated[
    Annotated[EventExpect, Tag(":event")]
    | Annotated[ReadingsExpect, Tag(":readings")]
    | Annotated[CallExpect, Tag(":call")],
    by_key("an expectation", ("event", "readings", "call")),
]


class Scenario(Strict):
    """A story for a Clawland fleet: who is in it, what happens to them, and what must come of it."""

    version: Literal[1]
    name: Id
    description: str = ""
    seed: int = Field(default=1, ge=0, lt=2**63, description="Same seed, same file: the same run, byte for byte")
    epoch: str = Field(default="2026-01-01T00:00:00Z", description="UTC at instant 0")
    duration: Duration = Field(description="How long sensors sample")
    settle: Duration = Field(default=300_000_000, description="How long buffers may take to empty afterwards")
    fleet: Fleet
    links: dict[str, Link] = Field(default_factory=dict, description="Link profiles, changed or new")
    rules: list[Rule] = Field(default_factory=list, max_length=1000)
    timeline: list[Entry] = Field(default_factory=list, max_length=1000)
    expect: list[Expect] = Field(default_factory=list, max_length=1000)
