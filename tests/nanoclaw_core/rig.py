"""A gateway's core driven by hand, between a scripted cloud and scripted nodes, on a disk that survives restarts."""

import random
from typing import Any

import orjson

from clawsim.virtual.memory import GatewayDisk
from firmware.wire import messages
from firmware.wire.auth import Sealer
from firmware.wire.outputs import Connect, Credentials, Disconnect, Event, Send, Store
from fleet.wire import snapshot, uplink
from fleet.wire.expression import parse
from nanoclaw.core.config import GatewayConfig
from nanoclaw.core.gateway import GatewayCore
from nanoclaw.core.outbox import reading_identity

GATEWAY, KEY = "gateway-01", b"g" * 32
NODE_KEYS = {"sensor-01": b"1" * 32, "sensor-02": b"2" * 32}
HOT = {"name": "hot", "when": parse("temp > 30"), "clear": parse("temp < 29"), "action": "alert"}
EPOCH_MS = 1_767_225_600_000  # 2026-01-01
BOOT = 700


class Crash(Exception):
    """The process died just after an output was performed."""


class Station:
    """One gateway. `cloud_up` answers heartbeats, batches and reports as the fleet manager does."""

    def __init__(self, disk: GatewayDisk | None = None, **config: Any) -> None:
        self.disk = disk or GatewayDisk()
        self.config = GatewayConfig(id=GATEWAY, key=KEY, **config)
        self.outputs: list[Any] = []
        self.now_ms = 0
        self.refuse_stores = False
        self.hold_stores = False
        self.held: list[Store] = []
        self.cut_after: int | None = None
        self.cloud_answers = False
        self.deaf_to = ""  # a verb that this cloud never answers
        self.hub_there = False  # whether an attempt to connect succeeds
        self.connected = False
        self.trying = False
        self.cloud_has: dict[tuple[str, int, int], int] = {}
        self.reports: dict[str, dict[str, Any]] = {}
        self.batches: list[dict[str, Any]] = []
        self.passwords: dict[str, bytes] = {}
        self.given: dict[int, tuple[Any, int]] = {}
        self.core_type: type[GatewayCore] = GatewayCore
        self._lives = 0
        self.alive = False

    # --- power ----------------------------------------------------------------------------------------------------

    def power_on(self, utc: bool = True) -> "Station":
        """A new core on the same disk."""
        self._lives += 1
        self.alive = True
        self.connected = self.trying = False
        self.held.clear()
        self.core = self.core_type(self.config, self.disk.restore(), random.Random(self._lives), self.now_ms)
        if utc:
            self.core.learn_utc(EPOCH_MS + self.now_ms, self.now_ms)
        self.core.link_up("nodes", self.now_ms)
        self.pump()
        return self

    def configured(self, rules: tuple[dict[str, Any], ...] = (HOT,), version: int = 1) -> "Station":
        """Give it the fleet manager's snapshot, as if it had come over the hub."""
        built = snapshot.build(version, list(rules), NODE_KEYS, GATEWAY, KEY, bytes(12))
        self.from_cloud("config", built)
        return self

    def online(self) -> "Station":
        """Powered on, configured and connected to a cloud that answers."""
        self.cloud_answers = self.hub_there = True
        self.power_on()
        self.regain_uplink()
        return self.configured()

    def lose_uplink(self) -> None:
        """The connection to the hub drops, and no new one comes about."""
        self.cloud_answers = self.hub_there = False
        if self.connected or self.trying:
            self.connected = self.trying = False
            self.core.link_down("hub", self.now_ms)
            self.pump()

    def regain_uplink(self) -> None:
        """The hub is back: the attempt under way, or the next one, succeeds and the cloud answers."""
        self.cloud_answers = self.hub_there = True
        until_ms = self.now_ms + 120_000
        while not self.connected and self.now_ms < until_ms:
            if self.trying:
                self.connects()
            else:
                self.at(self.core.next_deadline() or until_ms)
        self.at(self.now_ms)

    def connects(self) -> None:
        """The attempt under way succeeds."""
        self.trying, self.connected = False, True
        self.core.link_up("hub", self.now_ms)
        self.pump()

    # --- time and stores ------------------------------------------------------------------------------------------

    def at(self, now_ms: int) -> "Station":
        """Let time pass to `now_ms`, with every timer on time."""
        for _ in range(100_000):
            due_ms = self.core.next_deadline()
            if due_ms is None or due_ms > now_ms:
                break
            self.now_ms = max(self.now_ms, due_ms)
            self.core.on_timer(self.now_ms)
            self.pump()
        else:
            raise AssertionError("the core wants its timer again and again")
        self.now_ms = max(now_ms, self.now_ms)
        return self

    def later(self, ms: int) -> "Station":
        return self.at(self.now_ms + ms)

    def finish_stores(self) -> None:
        """The disk answers for what it was holding."""
        self.hold_stores = False
        while self.held:
            self._settle(self.held.pop(0))
            self.pump()

    def pump(self) -> None:
        while self.alive:
            outputs = self.core.take_outputs()
            if not outputs:
                return
            for output in outputs:
                self._perform(output)

    def _perform(self, output: Any) -> None:
        self.outputs.append(output)
        if isinstance(output, Store):
            self._store(output)
            return
        if isinstance(output, Credentials):
            self.passwords = dict(output.passwords)
        self._maybe_cut()
        if isinstance(output, Disconnect):
            self.trying = self.connected = False
        elif isinstance(output, Connect):
            self.trying = True
            if self.hub_there:
                self.connects()
        elif isinstance(output, Send) and output.port == "hub" and self.connected:
            self._cloud(output)

    def _store(self, store: Store) -> None:
        if self.hold_stores and store.token is not None:
            self.held.append(store)
            return
        self._settle(store)

    def _settle(self, store: Store) -> None:
        if not self.refuse_stores:
            self.disk.perform(store.writes)
        self._maybe_cut()
        if store.token is None:
            return
        if self.refuse_stores:
            self.core.store_failed(store.token, "disk full", self.now_ms)
        else:
            self.core.stored(store.token, self.now_ms)

    def _maybe_cut(self) -> None:
        if self.cut_after is not None:
            self.cut_after -= 1
            if self.cut_after < 0:
                self.alive = False
                raise Crash

    def _cloud(self, send: Send) -> None:
        """The fleet manager's side: stores at once, acknowledges."""
        if not self.cloud_answers:
            return
        verb = send.topic.removeprefix(f"clawland/{GATEWAY}/")
        payload = uplink.decompress(send.payload) if verb == "batch/gz" else send.payload
        verb = verb.removesuffix("/gz")
        message = orjson.loads(payload)
        if verb == self.deaf_to:
            return
        if verb == "heartbeat":
            self.from_cloud("heartbeat/ack", {"v": 1, "n": message["n"]})
        elif verb == "batch":
            name, readings, refused = uplink.decode_batch(payload)
            assert not refused, "a batch with readings that the cloud cannot take"
            for found in readings:
                identity = (found["sensor"], found["boot"], found["seq"])
                self.cloud_has[identity] = self.cloud_has.get(identity, 0) + 1
            self.batches.append({"name": name, "readings": readings, "at_ms": self.now_ms})
            self.from_cloud("batch/ack", {"v": 1, "batch": name})
        elif "item" in message:
            self.reports[message["item"]] = message | {"verb": verb}
            self.from_cloud("batch/ack", {"v": 1, "batch": message["item"]})

    # --- inputs ---------------------------------------------------------------------------------------------------

    def from_cloud(self, verb: str, message: dict[str, Any]) -> None:
        self.raw("hub", f"clawland/{GATEWAY}/{verb}", uplink.encode(message))

    def raw(self, port: str, topic: str, payload: bytes) -> None:
        self.core.receive(port, topic, payload, self.now_ms)
        self.pump()

    def heartbeat(self, node: str = "sensor-01", n: int = 1, **changed: Any) -> None:
        said = {
            "boot": BOOT,
            "attach": 1,
            "interval_ms": 60_000,
            "uptime_ms": 0,
            "fleet": "clawland",
            "backlog": 0,
        } | changed
        payload = messages.encode_heartbeat(
            said["fleet"],
            said["boot"],
            n,
            said["attach"],
            said["interval_ms"],
            said["uptime_ms"],
            0,
            0,
            said["backlog"],
            "1",
            "",
        )
        self.raw("nodes", f"clawland/{node}/heartbeat", payload)

    def beacon(self, node: str = "sensor-01", n: int = 2, boot: int = BOOT) -> None:
        self.raw("nodes", f"clawland/{node}/beacon", messages.encode_beacon("clawland", boot, n, 1))

    def reading(self, value: Any, seq: int, node: str = "sensor-01", boot: int = BOOT, **clock: int) -> None:
        self.given.setdefault(seq, (value, self.now_ms))
        name, ms = next(iter(clock.items())) if clock else ("age_ms", 0)
        text = orjson.dumps(value).decode()
        payload = messages.encode_reading(text, '"°C"', boot, seq, name, ms)
        self.raw("nodes", f"clawland/{node}/temp", payload)

    def answer(self, command_id: str, status: str = "done", node: str = "sensor-01") -> None:
        self.raw("nodes", f"clawland/{node}/ack", messages.encode_ack(command_id, status))

    def command(self, command_id: str, target: str | None = "sensor-01", action: str = "restart", **more: Any) -> None:
        message = {"v": 1, "id": command_id, "action": action, "by": "cloud", "params": {}}
        message |= {"expires_utc_ms": EPOCH_MS + self.now_ms + 60_000} | ({"target": target} if target else {}) | more
        self.from_cloud("cmd", message)

    # --- what was seen --------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Count from here."""
        self.outputs.clear()
        self.batches.clear()

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        return [o.fields for o in self.outputs if isinstance(o, Event) and (not kinds or o.kind in kinds)]

    def kinds(self) -> list[str]:
        return [o.kind for o in self.outputs if isinstance(o, Event)]

    def of(self, kind: type) -> list[Any]:
        return [o for o in self.outputs if isinstance(o, kind)]

    def to_cloud(self, verb: str) -> list[dict[str, Any]]:
        """What it said under `verb`; batches also where they are compressed."""
        topic = f"clawland/{GATEWAY}/{verb}"
        sent = [o for o in self.of(Send) if o.port == "hub" and o.topic.removesuffix("/gz") == topic]
        return [orjson.loads(uplink.decompress(o.payload) if o.topic.endswith("/gz") else o.payload) for o in sent]

    def to_node(self, verb: str, node: str = "sensor-01") -> list[dict[str, Any]]:
        """The authentic messages to a node."""
        topic, sealer = f"clawland/{node}/{verb}", Sealer(NODE_KEYS[node])
        opened = [sealer.open(topic, o.payload) for o in self.of(Send) if o.port == "nodes" and o.topic == topic]
        assert None not in opened, "a message to a node that it could not believe"
        decode = messages.decode_received if verb == "received" else messages.decode_command
        return [found for body in opened if (found := decode(body or b"")) is not None]

    def acknowledged(self, node: str = "sensor-01") -> set[tuple[str, int, int]]:
        """The readings that the node was told are on disk."""
        found = set()
        for said in self.to_node("received", node):
            if "upto" in said:
                found |= {
                    (node, said["boot"], seq)
                    for seq in range(said["from"], said["upto"] + 1)
                    if seq not in said["missing"]
                }
        return found

    def on_disk(self) -> list[tuple[str, int, int]]:
        """The readings in the outbox, oldest first."""
        return [reading_identity(body) for _, (kind, body) in sorted(self.disk.items.items()) if kind == "reading"]

    def reports_on_disk(self) -> list[dict[str, Any]]:
        return [orjson.loads(body)["message"] for kind, body in self.disk.items.values() if kind == "report"]


__all__ = [
    "BOOT",
    "EPOCH_MS",
    "GATEWAY",
    "HOT",
    "KEY",
    "NODE_KEYS",
    "Connect",
    "Crash",
    "Disconnect",
    "Send",
    "Station",
]
