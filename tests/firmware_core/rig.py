"""A node's core driven by hand: outputs performed one by one on a flash that survives, power cut where a test wants."""

import random
from collections.abc import Callable
from typing import Any

from clawsim.virtual.memory import NodeFlash
from firmware.core.sleeper import node_core
from firmware.wire import messages
from firmware.wire.auth import Sealer
from firmware.wire.outputs import Alarm, Connect, Disconnect, Event, Identify, Restart, Sample, Scan, Send, Sleep, Store

KEY = b"k" * 32
NODE = "sensor-01"
HOME = {"id": "gateway-01", "target": "10.0.0.1:1883"}
TEMP = {"metric": "temp", "unit": "°C", "exp": 2, "low": -4000, "high": 8500, "every_ms": None}
VERBS = ("heartbeat", "beacon", "ack", "temp", "note")


class PowerCut(Exception):
    """The power went just after an output was performed."""


class Board:
    """One board: flash, core, and everything that it said. `cut_after` outputs the power goes."""

    def __init__(self, seed: int = 1, now_ms: int = 0, flash: NodeFlash | None = None, **config: Any) -> None:
        self.seed = seed
        self.flash = flash or NodeFlash()
        self.config = {"id": NODE, "fleet": "clawland", "key": KEY, "home": HOME, "sensors": [TEMP]} | config
        self.outputs: list[Any] = []
        self.now_ms = now_ms
        self.cut_after: int | None = None
        self.on_sample: Callable[[int, int], object] = lambda index, now_ms: 2150
        self.refuse_stores = False
        self.powered = False

    # --- power ----------------------------------------------------------------------------------------------------

    def power_on(self, now_ms: int | None = None) -> "Board":
        """A new core on the same flash."""
        self.now_ms = self.now_ms if now_ms is None else now_ms
        self.powered = True
        self.core = node_core(self.config, self.flash.restore(), random.Random(self.seed), self.now_ms)
        self.pump()
        return self

    def started(self) -> "Board":
        """Powered on and connected."""
        self.power_on()
        self.link_up()
        return self

    # --- inputs ---------------------------------------------------------------------------------------------------

    def at(self, now_ms: int) -> "Board":
        """Let time pass to `now_ms`, with every timer on time."""
        while True:
            due_ms = self.core.next_deadline()
            if due_ms is None or due_ms > now_ms:
                break
            self.now_ms = max(self.now_ms, due_ms)
            self.core.on_timer(self.now_ms)
            self.pump()
        self.now_ms = now_ms
        return self

    def link_up(self) -> None:
        self.core.link_up("up", self.now_ms)
        self.pump()

    def link_down(self) -> None:
        self.core.link_down("up", self.now_ms)
        self.pump()

    def sampled(self, value: object, index: int = 0) -> None:
        self.core.sampled(index, value, self.now_ms)
        self.pump()

    def found(self, *gateways: dict[str, Any]) -> None:
        self.core.found(list(gateways), self.now_ms)
        self.pump()

    def receive(self, verb: str, body: bytes, key: bytes = KEY, node: str = NODE) -> None:
        """A message of the gateway, sealed under `key`."""
        topic = f"clawland/{node}/{verb}"
        self.raw(topic, Sealer(key).seal(topic, body))

    def raw(self, topic: str, payload: bytes) -> None:
        self.core.receive("up", topic, payload, self.now_ms)
        self.pump()

    def received(
        self, first: int, upto: int, missing: tuple[int, ...] = (), boot: int | None = None, n: int = 0
    ) -> None:
        """The gateway has these readings on disk."""
        self.receive("received", messages.encode_received(boot or self.boot, (first, upto), list(missing), n))

    def alive(self) -> None:
        """The gateway answers the latest heartbeat or beacon."""
        said = [found["n"] for found in (*self.sent("heartbeat"), *self.sent("beacon")) if found["boot"] == self.boot]
        self.receive("received", messages.encode_received(self.boot, None, [], max(said, default=0)))

    def battery(self, battery_mv: int | None) -> None:
        self.core.battery.measured(battery_mv, self.now_ms)
        self.pump()

    def command(self, action: str, command_id: str, **params: Any) -> None:
        self.receive("cmd", messages.encode_command(action, command_id, 60_000, "cloud", params))

    def pump(self) -> None:
        """Perform all outputs in order, as a host does."""
        while self.powered:
            outputs = self.core.take_outputs()
            if not outputs:
                return
            for output in outputs:
                self._perform(output)

    def _perform(self, output: Any) -> None:
        self.outputs.append(output)
        if isinstance(output, Store) and not self.refuse_stores:
            self.flash.perform(output.writes)
        self._maybe_cut()
        if isinstance(output, Store) and output.token is None and self.refuse_stores:
            self.core.refused(output.writes, "flash is worn out", self.now_ms)
        elif isinstance(output, Store) and output.token is not None:
            if self.refuse_stores:
                self.core.store_failed(output.token, "flash is worn out", self.now_ms)
            else:
                self.core.stored(output.token, self.now_ms)
        elif isinstance(output, Sample):
            self.core.sampled(output.index, self.on_sample(output.index, self.now_ms), self.now_ms)
        elif isinstance(output, Restart):
            self.powered = False

    def _maybe_cut(self) -> None:
        if self.cut_after is not None:
            self.cut_after -= 1
            if self.cut_after < 0:
                self.powered = False
                raise PowerCut

    # --- what was seen --------------------------------------------------------------------------------------------

    @property
    def boot(self) -> int:
        return int(self.flash.slots["boot"])

    def forget(self) -> None:
        """Count from here."""
        self.outputs.clear()

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        return [o.fields for o in self.outputs if isinstance(o, Event) and (not kinds or o.kind in kinds)]

    def kinds(self) -> list[str]:
        return [o.kind for o in self.outputs if isinstance(o, Event)]

    def sends(self) -> list[Send]:
        return [o for o in self.outputs if isinstance(o, Send)]

    def sent(self, verb: str) -> list[dict[str, Any]]:
        """The decoded messages of one verb or metric."""
        payloads = [o.payload for o in self.sends() if o.topic == f"clawland/{NODE}/{verb}"]
        decoders = {
            "heartbeat": messages.decode_heartbeat,
            "beacon": messages.decode_beacon,
            "ack": messages.decode_ack,
        }
        decode = decoders.get(verb, messages.decode_reading)
        return [found for payload in payloads if (found := decode(payload)) is not None]

    def seqs(self, metric: str = "temp") -> list[int]:
        return [found["seq"] for found in self.sent(metric)]

    def of(self, kind: type) -> list[Any]:
        return [o for o in self.outputs if isinstance(o, kind)]


__all__ = [
    "HOME", "KEY", "NODE", "TEMP",
    "Alarm", "Board", "Connect", "Disconnect", "Identify", "PowerCut", "Restart", "Scan", "Sleep",
]  # fmt: skip
