"""What a node costs where this runs: `measure()` on CPython, on MicroPython and on boards, the same everywhere."""

import gc
import json
import random
import sys
import time

KEY = bytes(range(32))
EVERY_MS = 30000
GC_THRESHOLD_BYTES = 8192
READINGS = 50
"""Few enough for the heap of a small board, which keeps them all."""
WHO = "sensor-01"
RECEIVED = "clawland/sensor-01/received"


def measure(rounds: int = 20) -> dict:
    """Bytes of the heap, where they can be told, and microseconds of the processor."""
    weighs = hasattr(gc, "mem_alloc")
    if weighs:
        gc.threshold(GC_THRESHOLD_BYTES)  # type: ignore[attr-defined]  # as every host does
    before = _used_bytes() if weighs else 0
    core = _core()
    found: dict = {"on": sys.implementation.name, "platform": sys.platform}
    if weighs:
        found["core_bytes"] = _used_bytes() - before
        _sample(core, [])
        found["reading_bytes"] = (_used_bytes() - before - found["core_bytes"]) // READINGS
        found["free_bytes"] = gc.mem_free()  # type: ignore[attr-defined]  # MicroPython has it
    found["sent_us"] = _best(rounds, _nothing, _sample)
    found["received_us"] = _best(rounds, _sealed, _receive)
    return found


def _core():
    from firmware.core.node import NodeCore  # here, so that the program's own RAM is part of the core's

    home = {"id": "gateway-01", "target": "127.0.0.1:1883"}
    sensor = {"metric": "temp", "unit": "C", "exp": 2, "every_ms": EVERY_MS}
    config = {"id": WHO, "fleet": "clawland", "key": KEY, "home": home, "sensors": [sensor]}
    core = NodeCore(config, {}, random, 0)
    core.take_outputs()
    core.stored(1, 0)
    core.take_outputs()
    core.link_up("up", 0)
    core.take_outputs()
    return core


def _nothing(core) -> list:
    return []


def _sample(core, given: list) -> None:
    """One message each: read, kept, encoded and sent."""
    for n in range(READINGS):
        core.sampled(0, 2500 + n % 7, EVERY_MS * n)
        core.take_outputs()


def _sealed(core) -> list:
    """The gateway's word for one reading after the other."""
    _sample(core, [])
    from firmware.wire.auth import Sealer

    sealer, text = Sealer(KEY), '{"boot":%d,"from":%d,"upto":%d,"missing":[],"n":%d}'
    return [sealer.seal(RECEIVED, (text % (core.boot, n, n, n + 1)).encode()) for n in range(READINGS)]


def _receive(core, given: list) -> None:
    """One message each: authentic, decoded, its reading forgotten."""
    for payload in given:
        core.receive("up", RECEIVED, payload, EVERY_MS * READINGS)
        core.take_outputs()


def _best(rounds: int, prepare, work) -> float:
    """Microseconds a message in the best of some rounds: what else runs there only makes it longer."""
    best = None
    for _ in range(rounds):
        core = _core()
        given = prepare(core)
        gc.collect()
        start_us = _now_us()
        work(core, given)
        took_us = _since_us(start_us)
        best = took_us if best is None else min(best, took_us)
    return (best or 0) / READINGS


def _used_bytes() -> int:
    gc.collect()
    return int(gc.mem_alloc())  # type: ignore[attr-defined]  # MicroPython has it


def _now_us() -> int:
    if hasattr(time, "ticks_us"):
        return int(time.ticks_us())
    return time.perf_counter_ns() // 1000


def _since_us(start_us: int) -> int:
    if hasattr(time, "ticks_diff"):
        return int(time.ticks_diff(time.ticks_us(), start_us))  # type: ignore[attr-defined]  # MicroPython has it
    return _now_us() - start_us


if __name__ == "__main__":
    print(json.dumps(measure()))
