"""A node on QEMU's board mps2-an385, with its gateway at the first UART.

`firmware emulate` starts such boards; `firmware.hosts.micro.memory` says what they find in their memory. Log lines go
out over the second UART, events over the third. A restart begins anew from flash, as a soft reset does.
"""

import gc
import io
import json
import random
import sys

from firmware.core.sleeper import node_core
from firmware.hosts.micro import memory
from firmware.hosts.micro.aes import with_keys
from firmware.hosts.micro.clock import RunClock, Uptime
from firmware.hosts.micro.line import SerialLink
from firmware.hosts.micro.mps2 import MemoryFlash, Timers, Uart, ticks_diff
from firmware.hosts.micro.pump import Pump
from firmware.hosts.micro.ring import Ring, handed_over
from firmware.hosts.micro.signals import Signal

GC_THRESHOLD_BYTES = 8192  # collected before the heap is in pieces
AFTER_A_BUG_MS = 5000


class Board:
    """What the emulated board offers the pump."""

    def __init__(self, told: dict, mem32, flash_window) -> None:
        self.config = told
        core = told["core"]
        self._who: str = core["id"]
        self._log_uart = Uart(mem32, 1)
        self._trace_uart = Uart(mem32, 2) if told["trace"] else None
        self.uart = Uart(mem32, 0)
        self.link = SerialLink(self.uart, self._who, core["key"], random)
        self.scanner = NoScanner()
        self._device = MemoryFlash(flash_window, told["flash"]["sectors"])
        self.new_flash()
        self.signals: list[Signal] = []

    def new_flash(self) -> Ring:
        """The flash as at power-on, not mounted yet."""
        self.flash = Ring(self._device, self.config["flash"]["sector_bytes"])
        return self.flash

    def trace(self, kind: str, fields: dict, now_ms: int) -> None:
        """One JSON line."""
        if self._trace_uart is None:
            return
        line = '{"t_ms":%d,"kind":"%s","who":"%s"' % (now_ms, kind, self._who)
        rest = json.dumps(fields)
        self._trace_uart.write_all((line + ("," + rest[1:] if fields else "}") + "\n").encode())

    def alarm(self, on: bool, by: str) -> None:
        self.log("ALARM %s, by %s" % ("on" if on else "off", by))

    def identify(self, for_ms: int) -> None:
        self.log("IDENTIFY: this node blinks for %d ms" % for_ms)

    def log(self, text: str) -> None:
        self._log_uart.write_all(("%s: %s\n" % (self._who, text)).encode())

    def free_memory_kb(self) -> int:
        gc.collect()  # what nobody refers to is free as well
        return gc.mem_free() >> 10  # type: ignore[attr-defined]  # MicroPython has it


class NoScanner:
    """A cable leads to one gateway: there is no other to look for."""

    def start(self, now_ms: int) -> None:
        pass

    def serve(self, now_ms: int) -> "list[dict] | None":
        return None

    def next_deadline(self) -> "int | None":
        return None


def run(told: dict) -> None:
    """Run the node that the memory tells of, for ever."""
    import machine
    import uctypes
    from clawland_mps2 import wait_for_interrupt

    gc.threshold(GC_THRESHOLD_BYTES)  # type: ignore[attr-defined]  # MicroPython has it
    with_keys(told["core"])
    random.seed(told["seed"])
    timers = Timers(machine.mem32, wait_for_interrupt)
    uptime = Uptime(timers.ticks_ms, ticks_diff)
    flash_at = memory.MEMORY_AT + memory.FLASH_AT
    board = Board(told, machine.mem32, lambda at, size: uctypes.bytearray_at(flash_at + at, size))
    while True:
        try:
            _live(board, timers, uptime)
        except Exception as error:  # nobody is there to look: say what it was, and begin anew as after a watchdog
            text = io.StringIO()
            sys.print_exception(error, text)  # type: ignore[attr-defined]  # MicroPython has it
            board.log(text.getvalue())
            timers.idle(AFTER_A_BUG_MS, board.uart)


def _live(board: Board, timers: Timers, uptime: Uptime) -> None:
    """From power-on to the next restart."""
    config = board.config
    restored = board.new_flash().mount(config["core"]["backlog_readings"])
    if board.flash.damaged:
        board.log("%d damaged lines of the flash are lost" % board.flash.damaged)
    if board.flash.forgotten:
        board.log("at most %d readings of the flash are lost: it has more than the backlog" % board.flash.forgotten)
    clock = _scaled(uptime, config["timescale"])
    now_ms = clock.now_ms()
    core = node_core(config["core"], handed_over(restored), random, now_ms)
    board.flash.keeps = core.backlog.has
    board.signals = [
        Signal(spec, sensor["every_ms"] is None, now_ms)
        for spec, sensor in zip(config["signals"], config["core"]["sensors"])
    ]
    del restored
    gc.collect()
    pump = Pump(core, clock, uptime.now_ms, board, config["sample_until_ms"])
    while not pump.restart:
        timers.idle(pump.wait_ms(), board.uart)
        pump.step()


def _scaled(uptime: Uptime, timescale: float):
    """A clock that goes `timescale` times as fast as the wall, for rehearsals."""
    if timescale == 1:
        return uptime
    return RunClock(
        lambda: uptime.now_ms() * 1000000, {"t0_monotonic_ns": 0, "timescale": timescale, "epoch_utc_ms": 0}
    )
