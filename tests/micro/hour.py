"""On MicroPython: a node through an hour without its gateway, with a full backlog, on a clock of its own.

Usage: hour.py FLASH_FILE BACKLOG. Prints one JSON object: what was produced, lost, delivered, and how little of the
heap was ever left.
"""

import gc
import json
import random
import sys

from firmware.core.node import NodeCore
from firmware.hosts.micro.pump import Pump
from firmware.hosts.micro.ring import FileDevice, Ring
from firmware.hosts.micro.signals import Signal
from firmware.wire.auth import Sealer
from firmware.wire.topics import split

# The same pauses between attempts every time: with others the last word before the cut may go unanswered, and count as
# lost although it was heard.
random.seed(2)

KEY = bytes(32)
HOUR_MS = 3600000
EVERY_MS = 30000


class Clock:
    def __init__(self) -> None:
        self.ms = 0

    def now_ms(self) -> int:
        return self.ms

    def wall_ms(self, core_ms: int) -> int:
        return max(core_ms, 0)


class Gateway:
    """The node's link, and at its end a gateway that is there or not, and acknowledges what it hears after a while."""

    def __init__(self, clock: Clock) -> None:
        self.there = True
        self.target = ""
        self.heard: set = set()
        self._clock = clock
        self._events: list = []
        self._sealer = Sealer(KEY)
        self._span: list = []
        self._boot = self._n = self._answer_ms = 0

    def connect(self, target: str, now_ms: int) -> None:
        self._events.append(("up",) if self.there else ("down", "nobody there"))

    def cut(self) -> None:
        self.there = False
        self._events.append(("down", "the gateway has died"))

    def disconnect(self) -> None:
        pass

    def send(self, topic: str, payload: bytes, now_ms: int) -> bool:
        if not self.there:
            return False
        message = json.loads(payload)
        self._boot = message["boot"]
        if split(topic)[1] == "temp":
            self.heard.add(message["seq"])
            self._span.append(message["seq"])
        self._n = message.get("n", self._n)
        self._answer_ms = now_ms + 5000
        return True

    def next_deadline(self):
        return 0 if self._events else self._answer_ms or None

    def serve(self, now_ms: int) -> list:
        if self._answer_ms and now_ms >= self._answer_ms:
            self._answer()
        events, self._events = self._events, []
        return events

    def _answer(self) -> None:
        self._answer_ms = 0
        topic = "clawland/sensor-01/received"
        found = {"boot": self._boot, "n": self._n}
        if self._span:
            found["from"], found["upto"] = min(self._span), max(self._span)
            found["missing"] = [s for s in range(found["from"], found["upto"]) if s not in self.heard]
            self._span = []
        self._events.append(("message", topic, self._sealer.seal(topic, json.dumps(found).encode())))


class Board:
    """What the pump needs, and a count of what was traced."""

    def __init__(self, clock: Clock, flash) -> None:
        self.link = Gateway(clock)
        self.flash = flash
        self.scanner = self
        self.signals = [Signal(["sine", 2200.0, 300.0, 600000, 0], False, 0)]
        self.kinds: dict = {}
        self.least = gc.mem_free()
        self._scanning = False

    def trace(self, kind: str, fields: dict, now_ms: int) -> None:
        self.kinds[kind] = self.kinds.get(kind, 0) + 1

    def log(self, text: str) -> None:
        pass

    def alarm(self, on: bool, by: str) -> None:
        pass

    def free_memory_kb(self) -> int:
        gc.collect()
        self.least = min(self.least, gc.mem_free())
        return gc.mem_free() >> 10

    def start(self, now_ms: int) -> None:
        self._scanning = True

    def serve(self, now_ms: int):
        self._scanning, scanned = False, self._scanning
        return [] if scanned else None

    def next_deadline(self):
        return 0 if self._scanning else None


def run_until(pump: Pump, clock: Clock, end_ms: int) -> None:
    while clock.ms < end_ms:
        clock.ms += max(min(pump.wait_ms(), end_ms - clock.ms), 1)
        pump.step()


def main(path: str, backlog: int) -> None:
    clock = Clock()
    ring = Ring(FileDevice(path, 8, 4096), 4096)
    board = Board(clock, ring)
    sensor = {"metric": "temp", "unit": "°C", "exp": 2, "every_ms": EVERY_MS}
    home = {"id": "gateway-01", "target": "127.0.0.1:1"}
    config = {"id": "sensor-01", "fleet": "clawland", "key": KEY, "home": home, "sensors": [sensor]}
    config["backlog_readings"] = backlog
    core = NodeCore(config, ring.mount(), random, 0)
    ring.keeps = core.backlog.has
    pump = Pump(core, clock, clock.now_ms, board)
    run_until(pump, clock, 10 * 60000)
    board.link.cut()
    run_until(pump, clock, 10 * 60000 + HOUR_MS)
    kept = len(core.backlog)
    board.link.there = True
    run_until(pump, clock, 15 * 60000 + HOUR_MS)
    found = {"produced": board.kinds["reading.produced"], "lost": board.kinds.get("reading.lost", 0), "kept": kept}
    found["delivered"], found["left"] = len(board.link.heard), len(core.backlog)
    found["least_free"], found["scans"] = board.least, board.kinds["failover.scan"]
    print(json.dumps(found))


main(sys.argv[1], int(sys.argv[2]))
