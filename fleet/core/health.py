"""Who is alive: gateways by their own messages, nodes by what their gateway says of them.

A gateway that falls silent takes its nodes with it into `unknown`, not `down`: nobody can tell until they are heard of
again.
"""

from typing import TYPE_CHECKING

from firmware.wire.messages import MAX_BOOT, MAX_TEXT_CHARS, is_count
from fleet.core.notices import Notice
from fleet.core.told import broken_outboxes, health_of
from fleet.core.transaction import Transaction
from fleet.wire import uplink
from fleet.wire.rule import BASE
from fleet.wire.uplink import MAX_UTC_MS, Message, Rejected

if TYPE_CHECKING:
    from fleet.core.manager import FleetCore

MOST_CAPABILITIES = 64
PEER_SILENT_MS = 75_000  # two heartbeats of a gateway, and some time
RELEASE_TTL_MS = 7 * 24 * 3600 * 1000  # a dead gateway may be repaired next week


class Health:
    """States of gateways (new, up, down) and nodes (new, up, down, unknown)."""

    def __init__(self, core: "FleetCore", now_ms: int) -> None:
        self._core = core
        self._heard_ms: dict[str, int] = {}
        self._down_ms: dict[str, int] = {}  # when gateways that are down were last heard
        self._ready: set[str] = set()  # gateways heard on this connection to the hub
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
        peers = self._peers(gateway, row["doc"]["site"], now_ms)
        core.send(gateway, "heartbeat/ack", uplink.encode(answer | {"up": peers} if peers else answer))
        broken = broken_outboxes(row["doc"].get("health"))
        row["doc"]["health"] = health = health_of(message)
        self.on_gateway(gateway, now_ms)
        if broken_outboxes(health) > broken:
            self._tell_broken(gateway, broken_outboxes(health), now_ms)
        version, refused = core.configuration.version, message.get("config_refused")
        again = isinstance(refused, dict) and refused.get("version") == version
        if self._can_more(row["doc"], message.get("capabilities")) or (message.get("config") != version and not again):
            core.configuration.push(gateway)

    def _peers(self, gateway: str, site: str, now_ms: int) -> dict[str, int]:
        """The other gateways of the site that are up, and for how long: homes that nodes may go back to."""
        rows = self._core.registry.gateways
        heard_ms, since_ms = self._heard_ms, now_ms - PEER_SILENT_MS
        near = [peer for peer in self._ready if peer != gateway and rows[peer]["doc"]["site"] == site]
        up = {peer: rows[peer]["doc"] for peer in near if heard_ms.get(peer, since_ms - 1) >= since_ms}
        uptimes = {peer: (doc.get("health") or {}).get("uptime_ms") for peer, doc in sorted(up.items())}
        return {peer: up_ms for peer, up_ms in uptimes.items() if up_ms is not None and is_count(up_ms, MAX_UTC_MS)}

    def _tell_broken(self, gateway: str, outboxes: int, now_ms: int) -> None:
        """What a gateway had kept may be lost with its outbox: people are told, since no reading can be named."""
        core = self._core
        subject, body = f"gateway {gateway} could not read its outbox", "The file was moved aside on its disk."
        tx = Transaction()
        tx.upsert("gateways", core.registry.gateways[gateway])
        tx.after.append(lambda _: core.event("outbox.broken", {"gateway": gateway, "outboxes": outboxes}))
        core.notify(tx, Notice("outbox.broken", "critical", subject, body, None))
        core.stores.commit(tx)

    def _can_more(self, doc: Message, announced: object) -> bool:
        """Whether the gateway's evaluator is another than we thought, so that other rules fit it. Raises Rejected."""
        if announced is None:
            return False
        if not isinstance(announced, list) or len(announced) > MOST_CAPABILITIES:
            raise Rejected(f"capabilities is not a list of at most {MOST_CAPABILITIES}")
        can = sorted({word for word in announced if isinstance(word, str) and len(word) <= MAX_TEXT_CHARS})
        before, doc["capabilities"] = doc.get("capabilities", sorted(BASE)), can
        return bool(can != before)

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
                fields = {"gateway": gateway, "down_ms": silent_ms}
                tx.after.append(lambda _: core.event("gateway.up", fields))
                tx.after.append(lambda at_ms: core.air.on_gateway_up(gateway, at_ms))
                self._tell_gateway(tx, gateway, "up", silent_ms, now_ms)
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
        state = row["doc"]["state"]
        if state != "up" and age_ms < self._core.config.late_ms:
            self._core.air.on_reading(row, gateway, now_ms)
            if state == "unknown":
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
        if message.get("air") is True:
            if not core.air.on_status(tx, row, gateway):
                return
        elif gateway != doc["gateway"] and not self._adopt(tx, row, gateway, attach, now_ms):
            return
        elif doc.get("air"):
            doc["air"] = False  # it has a connection again
        doc["attach"] = max(doc["attach"], attach)
        doc["boot"] = message.get("boot", doc.get("boot"))
        if status == "up":
            doc["heard_utc_ms"] = core.utc_ms(now_ms)
        before, doc["state"] = doc["state"], status
        if (status == "down") != (before == "down"):
            self.tell_node(tx, row, status, f"Said by gateway {gateway}.", now_ms)
        tx.upsert("nodes", row)

    def on_timer(self, now_ms: int) -> None:
        """Declare silent gateways down."""
        if self.due_ms is None or now_ms < self.due_ms:
            return
        for gateway, heard_ms in list(self._heard_ms.items()):
            if now_ms > heard_ms + self._core.config.gateway_down_ms:
                self._gateway_down(gateway, now_ms - heard_ms, now_ms)
        self._arm()

    def tell_node(self, tx: Transaction, row: Message, status: str, body: str, now_ms: int) -> None:
        """A node is `down`, or `up` again."""
        core, node = self._core, row["id"]
        notice = Notice(f"node.{status}", "warning", f"node {node} is {_WORDS[status]}", body, node)
        self._tell(tx, notice, row["doc"], core.maintenance.covers(node, core.utc_ms(now_ms)))

    def _tell_gateway(self, tx: Transaction, gateway: str, state: str, silent_ms: int, now_ms: int) -> None:
        core = self._core
        subject = f"gateway {gateway} is {_WORDS[state]}"
        notice = Notice(f"gateway.{state}", "critical", subject, f"Silent for {silent_ms // 1000} s.", None)
        silenced = core.maintenance.covers(gateway, core.utc_ms(now_ms))
        self._tell(tx, notice, core.registry.gateways[gateway]["doc"], silenced)

    def _tell(self, tx: Transaction, notice: Notice, doc: Message, silenced: str | None) -> None:
        """Tell people, unless it went down in a maintenance window; of what was silenced they do not hear the end."""
        if notice.kind.endswith(".down"):
            doc["silenced"] = silenced
        if doc.get("silenced") is None:
            self._core.notify(tx, notice)

    def _gateway_down(self, gateway: str, silent_ms: int, now_ms: int) -> None:
        core = self._core
        self._down_ms[gateway] = self._heard_ms.pop(gateway)
        self._ready.discard(gateway)
        core.registry.gateways[gateway]["doc"]["state"] = "down"
        unknown = [node for node, row in core.registry.nodes.items() if _lost_with(row["doc"], gateway)]
        for node in unknown:
            core.registry.nodes[node]["doc"]["state"] = "unknown"
        tx = Transaction()
        tx.after.append(lambda _: self._say_down(gateway, silent_ms, unknown))
        self._tell_gateway(tx, gateway, "down", silent_ms, now_ms)
        notices = list(tx.writes)

        def rows(tx: Transaction) -> None:
            tx.writes += notices
            tx.upsert("gateways", core.registry.gateways[gateway])
            for node in unknown:
                tx.upsert("nodes", core.registry.nodes[node])

        tx.writes.clear()
        rows(tx)
        core.stores.insist(tx, rows)  # silence is noticed once

    def _say_down(self, gateway: str, silent_ms: int, unknown: list[str]) -> None:
        self._core.event("gateway.down", {"gateway": gateway, "silent_ms": silent_ms})
        for node in unknown:
            self._core.event("node.unknown", {"node": node, "gateway": gateway})

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
        heard_ms = min(self._heard_ms.values(), default=None)
        self.due_ms = None if heard_ms is None else heard_ms + self._core.config.gateway_down_ms + 1


def _lost_with(doc: Message, gateway: str) -> bool:
    """Whether nobody can tell about that node any more, now that `gateway` is silent."""
    return bool(doc["gateway"] == gateway and doc["state"] == "up")


_WORDS = {"up": "back", "down": "down"}
