"""The life of a node on a board, from power-on to the next restart: the turns of its pump, its watchdog, its sleep."""

import random

from firmware.core.sleeper import SleepingNode, node_core
from firmware.hosts.micro.clock import Uptime
from firmware.hosts.micro.pump import Pump
from firmware.hosts.micro.ring import handed_over

TURN_MS = 2000  # of waiting at most: the watchdog wants to be fed
NAP_MS = 5000  # of light sleep at a time, for the same reason
BATTERY_EVERY_MS = 60000
HELLO_AGAIN_MS = (1500, 5000, 12000)  # a port on USB takes its time to be there for whoever listens


class Life:
    """One core on one board. `turn` until `over`."""

    def __init__(self, board, machine, time, firmware: str) -> None:
        """`machine` and `time` are MicroPython's modules; `firmware` is the bundle's id."""
        self.board = board
        self._machine = machine
        self._ticks_ms = time.ticks_ms
        self._clock = Uptime(time.ticks_ms, time.ticks_diff)
        self._wall = Uptime(time.ticks_ms, time.ticks_diff)
        restored = board.flash.mount(board.config["core"].get("backlog_readings"))
        if board.flash.damaged:
            board.log("%d damaged lines of the flash are lost" % board.flash.damaged)
        if board.flash.forgotten:
            board.log("at most %d readings of the flash are lost: it has more than the backlog" % board.flash.forgotten)
        self.core = node_core(board.config["core"], handed_over(restored), random, self._clock.now_ms())
        board.flash.keeps = self.core.backlog.has
        if isinstance(self.core, SleepingNode) and self._slept_deeply():
            self.core.resumed(board.kind.recall(machine), self._clock.now_ms())
        self._firmware = firmware
        self._hellos_ms = list(HELLO_AGAIN_MS)
        board.hello(self.core.boot, firmware)
        self._sleep_ms: int | None = None
        self._battery_due_ms = 0
        self.pump = Pump(self.core, self._clock, self._wall.now_ms, board, None, board.sensors, self._on_sleep)
        # Last: from now on the board restarts when nobody feeds it.
        self._watchdog = machine.WDT(timeout=board.kind.WATCHDOG_MS)

    @property
    def over(self) -> bool:
        """Whether the core wants the board to restart."""
        return self.pump.restart

    def turn(self) -> None:
        """Wait until something is due or has come, and do it."""
        self.board.poller.poll(self._wait_ms())
        self._watchdog.feed()
        now_ms = self._wall.now_ms()
        if now_ms >= self._battery_due_ms:
            self._battery_due_ms = now_ms + BATTERY_EVERY_MS
            self.core.battery.measured(self.board.battery_mv(now_ms), self._clock.now_ms())
        if self._hellos_ms and now_ms >= self._hellos_ms[0]:
            self._hellos_ms.pop(0)
            self.board.hello(self.core.boot, self._firmware)
        self.board.serve(now_ms)
        self.pump.step()
        if self._sleep_ms is not None:
            self._sleep(self._sleep_ms)

    def _wait_ms(self) -> int:
        now_ms = self._wall.now_ms()
        wait_ms = min(self.board.next_deadline(now_ms) - now_ms, TURN_MS)
        due_ms = self.pump.wait_ms()
        return max(wait_ms if due_ms < 0 else min(wait_ms, due_ms), 0)

    def _slept_deeply(self) -> bool:
        kind = self.board.kind
        return kind.DEEP_SLEEP_FROM_MS is not None and kind.cause(self._machine) == kind.DEEP_SLEEP

    def _on_sleep(self, for_ms: int) -> None:
        # A contact would not wake the processor: a board with one stays awake, with its radio on.
        if not self.board.sensors.has_speakers:
            self._sleep_ms = for_ms

    def _sleep(self, for_ms: int) -> None:
        """With RAM kept go on here; without, the board starts anew from flash when it wakes."""
        self._sleep_ms = None
        self.board.wifi.off()
        deep_from_ms = self.board.config["board"].get("deep_sleep_from_ms", self.board.kind.DEEP_SLEEP_FROM_MS)
        if deep_from_ms is not None and for_ms >= deep_from_ms:
            self.board.log("deep sleep for %d s" % (for_ms // 1000))
            self.board.kind.remember(self._machine, self._clock.now_ms() - self.core.link.heard_ms + for_ms)
            self._machine.deepsleep(for_ms)
        until_ms = self._clock.now_ms() + for_ms
        while True:
            left_ms = until_ms - self._clock.now_ms()
            if left_ms <= 0:
                return
            self._machine.lightsleep(min(left_ms, NAP_MS))
            self._watchdog.feed()
