"""MicroPython's `machine` of a board that is a process: pins that go nowhere, and a reset that ends it.

In the MicroPython subset; on CPython too, where tests look at what became of it.
"""

import json
import sys

PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = 1, 2, 3, 4, 5
EXIT_RESET = 75
STATE_FILE = "machine.json"  # what a restart does not forget: the cause of it


def unique_id():
    return b"\xe6\x61\x38\x52\x83\x2e\x41\x2f"


def reset_cause():
    try:
        with open(STATE_FILE) as file:
            return json.load(file)
    except OSError:
        return PWRON_RESET


def _end(cause):
    with open(STATE_FILE, "w") as file:
        json.dump(cause, file)
    sys.exit(EXIT_RESET)


def reset():
    _end(WDT_RESET)


def deepsleep(ms):
    _end(DEEPSLEEP_RESET)


def lightsleep(ms):
    import time

    time.sleep_ms(ms)


class Pin:
    IN, OUT, OPEN_DRAIN, PULL_UP, PULL_DOWN = 0, 1, 2, 1, 2

    def __init__(self, number, mode=0, pull=0, value=0):
        self.level = value

    def value(self, level=None):
        if level is not None:
            self.level = level
        return self.level


class ADC:
    """A soil probe in damp soil."""

    def __init__(self, pin):
        pass

    def read_u16(self):
        return 30000


class WDT:
    def __init__(self, timeout):
        self.timeout = timeout

    def feed(self):
        pass
