"""The fleet manager: registers, stores readings once, evaluates rules, commands nodes, knows who is alive.

Port `hub` is the Event Hub. This class is the switchboard; each concern has a module of its own beside it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from firmware.wire.auth import KEY_BYTES
from firmware.wire.backoff import Backoff
from firmware.wire.ids import valid_id
from firmware.wire.messages import BOOT_BITS
from firmware.wire.outputs import Connect, Disconnect, Event, Send, Store
from firmware.wire.topics import split, topic
from fleet.core.alerts import Alerts
from fleet.core.commands import Commands
from fleet.core.config import FleetConfig
from fleet.core.health import Health
from fleet.core.ingest import Ingest
from fleet.core.notices import Notices
from fleet.core.rows import ReadingRow
from fleet.core.transaction import Transaction
from fleet.wire import snapshot, uplink
from fleet.wire.uplink import Message, Rejected

CONNECT_TIMEOUT_MS = 20_000
# No gateway at all said anything for four of their heartbeats: perhaps the connection is dead and nobody said so.
HUB_SILENT_MS = 120_000
Done = Callable[[int, list[ReadingRow]], None]


class FleetCore:
    """See `fleet.core`."""

    def __init__(self, config: FleetConfig, restored: dict[str, list[Message]], rng: Any, now_ms: int) -> None:
        """`restored`: rows by table, and `seen`: what readings the database holds; `rng`: like `random.Random`."""
        self.config = config
        self._rng = rng
        self.boot = int(rng.getrandbits(BOOT_BITS))
        self.gateways = {row["id"]: dict(row) for row in restored.get("gateways", [])}
        self.nodes = {row["id"]: dict(row) for row in restored.get("nodes", [])}
        self.config_version = _slot(restored, "config").get("version", 0)
        self.alerts = Alerts(config.late_ms, config.kept_commands, restored.get("alerts", []))
        self.commands = Commands(self, restored.get("commands", []))
        self.health = Health(self, now_ms)
        self.ingest = Ingest(self, restored.get("seen", []))
        self.notices = Notices(self, restored.get("notifications", []), now_ms)
        self.alerts.set_rules([row["doc"] for row in restored.get("rules", [])], 0)
        self.rejected = 0
        self._utc_offset_ms = 0
        self._named = 0
        self._outputs: list[Any] = []
        self._token = 0
        self._waiting: dict[int, tuple[Done, Callable[[int], None] | None]] = {}
        self._connection = "down"
        self._heard_ms = now_ms
        self._connect_due_ms = now_ms
        self._backoff = Backoff(rng)
        self.commands.on_gateway("", now_ms)
        self.event("fleet.started", {"gateways": len(self.gateways), "nodes": len(self.nodes)})

    # --- inputs ---------------------------------------------------------------------------------------------------

    def receive(self, port: str, name: str, payload: bytes, now_ms: int) -> None:
        """A message from a gateway."""
        self._heard_ms = now_ms
        found = split(name)
        gateway, verb = found or ("", "")
        try:
            if gateway not in self.gateways:
                raise Rejected("unknown gateway")
            self._from_gateway(gateway, verb, payload, now_ms)
        except Rejected as error:
            self.reject(gateway, verb, str(error))

    def link_up(self, port: str, now_ms: int) -> None:
        """Connected to the hub."""
        self._connection = "up"
        self._heard_ms = now_ms
        self._backoff.reset()

    def link_down(self, port: str, now_ms: int) -> None:
        """The attempt failed, or the hub is gone."""
        self._connection = "down"
        self._connect_due_ms = now_ms + self._backoff.next_ms()
        self.health.hub_lost()

    def learn_utc(self, utc_ms: int, now_ms: int) -> None:
        """UTC is `utc_ms` now; it stamps records and drives nothing but the expiry of commands."""
        self._utc_offset_ms = utc_ms - now_ms

    def stored(self, token: int, now_ms: int, conflicts: list[ReadingRow] | None = None) -> None:
        """The Store with this token is committed; `conflicts` are copies that differ from what was stored."""
        done = self._waiting.pop(token, None)
        if done:
            done[0](now_ms, conflicts or [])

    def store_failed(self, token: int, reason: str, now_ms: int) -> None:
        """The Store with this token was rolled back: what depends on it does not happen."""
        done = self._waiting.pop(token, None)
        self.event("store.failed", {"reason": reason})
        if done and done[1]:
            done[1](now_ms)

    def notified(self, message_id: str, ok: bool, now_ms: int) -> None:
        """Whether the message of a Notify was accepted."""
        self.notices.notified(message_id, ok, now_ms)

    def on_timer(self, now_ms: int) -> None:
        """Do all that is due."""
        if self._connection != "up" and now_ms >= self._connect_due_ms:
            self._dial(now_ms)
        elif self._connection == "up" and now_ms > self._heard_ms + HUB_SILENT_MS and self.gateways:
            self.emit(Disconnect("hub"))
            self.link_down("hub", now_ms)
        self.health.on_timer(now_ms)
        self.commands.on_timer(now_ms)
        self.notices.on_timer(now_ms)

    def next_deadline(self) -> int | None:
        """When `on_timer` is wanted next, in core milliseconds."""
        due_ms = [self._connect_due_ms]
        if self._connection == "up":
            due_ms = [self._heard_ms + HUB_SILENT_MS + 1] if self.gateways else []
        others = (self.health.due_ms, self.commands.due_ms, self.notices.due_ms)
        return min([*due_ms, *(other for other in others if other is not None)], default=None)

    def take_outputs(self) -> list[Any]:
        """What to do since last asked, in order."""
        outputs = self._outputs
        if outputs:
            self._outputs = []
        return outputs

    # --- the operator's requests ----------------------------------------------------------------------------------

    def add_gateway(self, gateway: Message, now_ms: int) -> None:
        """Register a gateway: id, site, role, key (64 hex digits). Raises ValueError."""
        row = self.gateways.get(gateway["id"], {"id": gateway["id"], "doc": {"state": "new"}})
        kept = {"site": gateway.get("site", "site-01"), "role": gateway.get("role", "primary"), "key": gateway["key"]}
        self._register("gateways", self.gateways, row, kept, now_ms)

    def add_node(self, node: Message, now_ms: int) -> None:
        """Register a node: id, type, site, gateway (its home), key (64 hex digits). Raises ValueError."""
        fresh = {"state": "new", "attach": 0, "boot": None, "gateway": node.get("gateway")}
        row = self.nodes.get(node["id"], {"id": node["id"], "doc": fresh})
        kept = {"type": node.get("type", "microclaw"), "site": node.get("site", "site-01"), "key": node["key"]}
        self._register("nodes", self.nodes, row, kept | {"home": node.get("gateway")}, now_ms)

    def set_rules(self, rules: list[Message], now_ms: int) -> None:
        """Replace all rules. Raises ValueError."""
        names = [rule.get("name") for rule in rules]
        if len(set(names)) != len(names):
            raise ValueError("two rules have one name")
        for rule in rules:
            snapshot.check_rule(rule)
        if list(self.alerts.rules.values()) == rules:
            return
        gone = [name for name in self.alerts.rules if name not in names]
        ended = self.alerts.set_rules(rules, self.utc_ms(now_ms))
        writes: list[Any] = [("delete", "rules", name) for name in gone]
        writes += [("upsert", "alerts", row) for row in ended]
        for row in ended:
            self.event("alert.cleared", {"id": row["id"], "node": row["node"], "rule": row["rule"], "by": "cloud"})
        writes += [("upsert", "rules", {"name": rule["name"], "doc": rule}) for rule in rules]
        self._config_changed(writes, now_ms)

    def request_command(
        self, action: str, target: str, params: Message, by: str, ttl_ms: int, now_ms: int, key: str | None = None
    ) -> Message:
        """Send `action` to a node or gateway; the command's row. Raises UnknownTarget, InvalidCommand."""
        return self.command_view(self.commands.request(action, target, params, by, ttl_ms, now_ms, key)["id"])

    # --- views ----------------------------------------------------------------------------------------------------

    def node_views(self) -> list[Message]:
        """All nodes, without their keys."""
        return [self.node_view(node) for node in self.nodes]

    def node_view(self, node: str) -> Message:
        """One node, without its key. Raises KeyError."""
        return _shown(self.nodes[node])

    def gateway_views(self) -> list[Message]:
        """All gateways, without their keys."""
        return [_shown(row) for row in self.gateways.values()]

    def alert_views(self) -> list[Message]:
        """The episodes in memory: all that are raised, and those cleared lately."""
        return [{**row, "doc": dict(row["doc"])} for row in self.alerts.rows.values()]

    def command_view(self, command_id: str) -> Message:
        """One command. Raises KeyError."""
        row = self.commands.rows[command_id]
        return {**row, "doc": dict(row["doc"])}

    # --- what the concerns share ----------------------------------------------------------------------------------

    def emit(self, output: Any) -> None:
        """Ask the host for something."""
        self._outputs.append(output)

    def event(self, kind: str, fields: Message) -> None:
        """Say what happened."""
        self._outputs.append(Event(kind, fields))

    def reject(self, gateway: str, verb: str, reason: str) -> None:
        """Count and report a message, or a part of one, that cannot be taken."""
        self.rejected += 1
        self.event("message.rejected", {"topic": topic(gateway, verb), "reason": reason, "from": gateway})

    def persist(self, writes: list[Any], then: Done | None, failed: Callable[[int], None] | None = None) -> None:
        """Store `writes` as one transaction; `then(now_ms, conflicts)` once committed, `failed(now_ms)` if not."""
        token = None
        if then:
            self._token += 1
            token = self._token
            self._waiting[token] = (then, failed)
        self._outputs.append(Store(token, writes))

    def commit(self, tx: Transaction) -> None:
        """Store what `tx` holds as one transaction, and go on from there."""
        self.persist(tx.writes, lambda at_ms, _: tx.committed(at_ms), lambda _: tx.failed())

    def save(self, table: str, row: Message) -> None:
        """Keep a row of the registry, without waiting for it."""
        self.persist([("upsert", table, _copy(row))], None)

    def send(self, gateway: str, verb: str, payload: bytes) -> None:
        """Send a message to a gateway."""
        self._outputs.append(Send("hub", topic(gateway, verb), payload))

    def acknowledge(self, gateway: str, name: str) -> None:
        """The gateway may forget that batch or report."""
        self.send(gateway, "batch/ack", uplink.encode({"v": uplink.VERSION, "batch": name}))

    def utc_ms(self, now_ms: int) -> int:
        """UTC at `now_ms`."""
        return now_ms + self._utc_offset_ms

    def new_name(self, kind: str) -> str:
        """An id that this manager gives once, restarts included."""
        self._named += 1
        return f"{kind}-{self.boot:x}-{self._named}"

    def knows(self, target: str) -> bool:
        """Whether `target` is a registered node or gateway."""
        return target in self.nodes or target in self.gateways

    def gateway_of(self, target: str) -> str | None:
        """The gateway that reaches `target`."""
        if target in self.gateways:
            return target
        gateway = self.nodes[target]["doc"]["gateway"] if target in self.nodes else None
        return gateway if gateway in self.gateways else None

    def serves(self, gateway: str, target: str) -> bool:
        """Whether `gateway` is `target` or may have `target` among its nodes: they are of one site."""
        row = self.nodes.get(target)
        return gateway == target or (row is not None and row["doc"]["site"] == self.gateways[gateway]["doc"]["site"])

    def notify(self, tx: Transaction, subject: str, body: str, node: str | None = None) -> None:
        """Tell people."""
        self.notices.add(tx, subject, body, {"node": node} if node else {})

    def alert_changed(self, tx: Transaction, row: Message, now_ms: int) -> None:
        """An episode of ours begins or ends: say so, tell people, sound or silence the alarm, all or nothing."""
        raised, rule = row["state"] == "raised", self.alerts.rules.get(row["rule"], {})
        value = row["doc"]["value" if raised else "cleared_value"]
        fields = {"id": row["id"], "node": row["node"], "rule": row["rule"], "value": value, "by": "cloud"}
        tx.upsert("alerts", row)
        tx.after.append(lambda _: self.event("alert.raised" if raised else "alert.cleared", fields))
        if rule.get("action") in ("alert", "notify"):
            self._tell_alert(tx, row)
        if rule.get("action") == "alert" and row["node"] in self.nodes:
            params = {"state": "on" if raised else "off", "rule": row["rule"]}
            self.commands.add(tx, "alert", row["node"], params, "rule", self.config.alarm_ttl_ms, now_ms)

    def keep_conflict(self, row: ReadingRow) -> None:
        """Keep aside a reading whose identity is taken by other content."""
        name = self.new_name("x")
        self.persist([("upsert", "conflicts", {"id": name, "doc": row._asdict()})], None)

    def discover(self, node: str, gateway: str, now_ms: int) -> None:
        """List a node that a gateway reports on though nobody registered it."""
        doc = {"state": "up", "attach": 0, "boot": None, "gateway": gateway, "home": gateway, "type": "unknown"}
        doc["site"] = self.gateways[gateway]["doc"]["site"]
        self.nodes[node] = {"id": node, "doc": doc}
        self.save("nodes", self.nodes[node])

    def push_config(self, gateway: str) -> None:
        """Send the gateway its whole configuration: the rules, and its site's nodes with their keys."""
        doc = self.gateways[gateway]["doc"]
        keys = {
            node: bytes.fromhex(row["doc"]["key"])
            for node, row in self.nodes.items()
            if row["doc"]["site"] == doc["site"] and row["doc"].get("key")
        }
        nonce = self._rng.getrandbits(8 * snapshot.NONCE_BYTES).to_bytes(snapshot.NONCE_BYTES, "big")
        rules = list(self.alerts.rules.values())
        key = bytes.fromhex(doc["key"])
        found = snapshot.build(self.config_version, rules, keys, gateway, key, nonce)
        self.send(gateway, "config", uplink.encode(found))

    # --- plumbing -------------------------------------------------------------------------------------------------

    def _from_gateway(self, gateway: str, verb: str, payload: bytes, now_ms: int) -> None:
        if verb == "batch":
            self.health.on_gateway(gateway, now_ms)
            self.ingest.on_batch(gateway, payload, now_ms)
        elif verb == "batch/gz":
            self.ingest.on_batch(gateway, uplink.decompress(payload), now_ms)
        elif verb == "heartbeat":
            self.health.on_heartbeat(gateway, uplink.decode(payload), now_ms)
        elif verb == "status":
            self._on_report(gateway, uplink.decode(payload), now_ms)
        elif verb == "ack":
            self._on_answer(gateway, uplink.decode(payload), now_ms)
        elif verb == "config/ack":
            self.gateways[gateway]["doc"]["config_hash"] = uplink.text_of(uplink.decode(payload), "hash")
        else:
            raise Rejected("not a topic for the fleet manager")

    def _on_report(self, gateway: str, message: Message, now_ms: int) -> None:
        status = uplink.text_of(message, "status")
        if self.ingest.committing and self.alerts.knows(message.get("alert")):
            return  # that commit may yet be undone; the report comes again
        tx = Transaction()
        with self._settled(tx, gateway, message):
            if status in ("up", "down"):
                self.health.on_status(tx, gateway, message, now_ms)
            elif status in ("alert-raised", "alert-cleared"):
                self._on_decision(tx, gateway, message, status == "alert-raised")
            else:
                raise Rejected("unknown status")

    def _on_decision(self, tx: Transaction, gateway: str, message: Message, raised: bool) -> None:
        for name in ("alert", "sensor", "rule"):
            uplink.text_of(message, name, 128)
        for name in ("utc_ms", "reading_utc_ms"):
            if message.get(name) is not None:
                uplink.count_of(message, name)
        if message.get("value") is not None:
            uplink.check_value(message["value"])
        if not self.serves(gateway, message["sensor"]):
            raise Rejected("a decision about a node of another site")
        row = self.alerts.import_decision(message, raised, tx.undo)
        if row is not None:
            tx.upsert("alerts", row)
            self._tell_alert(tx, row)

    def _on_answer(self, gateway: str, message: Message, now_ms: int) -> None:
        uplink.text_of(message, "id")
        uplink.text_of(message, "status")
        tx = Transaction()
        with self._settled(tx, gateway, message):
            self.commands.on_answer(tx, gateway, message, now_ms)

    @contextmanager
    def _settled(self, tx: Transaction, gateway: str, message: Message) -> Iterator[None]:
        """Commit `tx`, then acknowledge the report; one that cannot be taken too, for it would come again for ever."""
        item = message.get("item")
        if isinstance(item, str):
            tx.after.append(lambda _: self.acknowledge(gateway, item))
        try:
            yield
        except Rejected:
            tx.failed()
            tx.writes.clear()
            tx.undo.clear()
            del tx.after[1:]
            self.commit(tx)
            raise
        self.commit(tx)

    def _tell_alert(self, tx: Transaction, row: Message) -> None:
        subject = f"{row['rule']} on {row['node']}: {row['state']}"
        self.notify(tx, subject, f"Decided by {row['doc']['by']}; value {row['doc']['value']}.", row["node"])

    def _dial(self, now_ms: int) -> None:
        if self._connection == "connecting":
            self.emit(Disconnect("hub"))
            self.link_down("hub", now_ms)
            return
        self._connection = "connecting"
        self._connect_due_ms = now_ms + CONNECT_TIMEOUT_MS
        self.emit(Connect("hub", None))

    def _register(self, table: str, rows: dict[str, Message], row: Message, kept: Message, now_ms: int) -> None:
        entity_id = row["id"]
        other = self.nodes if rows is self.gateways else self.gateways
        if not valid_id(entity_id) or entity_id in other:
            raise ValueError(
                f"{entity_id!r} is not a free id ([a-z0-9][a-z0-9-]{{0,31}}, shared by nodes and gateways)"
            )
        try:
            good = len(bytes.fromhex(kept["key"])) == KEY_BYTES
        except (TypeError, ValueError):
            good = False
        if not good:
            raise ValueError(f"the key of {entity_id} is not {KEY_BYTES} bytes in hex")
        changed = any(row["doc"].get(name) != value for name, value in kept.items())
        row["doc"].update(kept)
        rows[entity_id] = row
        if changed:
            self._config_changed([("upsert", table, _copy(row))], now_ms)

    def _config_changed(self, writes: list[Any], now_ms: int) -> None:
        """A new version, never one that a lost database has used before: at least the UTC in seconds."""
        self.config_version = max(self.config_version + 1, self.utc_ms(now_ms) // 1000)
        slot = {"name": "config", "doc": {"version": self.config_version}}
        self.persist([*writes, ("upsert", "slots", slot)], None)
        for gateway in self.gateways:
            if self.health.reachable(gateway):
                self.push_config(gateway)


def _copy(row: Message) -> Message:
    return {**row, "doc": dict(row["doc"])}


def _shown(row: Message) -> Message:
    return {"id": row["id"], **{name: value for name, value in row["doc"].items() if name != "key"}}


def _slot(restored: dict[str, list[Message]], name: str) -> Message:
    return next((row["doc"] for row in restored.get("slots", []) if row["name"] == name), {})
