"""Which nodes are alive, by their heartbeats, and which belong here. One deadline serves all nodes.

A node that goes down again and again would have people told again and again. So, after its third time down in an hour,
it is up only when it was heard for ten minutes without a break. Until then it stays down, though it is served like any
other.
"""

from typing import TYPE_CHECKING

from firmware.wire.messages import decode_heartbeat
from fleet.wire.uplink import Message, Rejected
from nanoclaw.core.roster import Node

if TYPE_CHECKING:
    from nanoclaw.core.gateway import GatewayCore


class Monitor:
    """Declares nodes up and down, adopts those that come, lets go of those that went."""

    def __init__(self, core: "GatewayCore") -> None:
        self._core = core
        self.due_ms: int | None = None

    def on_heartbeat(self, node: Node, heartbeat: Message, now_ms: int, air: bool = False) -> None:
        """A node lives, and says which boot and which join this is; `air`: by radio."""
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
            node.backlog = heartbeat["backlog"]
            return
        known = (node.state, node.attach, node.boot)
        node.air = air
        node.learn_boot(heartbeat["boot"], heartbeat["uptime_ms"], self._core.utc_ms(now_ms))
        joins = heartbeat["n"] == 1 or known[0] != "up" or heartbeat["attach"] != node.attach
        self._present(node, heartbeat, now_ms)
        if node.attach != known[1] or node.state != "up":
            self._core.failback.on_join(node, now_ms)
        node.interval_ms = heartbeat["interval_ms"]
        node.heard_ms = now_ms
        node.backlog = heartbeat["backlog"]
        if node.state != "up":
            self._returned(node, now_ms)
        elif (node.state, node.attach, node.boot) != known:
            self._tell(node, now_ms)
        if self.due_ms is None or self.due_ms > node.down_due_ms(self._core.config.down_after_intervals):
            self.reschedule(now_ms)
        if joins:
            self._core.intake.send_received(node, True, now_ms)

    def on_beacon(self, node: Node, beacon: Message, now_ms: int) -> None:
        """A node asks whether anybody is there."""
        if beacon["boot"] == node.boot:
            self._present(node, beacon, now_ms)
            self._core.intake.send_received(node, True, now_ms)

    def overhear(self, node: Node, heartbeat: bytes, now_ms: int) -> None:
        """A heartbeat by radio that another gateway answers: it only dates the boot. Raises Rejected."""
        found = decode_heartbeat(heartbeat)
        if found is None:
            raise Rejected("malformed")
        node.learn_boot(found["boot"], found["uptime_ms"], self._core.utc_ms(now_ms))

    def let_go(self, node: Node, now_ms: int) -> None:
        """Another gateway looks after the node from now on."""
        node.state = "released"
        node.held_ms = None
        self._core.stores.put(f"node:{node.id}", node.as_slot())
        self._core.decisions.on_left(node.id, now_ms)

    def release(self, node_id: str, attach: int, now_ms: int) -> None:
        """The cloud says that the node joined another gateway, with a later attach count."""
        node = self._core.nodes.get(node_id)
        if node is not None and node.attach < attach and node.state != "released":
            self.let_go(node, now_ms)

    def on_timer(self, now_ms: int) -> None:
        """Declare down what has been silent too long."""
        if self.due_ms is None or now_ms < self.due_ms:
            return
        intervals = self._core.config.down_after_intervals
        for node in self._core.nodes.values():
            if node.state == "up" and now_ms >= node.down_due_ms(intervals):
                self._down(node, now_ms)
            elif node.held_ms is not None and now_ms >= node.down_due_ms(intervals):
                node.held_ms = None  # silent again, before anybody was told that it is up
            elif node.held_ms is not None and now_ms >= node.held_ms:
                self._up(node, now_ms)
        self.reschedule(now_ms)

    def reschedule(self, now_ms: int) -> None:
        """Find the node that would be down first; later heartbeats only move that further away."""
        intervals = self._core.config.down_after_intervals
        due_ms = [node.down_due_ms(intervals) for node in self._core.nodes.values() if node.state == "up"]
        for node in self._core.nodes.values():
            if node.held_ms is not None:
                due_ms.append(min(node.held_ms, node.down_due_ms(intervals)))
        self.due_ms = min(due_ms, default=None)

    def _present(self, node: Node, message: Message, now_ms: int) -> None:
        node.n = max(node.n, message["n"]) if message["boot"] == node.boot else message["n"]
        node.attach = max(node.attach, message["attach"])

    def _returned(self, node: Node, now_ms: int) -> None:
        """A node that was not up is heard: it is up, unless it was down too often to be believed at once."""
        config = self._core.config
        node.downs_ms = [at_ms for at_ms in node.downs_ms if now_ms - at_ms <= config.flap_window_ms]
        if node.state != "down" or len(node.downs_ms) < config.flap_downs:
            self._up(node, now_ms)
        elif node.held_ms is None:
            node.held_ms = now_ms + config.flap_hold_ms
            self._core.event("node.unsteady", {"node": node.id, "downs": len(node.downs_ms)})
            self._core.commands.hurry(node, now_ms)
            self.reschedule(now_ms)

    def _up(self, node: Node, now_ms: int) -> None:
        node.held_ms = None
        down_ms = now_ms - node.since_ms if node.state == "down" else 0
        node.state = "up"
        node.since_ms = now_ms
        up = {"node": node.id, "boot": node.boot, "down_ms": down_ms, "backlog": node.backlog}
        self._core.event("node.up", up)
        self._core.commands.hurry(node, now_ms)
        self._tell(node, now_ms)

    def _down(self, node: Node, now_ms: int) -> None:
        node.state = "down"
        node.since_ms = now_ms
        node.downs_ms = [*node.downs_ms[1 - self._core.config.flap_downs :], now_ms]
        self._core.event("node.down", {"node": node.id, "silent_ms": now_ms - node.heard_ms})
        self._core.stores.put(f"node:{node.id}", node.as_slot())
        self._report(node, {"status": "down"}, now_ms)

    def _tell(self, node: Node, now_ms: int) -> None:
        self._core.stores.put(f"node:{node.id}", node.as_slot())
        self._report(node, {"status": "up", "boot": node.boot, "backlog": node.backlog}, now_ms)

    def _report(self, node: Node, told: Message, now_ms: int) -> None:
        by_radio = {"air": True} if node.air else {}
        self._core.forwarder.report("status", {"sensor": node.id, "attach": node.attach} | told | by_radio, now_ms)
