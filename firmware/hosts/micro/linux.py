"""A node as a MicroPython process: `micropython -m firmware.hosts.micro.linux NODE.JSON [TRACE] [--sim-clock]`.

The same core as on a board and in `firmware.hosts.process`, with a file for its flash. `firmware build` makes
NODE.JSON; `--sim-clock` is the protocol of `firmware.hosting.simclock`. A restart begins anew from flash in the same
process, as a soft reset does on a board.
"""

import errno
import gc
import json
import os
import random
import select
import sys
import time

from firmware.core.sleeper import node_core
from firmware.hosts.micro.aes import with_keys
from firmware.hosts.micro.clock import RunClock, Uptime
from firmware.hosts.micro.link import MqttLink
from firmware.hosts.micro.pump import Pump
from firmware.hosts.micro.ring import RING_FILE, FileDevice, Ring, handed_over
from firmware.hosts.micro.scanner import Scanner
from firmware.hosts.micro.signals import Signal
from firmware.wire.auth import mqtt_password

EXIT_OK, EXIT_USAGE, EXIT_MISSING = 0, 2, 3
LATE_START_MS = 1000  # a first start may be this late on the wall and still begin a recording at its beginning
LOCK_FILE = "flash.lock"  # the same as that of `firmware run`: neither takes the other's directory
GC_THRESHOLD_BYTES = 8192  # collected before the heap is in pieces


class Stop(Exception):
    """The process is to end, with this exit code and perhaps a message."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Board:
    """What a process offers the pump: files, sockets, signals, the poller and the two clocks."""

    def __init__(self, config: dict, trace_path: str) -> None:
        self.config = config
        self.poller = select.poll()
        self._device = _open_device(config["flash"])
        self.flash = self.new_flash()
        self._who = config["core"]["id"]
        self._trace = open(trace_path, "ab", 0) if trace_path else None
        login = (self._who, mqtt_password(config["core"]["key"]))
        topics = ["clawland/%s/%s" % (self._who, verb) for verb in ("cmd", "received")]
        self.link = MqttLink(self.poller, (select.POLLIN, select.POLLOUT), login, topics)
        self.link.bind_address = config["bind_address"]
        self.scanner = Scanner(self.poller, select.POLLIN, config["interface"], random, self.log)
        self.signals: list[Signal] = []

    def new_flash(self) -> Ring:
        """The flash as at power-on, not mounted yet."""
        self.flash = Ring(self._device, self.config["flash"]["sector_bytes"])
        return self.flash

    def trace(self, kind: str, fields: dict, now_ms: int) -> None:
        """One JSON line in one write."""
        if self._trace is None:
            return
        line = '{"t_ms":%d,"kind":"%s","who":"%s"' % (now_ms, kind, self._who)
        rest = json.dumps(fields)
        try:
            self._trace.write((line + ("," + rest[1:] if fields else "}") + "\n").encode())
        except OSError as error:
            self.log("trace lines are being lost: %s" % error)
            self._trace = None

    def alarm(self, on: bool, by: str) -> None:
        self.log("ALARM %s, by %s" % ("on" if on else "off", by))

    def identify(self, for_ms: int) -> None:
        self.log("IDENTIFY: this node blinks for %d ms" % for_ms)

    def log(self, text: str) -> None:
        print("%s: %s" % (self._who, text), file=sys.stderr)

    def free_memory_kb(self) -> int:
        return gc.mem_free() >> 10  # type: ignore[attr-defined]  # MicroPython has it


def main(arguments: "list[str]") -> int:
    """Run one node until it is told to stop; the exit code."""
    gc.threshold(GC_THRESHOLD_BYTES)  # type: ignore[attr-defined]  # MicroPython has it
    _stop_on_sigterm()
    board = None
    sim_clock = "--sim-clock" in arguments
    paths = [argument for argument in arguments if argument != "--sim-clock"]
    try:
        if not 1 <= len(paths) <= 2:
            raise Stop(EXIT_USAGE, "usage: node.json [TRACE] [--sim-clock]")
        config = _load(paths[0])
        clock = _scenario_clock() if sim_clock else Uptime(time.ticks_ms, time.ticks_diff)  # type: ignore[attr-defined]  # MicroPython has it
        board = _board(config, paths[1] if len(paths) > 1 else "")
        while True:
            _live(board, clock, sim_clock)
    except Stop as stop:
        if stop.message:
            print("error: " + stop.message, file=sys.stderr)
        return stop.code
    except KeyboardInterrupt:  # Ctrl-C or SIGTERM
        return EXIT_OK
    finally:
        if board is not None:
            board.link.disconnect()


def _stop_on_sigterm() -> None:
    """SIGTERM ends the process as Ctrl-C does; another interpreter is killed by it, which costs no reading either."""
    try:
        from clawland_process import stop_on_sigterm
    except ImportError:
        return
    stop_on_sigterm()


def _board(config: dict, trace_path: str) -> Board:
    try:
        return Board(config, trace_path)
    except OSError as error:
        raise Stop(EXIT_MISSING, "cannot use the flash or the trace: %s" % error) from None


def _live(board: Board, clock, sim_clock: bool) -> None:
    """From power-on to the next restart."""
    restored = board.new_flash().mount(board.config["core"]["backlog_readings"])
    if board.flash.damaged:
        board.log("%d damaged lines of the flash are lost" % board.flash.damaged)
    if board.flash.forgotten:
        board.log("at most %d readings of the flash are lost: it has more than the backlog" % board.flash.forgotten)
    now_ms = clock.now_ms()
    core = node_core(board.config["core"], handed_over(restored), random, now_ms)
    board.flash.keeps = core.backlog.has
    from_ms = 0 if not restored and clock.wall_ms(now_ms) <= LATE_START_MS else now_ms
    sensors = board.config["core"]["sensors"]
    board.signals = [
        Signal(spec, sensor["every_ms"] is None, from_ms) for spec, sensor in zip(board.config["signals"], sensors)
    ]
    del restored
    gc.collect()
    pump = Pump(core, clock, time.ticks_ms, board, board.config["sample_until_ms"])  # type: ignore[attr-defined]  # MicroPython has it
    if sim_clock:
        board.poller.register(sys.stdin, select.POLLIN)
    while not pump.restart:
        _wait(board, pump.wait_ms())
        pump.step()


def _wait(board: Board, wait_ms: int) -> None:
    """Until something may have come. When stdin ends the process ends, so that whoever started it leaves no orphan."""
    for ready in board.poller.poll(wait_ms):
        if ready[0] in (sys.stdin, 0) and not sys.stdin.readline():
            raise Stop(EXIT_OK)


def _scenario_clock() -> RunClock:
    """Say that the process is ready, and take the clock that stdin brings."""
    print('{"ready": true}')
    line = sys.stdin.readline()
    if not line:
        raise Stop(EXIT_OK)
    try:
        clock = RunClock(_monotonic_ns(), json.loads(line))
    except ValueError as error:
        raise Stop(EXIT_USAGE, "--sim-clock: stdin must bring one JSON line with the clock: %s" % error) from None
    time.sleep_ms(clock.until_start_ms())  # type: ignore[attr-defined]  # MicroPython has it
    return clock


def _monotonic_ns():
    try:
        from clawland_clock import monotonic_ns
    except ImportError:
        raise Stop(EXIT_MISSING, "--sim-clock needs the interpreter that scripts/boards.sh builds") from None
    return monotonic_ns


def _load(path: str) -> dict:
    """The configuration that `firmware build` has checked and written."""
    try:
        with open(path) as file:
            config = json.load(file)
        with_keys(config["core"])
    except OSError as error:
        reason = "no such file" if error.errno == errno.ENOENT else str(error)
        raise Stop(EXIT_USAGE, "%s: %s" % (path, reason)) from None
    except (ValueError, KeyError, TypeError):
        raise Stop(EXIT_USAGE, path + ": is not what `firmware build` writes") from None
    if config["seed"] is not None:
        random.seed(config["seed"])
    return config


def _open_device(config: dict) -> FileDevice:
    directory = config["directory"]
    try:
        os.mkdir(directory)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
    _lock(directory)
    return FileDevice(directory + "/" + RING_FILE, config["sectors"], config["sector_bytes"])


def _lock(directory: str) -> None:
    """Two processes must not share one flash; where the interpreter has no locks nobody can tell."""
    try:
        from clawland_process import lock
    except ImportError:
        return
    if not lock(directory + "/" + LOCK_FILE):
        raise Stop(EXIT_MISSING, directory + " is in use by another process")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
