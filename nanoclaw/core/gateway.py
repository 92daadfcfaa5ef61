"""The gateway: aggregates readings, keeps them until the cloud has them, decides alone while it is away.

Ports: `nodes` is the local broker, `lora` the concentrators, `hub` the uplink. Like a node, a gateway is silent until
its boot number is on disk. This class is the switchboard; each concern has a module of its own beside it.
"""

from typing import Any

from firmware.wire import messages
from firmware.wire.outputs import Event, Send
from firmware.wire.topics import split, topic
from fleet.wire import uplink
from fleet.wire.uplink import Message, Rejected
from nanoclaw.core.cloud import Cloud
from nanoclaw.core.commands import Commands
from nanoclaw.core.config import GatewayConfig
from nanoclaw.core.configuration import Configuration
from nanoclaw.core.dating import Dating
from nanoclaw.core.decisions import Decisions
from nanoclaw.core.failback import Failback
from nanoclaw.core.forwarder import Forwarder
from nanoclaw.core.intake import Intake
from nanoclaw.core.journal import Journal
from nanoclaw.core.lora.port import PORT as LORA
from nanoclaw.core.lora.port import LoraPort
from nanoclaw.core.monitor import Monitor
from nanoclaw.core.outbox import Outbox
from nanoclaw.core.recent import SLOT as RECENT
from nanoclaw.core.recent import Recent
from nanoclaw.core.reduction import Reduction
from nanoclaw.core.roster import Node
from nanoclaw.core.stores import Stores
from nanoclaw.core.topics import NodeTopics, parsed
from nanoclaw.core.uplink import Uplink

VERSION = "0.1.0"


class GatewayCore:
    """See `nanoclaw.core`. `status()` tells people how it is doing."""

    def __init__(self, config: GatewayConfig, restored: dict[str, Any], rng: Any, now_ms: int) -> None:
        """`restored`: {"slots": {name: JSON}, "outbox": [(id, kind, body)]}; `rng`: anything like `random.Random`.

        "broken" in `restored` says how many outboxes could not be read, and were moved aside.
        """
        self.config = config
        self.id = config.id
        self.slots: dict[str, Any] = dict(restored.get("slots", {}))
        self.boot = messages.next_boot(self.slots.get("boot"), rng)
        self.start_ms = now_ms
        self.utc_offset_ms: int | None = None
        self.nodes: dict[str, Node] = {}
        self.outbox = Outbox(restored.get("outbox", ()))
        self._broken: int = restored.get("broken", 0)
        spent = {line.name: self.slots.get(f"spent:{line.name}") for line in config.lines}
        self.uplink = Uplink(config.lines, config.uplink_heartbeat_ms, config.offline_after_ms, rng, spent, now_ms)
        self.stores = Stores(self)
        self.cloud = Cloud(self)
        self.configuration = Configuration(self)
        self.commands = Commands(self)
        self.reduction = Reduction(self)
        self.dating = Dating(self)
        self.recent = Recent(self)
        self.intake = Intake(self, now_ms)
        self.forwarder = Forwarder(self)
        self.journal = Journal(self)
        self.decisions = Decisions(self)
        self.monitor = Monitor(self)
        self.failback = Failback(self)
        self.lora = None if config.lora is None else LoraPort(self, config.lora, rng)
        self.rejected = 0
        self._topics = NodeTopics()
        self._outputs: list[Any] = []
        self._named = 0
        self._running = False
        self._hub_topics = {
            name: topic(self.id, name) for name in ("batch", "batch/gz", "heartbeat", "status", "ack", "config/ack")
        }
        self._begin_due_ms: int | None = None
        self._store_boot(now_ms)

    # --- inputs ---------------------------------------------------------------------------------------------------

    def receive(self, port: str, name: str, payload: bytes, now_ms: int) -> None:
        """A message from a node (port `nodes`), a datagram (port `lora`), or a message from the cloud (port `hub`)."""
        if not self._running:
            return
        try:
            if port == "nodes":
                self.from_node(name, payload, now_ms)
            elif port == LORA:
                if self.lora is not None:
                    self.lora.receive(name, payload, now_ms)
            else:
                self.cloud.carried(name, payload)
                self._from_cloud(name, payload, now_ms)
        except Rejected as error:
            sender = (split(name) or ("",))[0] if port == "nodes" else "cloud"
            self.reject(name, str(error), sender)

    def link_up(self, port: str, now_ms: int) -> None:
        """A connection was made."""
        if port != "nodes":
            self.cloud.link_up(port, now_ms)

    def link_down(self, port: str, now_ms: int) -> None:
        """An attempt failed, or a connection is gone."""
        if port != "nodes":
            self.cloud.link_down(port, now_ms)

    def learn_utc(self, utc_ms: int, now_ms: int) -> None:
        """UTC is `utc_ms` now; it stamps readings and drives nothing."""
        self.utc_offset_ms = utc_ms - now_ms
        if self._running:
            self.dating.correct(now_ms)
            self.recent.on_utc(now_ms)
            self.decisions.state.on_utc(now_ms)

    def stored(self, token: int, now_ms: int) -> None:
        """The Store with this token is durable."""
        self.stores.stored(token, now_ms)

    def store_failed(self, token: int, reason: str, now_ms: int) -> None:
        """The Store with this token is not durable: nothing that depends on it happens."""
        self.stores.store_failed(token, reason, now_ms)

    def on_timer(self, now_ms: int) -> None:
        """Do all that is due."""
        if not self._running:
            if self._begin_due_ms is not None and now_ms >= self._begin_due_ms:
                self._store_boot(now_ms)
            return
        self.stores.on_timer(now_ms)
        self.cloud.on_timer(now_ms)
        self.intake.on_timer(now_ms)
        self.monitor.on_timer(now_ms)
        self.forwarder.on_timer(now_ms)
        self.commands.on_timer(now_ms)
        self.decisions.on_timer(now_ms)
        self.failback.on_timer(now_ms)
        if self.lora is not None:
            self.lora.on_timer(now_ms)

    def next_deadline(self) -> int | None:
        """When `on_timer` is wanted next, in core milliseconds."""
        if not self._running:
            return self._begin_due_ms
        due_ms: int = self.uplink.due_ms
        if self.intake.window_ends_ms < due_ms:
            due_ms = self.intake.window_ends_ms
        others = (
            self.intake.due_ms,
            self.monitor.due_ms,
            self.forwarder.due_ms,
            self.commands.due_ms,
            self.stores.due_ms,
            self.decisions.due_ms,
            self.failback.due_ms,
            None if self.lora is None else self.lora.due_ms,
        )
        for other_ms in others:
            if other_ms is not None and other_ms < due_ms:
                due_ms = other_ms
        return due_ms

    def take_outputs(self) -> list[Any]:
        """What to do since last asked, in order."""
        outputs = self._outputs
        if outputs:
            self._outputs = []
        return outputs

    def status(self) -> Message:
        """How it is doing, for people and for the heartbeat."""
        states = [node.state for node in self.nodes.values()]
        told: Message = {
            "mode": self.uplink.mode,
            "nodes_up": states.count("up"),
            "nodes_down": states.count("down"),
            "outbox_readings": len(self.outbox),
            "outbox_bytes": self.outbox.bytes,
            "outbox_dropped": self.intake.dropped,
            "outbox_reports": len(self.outbox.reports),
            "outbox_broken": self._broken,
            "rejected": self.rejected,
            "config": self.configuration.version,
            "version": VERSION,
        }
        lines = self.uplink.lines.all
        if self.configuration.refused is not None:
            told["config_refused"] = self.configuration.refused
        if len(lines) > 1 or lines[0].budget is not None:
            told["uplinks"] = self.uplink.view(self.config.window_ms)
        return told

    # --- what the concerns share ----------------------------------------------------------------------------------

    def emit(self, output: Any) -> None:
        """Ask the host for something."""
        self._outputs.append(output)

    def event(self, kind: str, fields: Message) -> None:
        """Say what happened."""
        self._outputs.append(Event(kind, fields))

    def reject(self, name: str, reason: str, sender: str = "") -> None:
        """Count and report a message that cannot be taken."""
        self.rejected += 1
        self.event("message.rejected", {"topic": name, "reason": reason, "from": sender})

    def send_node(self, node: Node, verb: str, body: bytes) -> None:
        """Send a sealed message to a node on the local broker."""
        name = topic(node.id, verb)
        self._outputs.append(Send("nodes", name, node.sealer.seal(name, body)))

    def send_hub(self, verb: str, payload: bytes) -> None:
        """Send a message to the cloud."""
        name = self._hub_topics[verb]
        self.cloud.carried(name, payload)
        self._outputs.append(Send(self.uplink.port, name, payload))

    def new_name(self) -> str:
        """A name that nobody else gives, nor a restart of this one: no id of the fleet has a colon."""
        self._named += 1
        return f"{self.id}:{self.boot:x}:{self._named}"

    def utc_ms(self, now_ms: int) -> int | None:
        """UTC at `now_ms`, or None while it is unknown."""
        return None if self.utc_offset_ms is None else now_ms + self.utc_offset_ms

    # --- its start ------------------------------------------------------------------------------------------------

    def _store_boot(self, now_ms: int) -> None:
        """Nothing is said before the boot number is on disk; a disk that refuses is asked again."""
        self._begin_due_ms = None
        self.stores.persist([("put", "boot", self.boot)], self._begin, self._begin_later)

    def _begin_later(self, now_ms: int) -> None:
        self._begin_due_ms = now_ms + self.config.commit_ms

    def _begin(self, now_ms: int) -> None:
        self._running = True
        self.event("gateway.started", {"outbox": len(self.outbox)})
        if "snapshot" in self.slots:
            self.configuration.restore(self.slots["snapshot"], now_ms)
        self.recent.restore(self.slots.get(RECENT), now_ms)
        self.dating.correct(now_ms)
        self.intake.dropped = self.slots.get("dropped", 0)
        self.reduction.restore(self.slots.get("summarised"))
        self.journal.restore()
        self.decisions.restore(self.slots, now_ms)
        self.commands.restore(now_ms)
        self.slots.clear()
        self.cloud.on_timer(now_ms)

    # --- where messages go ----------------------------------------------------------------------------------------

    def from_node(self, name: str, payload: bytes, now_ms: int, air: bool = False) -> None:
        """A message of a node, `air` by radio. Raises Rejected."""
        node_id, verb, check = self._topics.known.get(name) or self._topics.split(name, self.nodes)
        if check is None:
            return  # our own, heard back
        node = self.nodes.get(node_id)
        if node is None:
            raise Rejected("unknown node")
        message = check(parsed(payload))
        if message is None:
            raise Rejected("malformed")
        if check is messages.check_reading:
            self.intake.on_reading(node, verb, message, now_ms)
        elif verb == "ack":
            self.commands.on_ack(node, message, now_ms)
        elif message["fleet"] != self.config.fleet_id:
            raise Rejected("a node of another fleet")
        elif verb == "heartbeat":
            self.monitor.on_heartbeat(node, message, now_ms, air)
        else:
            self.monitor.on_beacon(node, message, now_ms)

    def _from_cloud(self, name: str, payload: bytes, now_ms: int) -> None:
        found = split(name)
        verb = found[1] if found and found[0] == self.id else ""
        if verb == "heartbeat/ack":
            self.cloud.on_answer(uplink.decode(payload), now_ms)
        elif verb == "batch/ack":
            self.forwarder.on_ack(uplink.text_of(uplink.decode(payload), "batch", 128), now_ms)
        elif verb == "cmd":
            self.commands.on_command(uplink.decode(payload), now_ms)
        elif verb == "config":
            self.configuration.on_config(payload, now_ms)
        else:
            raise Rejected("not a topic for a gateway")
