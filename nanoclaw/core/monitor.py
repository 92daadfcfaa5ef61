"""Which nodes are alive, by their heartbeats, and which belong here. One deadline serves all nodes."""

from typing import TYPE_CHECKING

from fleet.wire.uplink import Message
from nanoclaw.core.roster import Node

if TYPE_CHECKING:
    from nanoclaw.core.gateway import GatewayCore


class Monitor:
    """Declares nodes up and down, adopts those that come, lets go of those that went."""

    def __init__(self, core: "GatewayCore") -> None:
        self._core = core
        self.due_ms: int | None = None

    def on_heartbeat(self, node: Node, heartbeat: Message, now_ms: int) -> None:
        """A node lives, and says which boot and which join this is."""
        if (
            node.state == "up"
            and heartbeat["boot"] == node.boot
            and heartbeat["attach"] == node.attach
            and heartbeat["interval_ms"] == node.interval_ms
            and heartbeat["n"] > max(1, node.n)
            and node.boot in node.zero_utc_ms
        ):  # nearly always: nothing is new but that it lives, and nobody's deadline comes nearer
            node.n = heartbeat["n"]
            node.heard_ms = now_ms
            return
        known = (node.state, node.attach, node.boot)
        node.learn_boot(heartbeat["boot"], heartbeat["uptime_ms"], self._core.utc_ms(now_ms))
        joins = heartbeat["n"] == 1 or known[0] != "up" or heartbeat["attach"] != node.attach
        self._present(node, heartbeat, now_ms)
        node.interval_ms = heartbeat["interval_ms"]
        node.heard_ms = now_ms
        if node.state != "up":
            self._up(node, heartbeat, now_ms)
        elif (node.state, node.attach, node.boot) != known:
            self._tell(node, heartbeat, now_ms)
        if self.due_ms is None or self.due_ms > node.down_due_ms(self._core.config.down_after_intervals):
            self.reschedule(now_ms)
        if joins:
            self._core.intake.send_received(node, True, now_ms)

    def on_beacon(self, node: Node, beacon: Message, now_ms: int) -> None:
        """A node asks whether anybody is there."""
        if beacon["boot"] == node.boot:
            self._present(node, beacon, now_ms)
            self._core.intake.send_received(node, True, now_ms)

    def release(self, node_id: str, attach: int) -> None:
        """The cloud says that the node joined another gateway, with a later attach count."""
        node = self._core.nodes.get(node_id)
        if node is not None and node.attach < attach and node.state != "released":
            node.state = "released"
            self._core.stores.put(f"node:{node_id}", node.as_slot())

    def on_timer(self, now_ms: int) -> None:
        """Declare down what has been silent too long."""
        if self.due_ms is None or now_ms < self.due_ms:
            return
        intervals = self._core.config.down_after_intervals
        for node in self._core.nodes.values():
            if node.state == "up" and now_ms >= node.down_due_ms(intervals):
                self._down(node, now_ms)
        self.reschedule(now_ms)

    def reschedule(self, now_ms: int) -> None:
        """Find the node that would be down first; later heartbeats only move that further away."""
        intervals = self._core.config.down_after_intervals
        self.due_ms = min(
            (node.down_due_ms(intervals) for node in self._core.nodes.values() if node.state == "up"), default=None
        )

    def _present(self, node: Node, message: Message, now_ms: int) -> None:
        node.n = max(node.n, message["n"]) if message["boot"] == node.boot else message["n"]
        node.attach = max(node.attach, message["attach"])

    def _up(self, node: Node, heartbeat: Message, now_ms: int) -> None:
        down_ms = now_ms - node.since_ms if node.state == "down" else 0
        node.state = "up"
        node.since_ms = now_ms
        self._core.event("node.up", {"node": node.id, "boot": node.boot, "down_ms": down_ms})
        self._core.commands.hurry(node, now_ms)
        self._tell(node, heartbeat, now_ms)

    def _down(self, node: Node, now_ms: int) -> None:
        node.state = "down"
        node.since_ms = now_ms
        self._core.event("node.down", {"node": node.id, "silent_ms": now_ms - node.heard_ms})
        self._core.stores.put(f"node:{node.id}", node.as_slot())
        self._core.forwarder.report("status", {"sensor": node.id, "status": "down", "attach": node.attach}, now_ms)

    def _tell(self, node: Node, heartbeat: Message, now_ms: int) -> None:
        self._core.stores.put(f"node:{node.id}", node.as_slot())
        told = {"sensor": node.id, "status": "up", "attach": node.attach, "boot": node.boot}
        self._core.forwarder.report("status", told | {"backlog": heartbeat["backlog"]}, now_ms)
