"""The gateway: aggregates readings, keeps them until the cloud has them, decides alone while it is away.

Ports: `nodes` is the local broker, `hub` the uplink. Like a node, a gateway is silent until its boot number is on disk.
This class is the switchboard; each concern has a module of its own beside it.
"""

from collections.abc import Callable
from typing import Any

import orjson

from firmware.wire import messages
from firmware.wire.auth import mqtt_password
from firmware.wire.messages import BOOT_BITS, MAX_BOOT
from firmware.wire.outputs import Connect, Credentials, Disconnect, Event, Send, Store
from firmware.wire.topics import split, topic
from fleet.wire import snapshot, uplink
from fleet.wire.uplink import Message, Rejected
from nanoclaw.core.config import GatewayConfig
from nanoclaw.core.decisions import Decisions
from nanoclaw.core.forwarder import Forwarder
from nanoclaw.core.intake import Intake
from nanoclaw.core.monitor import Monitor
from nanoclaw.core.orders import Order, Orders
from nanoclaw.core.outbox import Outbox
from nanoclaw.core.roster import Node
from nanoclaw.core.uplink import OFFLINE, ONLINE, UP, Uplink

VERSION = "0.1.0"
MOST_TOPICS = 20_000


class GatewayCore:
    """See `nanoclaw.core`. `status()` tells people how it is doing."""

    def __init__(self, config: GatewayConfig, restored: dict[str, Any], rng: Any, now_ms: int) -> None:
        """`restored`: {"slots": {name: JSON}, "outbox": [(id, kind, body)]}; `rng`: anything like `random.Random`."""
        self.config = config
        self.id = config.id
        self.slots: dict[str, Any] = dict(restored.get("slots", {}))
        self.boot = _next_boot(self.slots.get("boot"), rng)
        self.start_ms = now_ms
        self.utc_offset_ms: int | None = None
        self.config_version = 0
        self.config_hash = ""
        self.nodes: dict[str, Node] = {}
        self.outbox = Outbox(restored.get("outbox", ()))
        self.uplink = Uplink(config.uplink_heartbeat_ms, config.offline_after_ms, rng, now_ms)
        self.orders = Orders()
        self.intake = Intake(self, now_ms)
        self.forwarder = Forwarder(self)
        self.decisions = Decisions(self)
        self.monitor = Monitor(self)
        self.rejected = 0
        self._topics: dict[str, tuple[str, str]] = {}  # of known nodes, split once
        self._outputs: list[Any] = []
        self._waiting: dict[int, tuple[Callable[[int], None] | None, Callable[[int], None] | None, list[Any]]] = {}
        self._owed: list[Any] = []
        self._owed_due_ms: int | None = None
        self._token = 0
        self._named = 0
        self._running = False
        self._orders_due_ms: int | None = None
        self._hub_topics = {
            name: topic(self.id, name) for name in ("batch", "heartbeat", "status", "ack", "config/ack")
        }
        self._begin_due_ms: int | None = None
        self._store_boot(now_ms)

    # --- inputs ---------------------------------------------------------------------------------------------------

    def receive(self, port: str, name: str, payload: bytes, now_ms: int) -> None:
        """A message from a node (port `nodes`) or from the cloud (port `hub`)."""
        if not self._running:
            return
        try:
            if port == "nodes":
                self._from_node(name, payload, now_ms)
            else:
                self._from_cloud(name, payload, now_ms)
        except Rejected as error:
            sender = (split(name) or ("",))[0] if port == "nodes" else "cloud"
            self.reject(name, str(error), sender)

    def link_up(self, port: str, now_ms: int) -> None:
        """A connection was made."""
        if port == "hub":
            self.uplink.up(now_ms)

    def link_down(self, port: str, now_ms: int) -> None:
        """An attempt failed, or a connection is gone."""
        if port != "hub":
            return
        self.uplink.down(now_ms)
        if self.uplink.mode == ONLINE:
            self._go_offline("connection lost", now_ms)

    def learn_utc(self, utc_ms: int, now_ms: int) -> None:
        """UTC is `utc_ms` now; it stamps readings and drives nothing."""
        self.utc_offset_ms = utc_ms - now_ms

    def stored(self, token: int, now_ms: int) -> None:
        """The Store with this token is durable."""
        done = self._waiting.pop(token, None)
        if done and done[0]:
            done[0](now_ms)

    def store_failed(self, token: int, reason: str, now_ms: int) -> None:
        """The Store with this token is not durable: nothing that depends on it happens."""
        done = self._waiting.pop(token, None)
        self.event("store.failed", {"reason": reason})
        if done and done[2]:
            self._owed = done[2] + self._owed
            self._owed_due_ms = now_ms + self.config.commit_ms
        if done and done[1]:
            done[1](now_ms)

    def on_timer(self, now_ms: int) -> None:
        """Do all that is due."""
        if not self._running:
            if self._begin_due_ms is not None and now_ms >= self._begin_due_ms:
                self._store_boot(now_ms)
            return
        if self._owed_due_ms is not None and now_ms >= self._owed_due_ms:
            self._owed_due_ms = None
            if self._owed:
                self.persist([], None)
        self._pump_uplink(now_ms)
        self.intake.on_timer(now_ms)
        self.monitor.on_timer(now_ms)
        self.forwarder.on_timer(now_ms)
        self.send_orders(now_ms)

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
            self._orders_due_ms,
            self._owed_due_ms,
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
        return {
            "mode": self.uplink.mode,
            "nodes_up": states.count("up"),
            "nodes_down": states.count("down"),
            "outbox_readings": len(self.outbox),
            "outbox_reports": len(self.outbox.reports),
            "rejected": self.rejected,
            "config": self.config_version,
            "version": VERSION,
        }

    # --- what the concerns share ----------------------------------------------------------------------------------

    def event(self, kind: str, fields: Message) -> None:
        """Say what happened."""
        self._outputs.append(Event(kind, fields))

    def reject(self, name: str, reason: str, sender: str = "") -> None:
        """Count and report a message that cannot be taken."""
        self.rejected += 1
        self.event("message.rejected", {"topic": name, "reason": reason, "from": sender})

    def persist(
        self, writes: list[Any], then: Callable[[int], None] | None, failed: Callable[[int], None] | None = None
    ) -> None:
        """Store `writes` as one transaction; `then(now_ms)` once durable, `failed(now_ms)` if not.

        Without `then` nobody waits for the writes, and a disk that refuses is owed them: they go with a later Store.
        """
        owed, self._owed = self._owed, []
        kept = owed if then else owed + writes
        self._token += 1
        self._waiting[self._token] = (then, failed, kept)
        self._outputs.append(Store(self._token, owed + writes))

    def put(self, slot: str, value: Any) -> None:
        """Keep `value` under `slot` (None deletes it), without waiting for it."""
        self.persist([("put", slot, value)], None)

    def send_node(self, node: Node, verb: str, body: bytes) -> None:
        """Send a sealed message to a node."""
        name = topic(node.id, verb)
        self._outputs.append(Send("nodes", name, node.sealer.seal(name, body)))

    def send_hub(self, verb: str, payload: bytes) -> None:
        """Send a message to the cloud."""
        self._outputs.append(Send("hub", self._hub_topics[verb], payload))

    def new_name(self) -> str:
        """An id that no gateway and no restart of this one gives twice."""
        self._named += 1
        return f"{self.id}-{self.boot:x}-{self._named}"

    def utc_ms(self, now_ms: int) -> int | None:
        """UTC at `now_ms`, or None while it is unknown."""
        return None if self.utc_offset_ms is None else now_ms + self.utc_offset_ms

    def report(
        self,
        verb: str,
        message: Message,
        now_ms: int,
        writes: tuple[Any, ...] = (),
        then: Callable[[int], None] | None = None,
    ) -> None:
        """Tell the cloud `message` under `verb`, for certain: kept until acknowledged.

        `writes` go to the disk with it; `then(now_ms)` follows, also when the disk refuses (and is tried again).
        """
        item_id = self.outbox.next_id
        self.outbox.next_id += 1
        name = f"{self.id}-{self.boot:x}-r{item_id}"
        message = {"v": uplink.VERSION, "item": name, "utc_ms": self.utc_ms(now_ms)} | message
        body = uplink.encode({"verb": verb, "message": message})
        self.forwarder.store_report(item_id, body, list(writes), then)

    def order(self, action: str, node: Node, params: Message, by: str, ttl_ms: int, now_ms: int, order_id: str) -> None:
        """Send a command to a node until it answers or `ttl_ms` are over."""
        self.orders.add(Order(order_id, action, node.id, params, by, now_ms + ttl_ms))
        self.send_orders(now_ms)

    # --- plumbing -------------------------------------------------------------------------------------------------

    def _store_boot(self, now_ms: int) -> None:
        """Nothing is said before the boot number is on disk; a disk that refuses is asked again."""
        self._begin_due_ms = None
        self.persist([("put", "boot", self.boot)], self._begin, self._begin_later)

    def _begin_later(self, now_ms: int) -> None:
        self._begin_due_ms = now_ms + self.config.commit_ms

    def _begin(self, now_ms: int) -> None:
        self._running = True
        self.event("gateway.started", {"outbox": len(self.outbox)})
        if "snapshot" in self.slots:
            self._apply(self.slots["snapshot"].encode(), now_ms)
        self.decisions.restore(self.slots.get("episodes"))
        for slot, kept in self.slots.items():
            if slot.startswith("cmd:"):
                self._keep_command(kept, now_ms)
        self.slots.clear()
        self._pump_uplink(now_ms)

    def _pump_uplink(self, now_ms: int) -> None:
        link = self.uplink
        if link.mode != OFFLINE and now_ms >= link.silent_ms():
            self._go_offline("heartbeat timeout", now_ms)
        if link.connection == UP:
            if link.heartbeat_due_ms is not None and now_ms >= link.heartbeat_due_ms:
                self._send_heartbeat(now_ms)
        elif now_ms >= link.connect_due_ms:
            if link.connection == "connecting":
                self._outputs.append(Disconnect("hub"))
                link.down(now_ms)
            else:
                link.dial(now_ms)
                self._outputs.append(Connect("hub", None))

    def _send_heartbeat(self, now_ms: int) -> None:
        n = self.uplink.beat(now_ms)
        health: Message = {"v": uplink.VERSION, "n": n, "boot": self.boot, "uptime_ms": now_ms - self.start_ms}
        health |= {"fleet": self.config.fleet_id, "site": self.config.site, "role": self.config.role}
        self.send_hub("heartbeat", uplink.encode(health | self.status() | {"config_hash": self.config_hash}))

    def _go_offline(self, reason: str, now_ms: int) -> None:
        link = self.uplink
        silent_ms = now_ms - link.answered_ms
        link.lost(now_ms)
        if link.connection == UP:
            self._outputs.append(Disconnect("hub"))
            link.down(now_ms)
        self.outbox.ground()
        self.forwarder.stop()
        self.event("gateway.offline", {"reason": reason, "silent_ms": silent_ms})
        self.decisions.take_over(now_ms)

    def _from_cloud(self, name: str, payload: bytes, now_ms: int) -> None:
        found = split(name)
        verb = found[1] if found and found[0] == self.id else ""
        if verb == "heartbeat/ack":
            self._on_answer(uplink.decode(payload), now_ms)
        elif verb == "batch/ack":
            self.forwarder.on_ack(uplink.text_of(uplink.decode(payload), "batch", 128), now_ms)
        elif verb == "cmd":
            self._on_command(uplink.decode(payload), now_ms)
        elif verb == "config":
            self._on_config(payload, now_ms)
        else:
            raise Rejected("not a topic for a gateway")

    def _on_answer(self, message: Message, now_ms: int) -> None:
        if uplink.count_of(message, "n") > self.uplink.heartbeats or self.uplink.connection != UP:
            raise Rejected("answers a heartbeat that was never sent")
        offline_ms = now_ms - self.uplink.offline_since_ms
        if self.uplink.answered(now_ms):
            self.event("gateway.online", {"offline_ms": offline_ms})
            self.forwarder.start(now_ms)

    # --- configuration --------------------------------------------------------------------------------------------

    def _on_config(self, payload: bytes, now_ms: int) -> None:
        found, _ = snapshot.read(payload, self.id, self.config.key)
        if found["hash"] == self.config_hash:
            self._confirm_config()
            return

        def apply(at_ms: int) -> None:
            self._apply(payload, at_ms)
            self._confirm_config()

        self.persist([("put", "snapshot", payload.decode())], apply)

    def _confirm_config(self) -> None:
        confirmed = {"v": uplink.VERSION, "version": self.config_version, "hash": self.config_hash}
        self.send_hub("config/ack", uplink.encode(confirmed))

    def _apply(self, payload: bytes, now_ms: int) -> None:
        try:
            found, keys = snapshot.read(payload, self.id, self.config.key)
        except Rejected as error:  # only from disk: what the cloud sent was checked before it was kept
            self.reject("snapshot", str(error))
            return
        self.config_version, self.config_hash = found["version"], found["hash"]
        self.decisions.set_rules(found["rules"])
        self.nodes = {
            node_id: self.nodes.get(node_id) or Node(node_id, key, self.slots.get(f"node:{node_id}"), now_ms)
            for node_id, key in keys.items()
        }
        for node_id, key in keys.items():
            self.nodes[node_id].rekey(key)
        self.monitor.reschedule(now_ms)
        self._outputs.append(Credentials({node_id: mqtt_password(key) for node_id, key in keys.items()}))
        self.event("config.applied", {"version": self.config_version, "hash": self.config_hash})

    # --- commands -------------------------------------------------------------------------------------------------

    def _on_command(self, message: Message, now_ms: int) -> None:
        command = {name: uplink.text_of(message, name) for name in ("id", "action")}
        params = message.get("params", {})
        if not isinstance(params, dict):
            raise Rejected("params is not an object")
        if "target" not in message:
            self._on_own_command(command["action"], command["id"], params, now_ms)
            return
        target = uplink.text_of(message, "target")
        if target not in self.nodes:
            answer = {"id": command["id"], "target": target, "status": "failed", "reason": "unknown node"}
            self.report("ack", answer, now_ms)
            return
        if command["id"] in self.orders:
            return  # the cloud asks again; the node is being asked
        kept = command | {"target": target, "params": params, "by": message.get("by", "cloud")}
        kept["expires_utc_ms"] = uplink.count_of(message, "expires_utc_ms")
        self.persist([("put", f"cmd:{command['id']}", kept)], lambda at_ms: self._keep_command(kept, at_ms))

    def _keep_command(self, kept: Message, now_ms: int) -> None:
        node = self.nodes.get(kept["target"])
        utc_ms = self.utc_ms(now_ms)
        # Without UTC the cloud's own expiry has to do; an hour bounds what is kept here.
        ttl_ms = 3_600_000 if utc_ms is None else kept["expires_utc_ms"] - utc_ms
        if node is None or ttl_ms <= 0:
            self.put(f"cmd:{kept['id']}", None)
            return
        ttl_ms = min(ttl_ms, messages.MAX_TTL_MS)
        self.order(kept["action"], node, kept["params"], kept["by"], ttl_ms, now_ms, kept["id"])

    def _on_own_command(self, action: str, command_id: str, params: Message, now_ms: int) -> None:
        status = "done"
        if action == "release":
            self.monitor.release(uplink.text_of(params, "node"), uplink.count_of(params, "attach"))
        else:
            status = "failed"
        self.report("ack", {"id": command_id, "target": self.id, "status": status}, now_ms)

    def send_orders(self, now_ms: int) -> None:
        """Send the commands that are due, and drop those whose time is over."""
        if not len(self.orders):
            self._orders_due_ms = None
            return
        ready, expired = self.orders.due(now_ms)
        for order in expired:
            if order.by == "cloud":
                self.put(f"cmd:{order.id}", None)
            else:
                self.event("command.expired", {"id": order.id, "action": order.action, "target": order.target})
        for order in ready:
            self._send_order(order, now_ms)
        self._orders_due_ms = self.orders.deadline_ms(now_ms)

    def _send_order(self, order: Order, now_ms: int) -> None:
        node = self.nodes.get(order.target)
        first = order.sent_ms is None
        order.sent_ms = now_ms
        if node is None or node.state not in ("up", None):
            return
        ttl_ms = order.expires_ms - now_ms
        body = messages.encode_command(order.action, order.id, ttl_ms, order.by, order.params)
        self.send_node(node, "cmd", body)
        if first and order.by == "gateway":
            self.event("command.sent", {"id": order.id, "action": order.action, "target": order.target})

    def _on_ack(self, node: Node, message: Message, now_ms: int) -> None:
        order = self.orders.answered(message["id"], node.id)
        if order is not None and order.by == "gateway":
            fields = {"id": order.id, "action": order.action, "target": node.id}
            if message["status"] == "failed":
                self.event("command.failed", fields | {"reason": message.get("reason", "")})
            else:
                self.event("command.acknowledged", fields | {"status": message["status"]})
            return
        if message["id"].startswith(self.id + "-"):
            return  # our own alarm, answered a second time
        if message["id"] in self.orders:
            raise Rejected("answers a command for another node")
        answer = {name: message[name] for name in ("id", "status", "reason") if message.get(name)}
        done = (("put", f"cmd:{order.id}", None),) if order is not None else ()
        self.report("ack", answer | {"target": node.id}, now_ms, done)

    # --- nodes ----------------------------------------------------------------------------------------------------

    def _from_node(self, name: str, payload: bytes, now_ms: int) -> None:
        found = self._topics.get(name) or split(name)
        if found is None:
            raise Rejected("not a topic of ours")
        node_id, verb = found
        if verb in ("received", "cmd"):
            return  # our own, heard back
        node = self.nodes.get(node_id)
        if node is None:
            raise Rejected("unknown node")
        if len(self._topics) < MOST_TOPICS:
            self._topics[name] = found
        check = _CHECKS.get(verb, messages.check_reading)
        message = check(_parsed(payload))
        if message is None:
            raise Rejected("malformed")
        if verb == "ack":
            self._on_ack(node, message, now_ms)
        elif check is messages.check_reading:
            self.intake.on_reading(node, verb, message, now_ms)
        elif message["fleet"] != self.config.fleet_id:
            raise Rejected("a node of another fleet")
        elif verb == "heartbeat":
            self.monitor.on_heartbeat(node, message, now_ms)
        else:
            self.monitor.on_beacon(node, message, now_ms)


_CHECKS = {"heartbeat": messages.check_heartbeat, "beacon": messages.check_beacon, "ack": messages.check_ack}


def _parsed(payload: bytes) -> Any:
    """The JSON in a node's message. Raises Rejected."""
    if len(payload) > messages.MAX_NODE_MESSAGE_BYTES:
        raise Rejected(f"longer than {messages.MAX_NODE_MESSAGE_BYTES} bytes")
    try:
        return orjson.loads(payload)
    except ValueError as error:
        raise Rejected("not JSON") from error


def _next_boot(last: int | None, rng: Any) -> int:
    return int(rng.getrandbits(BOOT_BITS)) if last is None else (last + 1) & MAX_BOOT
