"""Who is alive: gateways by their own messages, nodes by what their gateway says of them.

A gateway that falls silent takes its nodes with it into `unknown`, not `down`: nobody can tell until they are heard of
again.
"""

from typing import TYPE_CHECKING

from firmware.wire.messages import MAX_BOOT
from fleet.core.transaction import Transaction
from fleet.wire import uplink
from fleet.wire.uplink import Message, Rejected

if TYPE_CHECKING:
    from fleet.core.manager import FleetCore

AGAIN_MS = 5_000
RELEASE_TTL_MS = 7 * 24 * 3600 * 1000  # a dead gateway may be repaired next week


class Health:
    """States of gateways (new, up, down) and nodes (new, up, down, unknown)."""

    def __init__(self, core: "FleetCore", now_ms: int) -> None:
        self._core = core
        self._heard_ms: dict[str, int] = {}
        self._down_ms: dict[str, int] = {}  # when gateways that are down were last heard
        self._ready: set[str] = set()  # gateways heard on this connection to the hub
        self._unwritten: list[tuple[int, Transaction]] = []
        self.due_ms: int | None = None
        for gateway, row in core.registry.gateways.items():
            if row["doc"].get("state") == "up":
                self._heard_ms[gateway] = now_ms
        self._arm()

    def reachable(self, gateway: str) -> bool:
        """Whether a command sent now may arrive."""
        return gateway in self._ready

    def hub_lost(self) -> None:
        """Nobody is reachable until heard of again."""
        self._ready.clear()

    def on_heartbeat(self, gateway: str, message: Message, now_ms: int) -> None:
        """A gateway lives; answer, and push the configuration that it lacks."""
        core = self._core
        row = core.registry.gateways[gateway]
        answer = {"v": uplink.VERSION, "n": uplink.count_of(message, "n"), "utc_ms": core.utc_ms(now_ms)}
        core.send(gateway, "heartbeat/ack", uplink.encode(answer))
        row["doc"]["health"] = {name: message.get(name) for name in _SHOWN}
        self.on_gateway(gateway, now_ms)
        if message.get("config") != core.configuration.version:
            core.configuration.push(gateway)

    def on_gateway(self, gateway: str, now_ms: int) -> None:
        """Any message of a gateway: it is there."""
        core = self._core
        heard_ms = self._heard_ms.get(gateway, self._down_ms.pop(gateway, now_ms))
        silent_ms = now_ms - heard_ms
        self._heard_ms[gateway] = now_ms
        doc = core.registry.gateways[gateway]["doc"]
        if doc.get("state") != "up":
            was, doc["state"] = doc.get("state"), "up"
            tx = Transaction()
            tx.upsert("gateways", core.registry.gateways[gateway])
            tx.undo.append(lambda: doc.update(state=was))
            if was == "down":
                core.notify(tx, f"gateway {gateway} is back", f"Silent for {silent_ms // 1000} s.")
                core.event("gateway.up", {"gateway": gateway, "down_ms": silent_ms})
            core.stores.commit(tx)
        if gateway not in self._ready:
            self._ready.add(gateway)
            core.commands.on_gateway(gateway, now_ms)
        self._arm()

    def on_reading(self, node: str, gateway: str, age_ms: int, now_ms: int) -> None:
        """A fresh reading proves a node alive whose state nobody knew; one of an unlisted node lists it."""
        row = self._core.registry.nodes.get(node)
        if row is None:
            self._core.registry.discover(node, gateway)
            return
        row["doc"]["heard_utc_ms"] = self._core.utc_ms(now_ms) - age_ms
        if row["doc"]["state"] == "unknown" and age_ms < self._core.config.late_ms:
            self._set(row, "up")

    def on_status(self, tx: Transaction, gateway: str, message: Message, now_ms: int) -> None:
        """A gateway says that a node is up or down, and with which join count. Raises Rejected."""
        core = self._core
        node, status = uplink.text_of(message, "sensor"), message["status"]
        row = core.registry.nodes.get(node)
        if row is None:
            raise Rejected("unknown node")
        doc = row["doc"]
        attach = uplink.count_of(message | {"attach": message.get("attach", doc["attach"])}, "attach")
        if message.get("boot") is not None:
            uplink.count_of(message, "boot", MAX_BOOT)
        before_all = dict(doc)
        tx.undo.append(lambda: doc.update(before_all))
        if gateway != doc["gateway"] and not self._adopt(tx, row, gateway, attach, now_ms):
            return
        doc["attach"] = max(doc["attach"], attach)
        doc["boot"] = message.get("boot", doc.get("boot"))
        if status == "up":
            doc["heard_utc_ms"] = core.utc_ms(now_ms)
        before, doc["state"] = doc["state"], status
        tx.upsert("nodes", row)
        if status == "down" and before != "down":
            core.notify(tx, f"node {node} is down", f"Said by gateway {gateway}.", node)
        elif status == "up" and before == "down":
            core.notify(tx, f"node {node} is back", f"Said by gateway {gateway}.", node)

    def on_timer(self, now_ms: int) -> None:
        """Declare silent gateways down."""
        if self.due_ms is None or now_ms < self.due_ms:
            return
        for gateway, heard_ms in list(self._heard_ms.items()):
            if now_ms > heard_ms + self._core.config.gateway_down_ms:
                self._gateway_down(gateway, now_ms - heard_ms)
        ready = [tx for due_ms, tx in self._unwritten if now_ms >= due_ms]
        self._unwritten = [(due_ms, tx) for due_ms, tx in self._unwritten if now_ms < due_ms]
        for tx in ready:
            self.commit_again(tx)
        self._arm()

    def _gateway_down(self, gateway: str, silent_ms: int) -> None:
        core = self._core
        self._down_ms[gateway] = self._heard_ms.pop(gateway)
        self._ready.discard(gateway)
        row = core.registry.gateways[gateway]
        row["doc"]["state"] = "down"
        tx = Transaction()
        tx.upsert("gateways", row)
        core.notify(tx, f"gateway {gateway} is down", f"Silent for {silent_ms // 1000} s.")
        core.event("gateway.down", {"gateway": gateway, "silent_ms": silent_ms})
        for node, node_row in core.registry.nodes.items():
            if node_row["doc"]["gateway"] == gateway and node_row["doc"]["state"] == "up":
                node_row["doc"]["state"] = "unknown"
                tx.upsert("nodes", node_row)
                core.event("node.unknown", {"node": node, "gateway": gateway})
        self.commit_again(tx)

    def commit_again(self, tx: Transaction) -> None:
        """Nobody would repeat this: silence is noticed once. If the database fails, it is tried until it does not."""
        self._core.stores.persist(
            tx.writes, lambda at_ms, _: tx.committed(at_ms), lambda at_ms: self._retry(tx, at_ms + AGAIN_MS)
        )

    def _retry(self, tx: Transaction, due_ms: int) -> None:
        self._unwritten.append((due_ms, tx))
        self._arm()

    def _adopt(self, tx: Transaction, row: Message, gateway: str, attach: int, now_ms: int) -> bool:
        """Believe the highest join count; the gateway that lost is told to let go, now or when it returns."""
        core, doc = self._core, row["doc"]
        if core.registry.gateways[gateway]["doc"]["site"] != doc["site"]:
            raise Rejected("a node of another site")
        if attach <= doc["attach"]:
            self._release(tx, gateway, row["id"], doc["attach"], now_ms)
            return False
        old, doc["gateway"], doc["attach"] = doc["gateway"], gateway, attach
        if old in core.registry.gateways:
            self._release(tx, old, row["id"], attach, now_ms)
        return True

    def _release(self, tx: Transaction, gateway: str, node: str, attach: int, now_ms: int) -> None:
        params = {"node": node, "attach": attach}
        key = f"release:{gateway}:{node}:{attach}"
        self._core.commands.add(tx, "release", gateway, params, "fleet", RELEASE_TTL_MS, now_ms, key)

    def _set(self, row: Message, state: str) -> None:
        row["doc"]["state"] = state
        self._core.stores.save("nodes", row)

    def _arm(self) -> None:
        due_ms = [due_ms for due_ms, _ in self._unwritten]
        due_ms += [heard_ms + self._core.config.gateway_down_ms + 1 for heard_ms in self._heard_ms.values()]
        self.due_ms = min(due_ms, default=None)


_SHOWN = ("mode", "nodes_up", "nodes_down", "outbox_readings", "uptime_ms", "version", "config", "role", "rejected")
