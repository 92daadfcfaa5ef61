"""A fleet manager's core driven by hand, between scripted gateways and a database that survives crashes."""

import random
from typing import Any

import orjson

from clawsim.virtual.memory import FleetDatabase
from firmware.wire.outputs import Connect, Disconnect, Event, Notify, Send, Store
from fleet.core.config import FleetConfig
from fleet.core.manager import FleetCore
from fleet.core.rows import ReadingRow
from fleet.wire import uplink
from fleet.wire.expression import parse

EPOCH_MS = 1_767_225_600_000  # 2026-01-01
HOT = {"name": "hot", "when": parse("temp > 30"), "clear": parse("temp < 29"), "action": "alert", "severity": "warning"}
KEYS = {
    who: (who.encode() * 32)[:32].hex() for who in ("gateway-01", "gateway-02", "gateway-09", "sensor-01", "sensor-02")
}
BOOT = 700
QUIET_MS = FleetConfig().notify_quiet_ms  # what people are told of waits so long for more of its kind


class Crash(Exception):
    """The server died just after an output was performed."""


class Cloud:
    """One fleet manager with two gateways of the site `office`, one of another site, and two nodes."""

    def __init__(self, database: FleetDatabase | None = None, **config: Any) -> None:
        self.database = database or FleetDatabase()
        self.config = FleetConfig(**config)
        self.outputs: list[Any] = []
        self.now_ms = 0
        self.refuse_stores = False
        self.hold_stores = False
        self.held: list[Store] = []
        self.cut_after: int | None = None
        self.mail_works = True
        self.rules = [HOT]
        self._lives = 0
        self.alive = False
        self._beats = 0

    # --- power ----------------------------------------------------------------------------------------------------

    def power_on(self) -> "Cloud":
        """A new core on the same database; the inventory is told at every start."""
        self._lives += 1
        self.alive = True
        self.held.clear()
        self.core = FleetCore(self.config, self.database.restore(), random.Random(self._lives), self.now_ms)
        self.core.learn_utc(EPOCH_MS + self.now_ms, self.now_ms)
        for gateway, site in (("gateway-01", "office"), ("gateway-02", "office"), ("gateway-09", "farm")):
            self.core.add_gateway({"id": gateway, "site": site, "key": KEYS[gateway]}, self.now_ms)
        for node in ("sensor-01", "sensor-02"):
            entry = {"id": node, "type": "microclaw", "site": "office", "gateway": "gateway-01", "key": KEYS[node]}
            self.core.add_node(entry, self.now_ms)
        self.core.set_rules(self.rules, self.now_ms)
        self.pump()
        self.core.on_timer(self.now_ms)
        self.pump()
        self.core.link_up("hub", self.now_ms)
        self.pump()
        return self

    def started(self) -> "Cloud":
        """Powered on, with `gateway-01` heard."""
        self.power_on()
        self.heartbeat()
        return self

    # --- time and stores ------------------------------------------------------------------------------------------

    def at(self, now_ms: int) -> "Cloud":
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

    def later(self, ms: int) -> "Cloud":
        return self.at(self.now_ms + ms)

    def alive_for(self, ms: int, *gateways: str) -> "Cloud":
        """Time passes while these gateways beat."""
        until_ms = self.now_ms + ms
        while self.now_ms < until_ms:
            for gateway in gateways or ("gateway-01",):
                self.heartbeat(gateway)
            self.at(min(self.now_ms + 30_000, until_ms))
        return self

    def finish_stores(self) -> None:
        """The database answers for what it was holding."""
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
            if self.hold_stores and output.token is not None:
                self.held.append(output)
            else:
                self._settle(output)
            return
        self._maybe_cut()
        if isinstance(output, Notify):
            self.core.notified(output.message_id, self.mail_works, self.now_ms)

    def _settle(self, store: Store) -> None:
        conflicts = [] if self.refuse_stores else self.database.perform(store.writes)
        self._maybe_cut()
        if store.token is None:
            return
        if self.refuse_stores:
            self.core.store_failed(store.token, "database is gone", self.now_ms)
        else:
            self.core.stored(store.token, self.now_ms, conflicts)

    def _maybe_cut(self) -> None:
        if self.cut_after is not None:
            self.cut_after -= 1
            if self.cut_after < 0:
                self.alive = False
                raise Crash

    # --- inputs ---------------------------------------------------------------------------------------------------

    def raw(self, topic: str, payload: bytes) -> None:
        self.core.receive("hub", topic, payload, self.now_ms)
        self.pump()

    def say(self, gateway: str, verb: str, **message: Any) -> None:
        self.raw(f"clawland/{gateway}/{verb}", uplink.encode({"v": 1} | message))

    def heartbeat(self, gateway: str = "gateway-01", config: int | None = None) -> None:
        self._beats += 1
        version = self.core.config_version if config is None else config
        self.say(gateway, "heartbeat", n=self._beats, config=version, mode="online")

    def batch(self, name: str, *readings: dict[str, Any], gateway: str = "gateway-01", packed: bool = False) -> None:
        payload = uplink.encode_batch(name, [orjson.dumps(found) for found in readings], [])
        verb = "batch/gz" if packed else "batch"
        self.raw(f"clawland/{gateway}/{verb}", uplink.compress(payload) if packed else payload)

    def reading(
        self, value: Any, seq: int, node: str = "sensor-01", boot: int = BOOT, age_ms: int = 0, **more: Any
    ) -> dict[str, Any]:
        """A reading as a gateway sends it, taken `age_ms` ago."""
        found = {"sensor": node, "metric": "temp", "value": value, "unit": "°C", "boot": boot, "seq": seq}
        return found | {"utc_ms": EPOCH_MS + self.now_ms - age_ms} | more

    def status(self, node: str, status: str, gateway: str = "gateway-01", **more: Any) -> None:
        self._beats += 1
        said = {"sensor": node, "status": status, "attach": 1, "boot": BOOT, "item": f"{gateway}-r{self._beats}"}
        self.say(gateway, "status", **(said | more))

    def decided(self, status: str, seq: int, value: float, **more: Any) -> None:
        """A decision that gateway-01 took while it was offline."""
        episode = {"alert": f"hot:sensor-01:{BOOT}:{seq}", "rule": "hot", "value": value}
        self.status("sensor-01", status, **(episode | {"reading_utc_ms": EPOCH_MS + self.now_ms - 60_000} | more))

    def restart(self, node: str = "sensor-01", ttl_ms: int = 60_000, key: str | None = None) -> dict[str, Any]:
        row = self.core.request_command("restart", node, {}, "operator", ttl_ms, self.now_ms, key)
        self.pump()
        return row

    # --- what was seen --------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Count from here."""
        self.outputs.clear()

    def of(self, kind: type) -> list[Any]:
        return [o for o in self.outputs if isinstance(o, kind)]

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        return [o.fields for o in self.outputs if isinstance(o, Event) and (not kinds or o.kind in kinds)]

    def kinds(self, *of: str) -> list[str]:
        return [o.kind for o in self.outputs if isinstance(o, Event) and (not of or o.kind in of)]

    def sent(self, verb: str, gateway: str = "gateway-01") -> list[dict[str, Any]]:
        topic = f"clawland/{gateway}/{verb}"
        return [orjson.loads(o.payload) for o in self.of(Send) if o.topic == topic]

    def acks(self, gateway: str = "gateway-01") -> list[str]:
        return [message["batch"] for message in self.sent("batch/ack", gateway)]

    def rows(self) -> list[ReadingRow]:
        return sorted(self.database.rows())

    def table(self, name: str) -> dict[str, dict[str, Any]]:
        return self.database.tables.get(name, {})

    def state(self, node: str) -> str:
        return str(self.core.node_view(node)["state"])


__all__ = [
    "BOOT",
    "EPOCH_MS",
    "HOT",
    "KEYS",
    "QUIET_MS",
    "Cloud",
    "Connect",
    "Crash",
    "Disconnect",
    "Notify",
    "Send",
    "Store",
]
