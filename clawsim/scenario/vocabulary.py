"""The words of a scenario: every kind of event, what it means, who says it, and which fields it carries.

An event is said once, by the core that knows, and carries its speaker as ``who``. Whom it is *about* is a field:
``node.down`` is said by a gateway and carries ``node``. A file may name either under ``who``; the loader
tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass

ROLES = ("viewer", "operator", "admin", "anonymous")
FATES = (
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
)
NODE_TYPES = {"microclaw": "microclaw", "picoclaw": "picoclaw", "picclaw": "picoclaw"}
"""Accepted spellings of the sensor nodes' types, and the one that is used from there on."""
SAME = "same"
"""Under ``after: {who: same}``: whoever the expectation itself is about."""
RESERVED_IDS = ("cloud", "hub", "fleet", "world", SAME)

NODE, GATEWAY, FLEET, HUB, WORLD, ANY = "node", "gateway", "fleet", "hub", "world", "any"


@dataclass(frozen=True, slots=True)
class EventKind:
    """``speaker`` is the sort of entity that says it; ``about`` the field that holds an id one may mean by ``who``."""

    name: str
    meaning: str
    speaker: str
    fields: tuple[str, ...] = ()
    about: str | None = None


def _kinds() -> tuple[EventKind, ...]:
    return (*_NODES, *_GATEWAYS, *_FLEET, *_READINGS, *_WORLD)


_NODES = (
    EventKind("node.started", "the node's firmware began to run", NODE, ("boot", "backlog")),
    EventKind(
        "node.down", "a gateway heard nothing of the node for three heartbeats", GATEWAY, ("node", "silent_ms"), "node"
    ),
    EventKind("node.up", "a gateway hears the node (again)", GATEWAY, ("node", "boot", "down_ms", "backlog"), "node"),
    EventKind(
        "node.unsteady",
        "the node is heard, and was down too often to be called up at once",
        GATEWAY,
        ("node", "downs"),
        "node",
    ),
    EventKind("node.unknown", "the node's gateway is down, so nobody can tell", FLEET, ("node", "gateway"), "node"),
    EventKind("sensor.fault", "a sensor failed or read an implausible value", NODE, ("metric", "reason", "value")),
    EventKind("alarm.local", "a node's alarm sounded", NODE, ("by", "rule", "id")),
    EventKind("alarm.silenced", "a node's alarm fell silent", NODE, ("by", "rule", "id")),
    EventKind("battery.low", "a node's battery is low: its intervals become longer", NODE, ("battery_mv",)),
    EventKind("battery.recovered", "a node's battery is no longer low", NODE, ("battery_mv",)),
    EventKind("config.rolled-back", "a node took new settings back", NODE, ("id", "reason")),
    EventKind(
        "failover.scan", "the node's gateway was silent too long: it looks for another", NODE, ("gateway", "silent_ms")
    ),
    EventKind(
        "frame.sent",
        "a node sent a LoRa frame",
        NODE,
        ("count", "bytes", "air_us", "hour_us", "sf", "readings", "heartbeat", "asks"),
    ),
    EventKind("failover.joined", "the node joined another gateway", NODE, ("gateway", "attach")),
)
_GATEWAYS = (
    EventKind("gateway.started", "the gateway's daemon began to run", GATEWAY, ("outbox",)),
    EventKind("gateway.offline", "the gateway lost the cloud, in its own view", GATEWAY, ("reason", "silent_ms")),
    EventKind("gateway.online", "the gateway reached the cloud, in its own view", GATEWAY, ("offline_ms",)),
    EventKind(
        "downlink.sent",
        "a concentrator took an answer to a node's frame",
        GATEWAY,
        ("node", "concentrator", "bytes"),
        "node",
    ),
    EventKind("downlink.missed", "a node got no answer in its receive window", GATEWAY, ("node", "reason"), "node"),
    EventKind(
        "gateway.probing",
        "the gateway doubts that the cloud is there, in its own view",
        GATEWAY,
        ("reason", "silent_ms"),
    ),
    EventKind("gateway.answered", "the cloud that a gateway had doubted answers", GATEWAY, ("silent_ms",)),
    EventKind("uplink.switched", "the gateway uses another of its uplinks", GATEWAY, ("uplink", "before", "was")),
    EventKind("uplink.spent", "a metered uplink has carried what it may in a day", GATEWAY, ("uplink", "daily_bytes")),
    EventKind("gateway.catching-up", "the gateway began to upload what it kept", GATEWAY, ("readings",)),
    EventKind(
        "gateway.caught-up", "everything that the gateway kept is stored in the cloud", GATEWAY, ("batches", "readings")
    ),
    EventKind(
        "gateway.down", "the fleet manager heard nothing of the gateway", FLEET, ("gateway", "silent_ms"), "gateway"
    ),
    EventKind("gateway.up", "the fleet manager hears the gateway (again)", FLEET, ("gateway", "down_ms"), "gateway"),
    EventKind("config.refused", "a gateway cannot do what a configuration asks", GATEWAY, ("version", "reason")),
    EventKind(
        "failback.ordered", "a gateway sends a node back to its home", GATEWAY, ("node", "gateway", "policy"), "node"
    ),
    EventKind(
        "outbox.broken",
        "a gateway could not read its outbox, and has moved it aside",
        FLEET,
        ("gateway", "outboxes"),
        "gateway",
    ),
    EventKind("rule.blind", "a gateway's rule asks for a sealed value", GATEWAY, ("rule", "node", "metric"), "node"),
    EventKind("batch.sent", "a gateway sent a batch", GATEWAY, ("batch", "readings", "bytes", "late")),
    EventKind("batch.acknowledged", "the cloud has a batch on disk", GATEWAY, ("batch", "readings")),
)
_TOLD = ("id", "subject", "node", "count", "nodes")  # of one message about several: their count, and who they are
_FLEET = (
    EventKind("fleet.started", "the fleet manager began to run", FLEET, ("gateways", "nodes")),
    EventKind("manager.leading", "of several fleet managers this one leads from now on", FLEET, ("manager", "epoch")),
    EventKind("manager.following", "a fleet manager follows another one", FLEET, ("manager", "leader", "epoch")),
    EventKind(
        "manager.fenced", "another fleet manager leads; this one writes no more", FLEET, ("manager", "epoch", "reason")
    ),
    EventKind("hub.started", "the Event Hub began to run", HUB),
    EventKind(
        "alert.raised",
        "a rule's condition became true: an episode begins",
        ANY,
        ("id", "node", "rule", "value", "by", "silenced", "scope", "sealed", "judged", "members"),
        "node",
    ),
    EventKind(
        "alert.cleared",
        "an episode ended",
        ANY,
        ("id", "node", "rule", "value", "by", "silenced", "scope", "sealed", "judged", "members"),
        "node",
    ),
    EventKind("command.queued", "a command was accepted", ANY, ("id", "action", "target", "by"), "target"),
    EventKind("command.sent", "a command left for its target", ANY, ("id", "action", "target"), "target"),
    EventKind(
        "command.acknowledged",
        "the target reported a command done",
        ANY,
        ("id", "action", "target", "status"),
        "target",
    ),
    EventKind(
        "command.failed",
        "the target reported that a command failed",
        ANY,
        ("id", "action", "target", "reason"),
        "target",
    ),
    EventKind("command.executed", "a node carries out a command", NODE, ("id", "action")),
    EventKind("command.expired", "a command's time ran out unanswered", ANY, ("id", "action", "target"), "target"),
    EventKind("notification.sent", "people were told", FLEET, _TOLD, "node"),
    EventKind("notification.failed", "people could not be told", FLEET, _TOLD, "node"),
    EventKind(
        "agent.event", "an agent reported something by HTTP", FLEET, ("node", "type", "severity", "message"), "node"
    ),
    EventKind("alert.acknowledged", "somebody has seen an alert", FLEET, ("id", "node", "by"), "node"),
    EventKind("node.registered", "a node or agent came into the fleet by the API", FLEET, ("node", "by"), "node"),
    EventKind("node.replaced", "a node got another board", FLEET, ("node",), "node"),
    EventKind("node.moved", "a node got another home", FLEET, ("node",), "node"),
    EventKind("node.stolen", "a node was marked stolen", FLEET, ("node",), "node"),
    EventKind("node.desired", "a node's desired configuration changed", FLEET, ("node", "version"), "node"),
    EventKind("node.decommissioned", "a node left the fleet", FLEET, ("node",), "node"),
    EventKind(
        "node.answered-by",
        "a node that is heard by radio is answered by that gateway from now on",
        FLEET,
        ("node", "gateway"),
        "node",
    ),
    EventKind("gateway.registered", "a gateway came into the fleet by the API", FLEET, ("gateway",), "gateway"),
    EventKind("rule.changed", "a rule was added, changed or removed by the API", FLEET, ("rule",)),
    EventKind("notification.discarded", "somebody gave a dead letter up", FLEET, ("id", "subject")),
    EventKind("maintenance.added", "a maintenance window was added", FLEET, ("id", "on")),
    EventKind("maintenance.changed", "a maintenance window got another end or reason", FLEET, ("id", "on")),
    EventKind("maintenance.ended", "a maintenance window was ended by hand", FLEET, ("id", "on")),
    EventKind("sensitive.changed", "a metric was marked sensitive, or is so no more", FLEET, ("metric",)),
    EventKind("sealing.changed", "a node got another sealing key, or other metrics to seal", FLEET, ("node",), "node"),
    EventKind("command.refused", "a rule's command cannot be sent", ANY, ("rule", "target", "reason"), "target"),
    EventKind("certificate.expiring", "a certificate runs out soon, or has run out", FLEET, ("name", "days")),
    EventKind("config.applied", "a gateway has a configuration on disk", GATEWAY, ("version", "hash")),
)
_READINGS = (
    EventKind("reading.produced", "a node took a reading", NODE, ("boot", "seq", "metric", "value", "sealed")),
    EventKind("reading.stored", "the fleet manager stored a reading", FLEET, ("node", "boot", "seq", "metric"), "node"),
    EventKind(
        "reading.unreadable",
        "a sealed reading is stored that no key opens",
        FLEET,
        ("node", "boot", "seq", "metric", "reason"),
        "node",
    ),
    EventKind("reading.lost", "a reading was dropped", ANY, ("node", "boot", "seq", "cause"), "node"),
    EventKind(
        "reading.summarised", "a reading goes up as a part of a summary only", GATEWAY, ("node", "boot", "seq"), "node"
    ),
    EventKind(
        "reading.suppressed", "a reading says nothing new and stays here", GATEWAY, ("node", "boot", "seq"), "node"
    ),
    EventKind("reading.redelivered", "a copy of a reading was discarded", ANY, ("node", "boot", "seq"), "node"),
    EventKind("reading.conflict", "the same identity came with other content", ANY, ("node", "boot", "seq"), "node"),
    EventKind(
        "message.rejected",
        "a message was refused and counted",
        ANY,
        ("reason", "topic", "from", "identity", "detail"),
        "from",
    ),
    EventKind("report.dropped", "a gateway's disk is full of reports: the oldest went", GATEWAY, ("item",)),
    EventKind("store.failed", "a tier could not write to its disk", ANY, ("reason",)),
    EventKind("store.recovered", "a tier can write to its disk again", ANY),
)
_WORLD = (
    EventKind("fault.requested", "a fault of the timeline was asked for", WORLD, ("of", "fault", "on")),
    EventKind("fault.effective", "a fault was seen to have its effect", WORLD, ("of", "fault", "on")),
    EventKind("fault.cleared", "a fault ended", WORLD, ("of", "fault", "on", "touched")),
    EventKind("frame.lost", "a gateway did not hear a LoRa frame", WORLD, ("node", "gateway", "cause"), "node"),
    EventKind("call.sent", "a request of the timeline went to the API", WORLD, ("of", "method", "path")),
    EventKind("call.answered", "the API answered a request of the timeline", WORLD, ("of", "status", "latency_ms")),
    EventKind("inject.sent", "a raw message of the timeline was published", WORLD, ("of", "topic", "bytes")),
    EventKind("process.died", "a process of the live world ended unasked", ANY, ("reason",)),
    EventKind("host.lag", "how late a host's timers were", ANY, ("worst_ms", "timers")),
)

KINDS = {kind.name: kind for kind in _kinds()}
"""Every kind of event by its name."""

OF_ENTRY = ("fault.", "call.", "inject.")
"""Prefixes of the kinds that are about one entry of the timeline, which they name in the field ``of``."""

LOST_CAUSES = ("backlog-full", "outbox-full", "outbox-old", "refused")
"""Why a reading is lost: a node's or a gateway's buffer was full, it got too old there, or the fleet manager could not
take it."""

CLOSED = {
    ("alarm.", "by"): ("node", "gateway", "cloud"),
    ("alert.", "by"): ("gateway", "cloud"),
    ("command.acknowledged", "status"): ("done", "restarted"),
    ("fault.", "fault"): ("cut", "delay", "loss", "kill", "stop", "power"),
    ("frame.lost", "cause"): ("link", "collision", "transmitting", "too-far"),
    ("gateway.offline", "reason"): ("heartbeat timeout", "connection lost"),
    ("gateway.probing", "reason"): ("heartbeat timeout", "connection lost"),
    ("failback.ordered", "policy"): ("idle", "after"),
    ("reading.lost", "cause"): LOST_CAUSES,
    ("sensor.fault", "reason"): ("failed", "out-of-range", "stuck", "too-long"),
}
"""Fields that hold one of a few words, by the beginning of the event's kind."""


def words_for(kind: str, field: str) -> tuple[str, ...] | None:
    """The words that ``field`` of an event of ``kind`` can hold, or None for any."""
    return next((words for (begins, name), words in CLOSED.items() if name == field and kind.startswith(begins)), None)
