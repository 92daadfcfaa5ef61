"""Commands through the gateway: the cloud's and its own alarms to nodes, what is for itself, and the answers.

The cloud's are durable before they are sent, and forgotten with the answer; each is sent again until answered.
"""

from typing import TYPE_CHECKING

from firmware.wire import messages
from fleet.wire import uplink
from fleet.wire.uplink import Message, Rejected
from nanoclaw.core.orders import Order, Orders
from nanoclaw.core.roster import Node

if TYPE_CHECKING:
    from nanoclaw.core.gateway import GatewayCore

NO_UTC_TTL_MS = 3_600_000
MOST_ORDERS = 1_000  # beyond, the cloud is told no: nodes that are away must not fill the disk


class Commands:
    """The orders that wait for their nodes, and the slots that keep the cloud's."""

    def __init__(self, core: "GatewayCore") -> None:
        self._core = core
        self._orders = Orders()
        self.due_ms: int | None = None

    def restore(self, now_ms: int) -> None:
        """The commands that were under way before the gateway restarted."""
        for slot, kept in self._core.slots.items():
            if slot.startswith("cmd:"):
                self._keep(kept, now_ms)

    def on_command(self, message: Message, now_ms: int) -> None:
        """A command from the cloud, for a node or for the gateway itself. Raises Rejected."""
        core = self._core
        command = {name: uplink.text_of(message, name) for name in ("id", "action")}
        params = message.get("params", {})
        if not isinstance(params, dict):
            raise Rejected("params is not an object")
        if "target" not in message:
            self._obey(command["action"], command["id"], params, now_ms)
            return
        target = uplink.text_of(message, "target")
        if target not in core.nodes:
            self._refuse(command["id"], target, "unknown node", now_ms)
            return
        if command["id"] in self._orders:
            return  # the cloud asks again; the node is being asked
        if len(self._orders) >= MOST_ORDERS:
            self._refuse(command["id"], target, "too many commands wait for nodes", now_ms)
            return
        kept = command | {"target": target, "params": params, "by": message.get("by", "cloud")}
        kept["expires_utc_ms"] = uplink.count_of(message, "expires_utc_ms")
        core.stores.persist([("put", f"cmd:{command['id']}", kept)], lambda at_ms: self._keep(kept, at_ms))

    def _refuse(self, command_id: str, target: str, reason: str, now_ms: int) -> None:
        answer = {"id": command_id, "target": target, "status": "failed", "reason": reason}
        self._core.forwarder.report("ack", answer, now_ms)

    def _keep(self, kept: Message, now_ms: int) -> None:
        core = self._core
        node = core.nodes.get(kept["target"])
        utc_ms = core.utc_ms(now_ms)
        # Without UTC the cloud's own expiry has to do; an hour bounds what is kept here.
        expires_ms = kept["expires_utc_ms"]
        ttl_ms = NO_UTC_TTL_MS if utc_ms is None or expires_ms is None else expires_ms - utc_ms
        if node is None or ttl_ms <= 0:
            core.stores.put(f"cmd:{kept['id']}", None)
            return
        ttl_ms = min(ttl_ms, messages.MAX_TTL_MS)
        self.order(kept["action"], node, kept["params"], kept["by"], ttl_ms, now_ms, kept["id"], kept=True)

    def _obey(self, action: str, command_id: str, params: Message, now_ms: int) -> None:
        """Do what the cloud wants of the gateway itself."""
        core = self._core
        status = "done"
        if action == "release":
            core.monitor.release(uplink.text_of(params, "node"), uplink.count_of(params, "attach"), now_ms)
        elif action == "answered":  # a node of ours told another gateway, which told the cloud
            order = self._orders.answered(uplink.text_of(params, "id"), uplink.text_of(params, "node"))
            if order is not None:
                self._answered(order, {"status": uplink.text_of(params, "status")}, now_ms)
        else:
            status = "failed"
        core.forwarder.report("ack", {"id": command_id, "target": core.id, "status": status}, now_ms)

    def order(
        self,
        action: str,
        node: Node,
        params: Message,
        by: str,
        ttl_ms: int,
        now_ms: int,
        order_id: str,
        kept: bool = False,
    ) -> None:
        """Send a command to a node until it answers or `ttl_ms` are over; `kept`: it is on disk."""
        self._orders.add(Order(order_id, action, node.id, params, by, now_ms + ttl_ms, kept))
        self.on_timer(now_ms)

    def waits_for(self, node: str) -> bool:
        """Whether the node has a command to answer."""
        return self._orders.waits_for(node)

    def hurry(self, node: Node, now_ms: int) -> None:
        """The node is (back) here: send its commands at once."""
        self._orders.hurry(node.id)
        self.on_timer(now_ms)

    def on_timer(self, now_ms: int) -> None:
        """Send the commands that are due, and drop those whose time is over."""
        if not len(self._orders):
            self.due_ms = None
            return
        ready, expired = self._orders.due(now_ms)
        for order in expired:
            if order.kept:
                self._core.stores.put(f"cmd:{order.id}", None)
            if order.by == "gateway":
                self._core.event("command.expired", _named(order))
                self._core.journal.write("command-expired", _named(order), now_ms)
        for order in ready:
            self._send(order, now_ms)
        self.due_ms = self._orders.deadline_ms(now_ms)

    def _send(self, order: Order, now_ms: int) -> None:
        node = self._core.nodes.get(order.target)
        first = order.sent_ms is None
        order.sent_ms = now_ms
        if node is None or not node.is_here or node.air:
            return
        self._core.send_node(node, "cmd", self.encoded(order, now_ms))
        if first and order.by == "gateway":
            self._core.event("command.sent", _named(order))

    def next_for_air(self, node: Node) -> Order | None:
        """The command to send in the node's receive window, if one waits."""
        return self._orders.next_for(node.id)

    def encoded(self, order: Order, now_ms: int) -> bytes:
        """The command with what is left of its time."""
        return messages.encode_command(order.action, order.id, order.expires_ms - now_ms, order.by, order.params)

    def aired(self, order: Order, now_ms: int) -> None:
        """The command is in an answer to a frame; nobody knows whether the node hears it."""
        first, order.aired_ms = order.aired_ms is None, now_ms
        if first and order.by == "gateway":
            self._core.event("command.sent", _named(order))

    def refuse(self, order: Order, reason: str, now_ms: int) -> None:
        """The command cannot be sent to its node; whoever wants it is told."""
        self._orders.answered(order.id, order.target)
        if order.by == "gateway":
            self._answered(order, {"status": "failed", "reason": reason}, now_ms)
            return
        answer = {"id": order.id, "target": order.target, "status": "failed", "reason": reason}
        self._core.forwarder.report("ack", answer, now_ms, (("put", f"cmd:{order.id}", None),))

    def on_ack(self, node: Node, message: Message, now_ms: int) -> None:
        """A node's answer: to an alarm of ours, or to a command that the cloud waits for. Raises Rejected."""
        core = self._core
        order = self._orders.answered(message["id"], node.id)
        if order is not None and order.by == "gateway":
            self._answered(order, message, now_ms)
            return
        if message["id"].startswith(core.id + ":"):
            return  # our own alarm, answered a second time
        if message["id"] in self._orders:
            raise Rejected("answers a command for another node")
        answer = {name: message[name] for name in ("id", "status", "reason") if message.get(name)}
        done = (("put", f"cmd:{order.id}", None),) if order is not None else ()
        core.forwarder.report("ack", answer | {"target": node.id}, now_ms, done)

    def _answered(self, order: Order, answer: Message, now_ms: int) -> None:
        """A command of our own is answered."""
        core, failed = self._core, answer["status"] == "failed"
        kind = "command.failed" if failed else "command.acknowledged"
        told: Message = {"reason": answer.get("reason", "")} if failed else {"status": answer["status"]}
        writes = [("put", f"cmd:{order.id}", None)] if order.kept else []
        if failed or order.action not in ("alert", "rejoin"):
            writes += core.journal.note(kind.replace(".", "-"), _named(order) | told, now_ms)
        if writes:
            core.stores.persist(writes, None)
        core.event(kind, _named(order) | told)


def _named(order: Order) -> Message:
    """What events say of a command."""
    return {"id": order.id, "action": order.action, "target": order.target}
