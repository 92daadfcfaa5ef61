"""An ESP32 with stock MicroPython: what other boards do otherwise."""

import json

NAME = "esp32"
LED_PIN = 2
WATCHDOG_MS = 30000
DEEP_SLEEP_FROM_MS = 60000
"""Deep sleep draws 10 µA instead of 1 mA, and costs a start and a new boot number: worth it from about a minute on."""


DEEP_SLEEP = "deep sleep"


def remember(machine, unheard_ms: int) -> None:
    """What outlasts a deep sleep, in the clock's memory: how long nothing was heard of the gateway at its end."""
    machine.RTC().memory(json.dumps(unheard_ms).encode())


def recall(machine) -> int:
    """What was remembered; 0 where nothing was."""
    try:
        found = json.loads(machine.RTC().memory())
    except ValueError:
        return 0
    return found if type(found) is int and found >= 0 else 0


def cause(machine) -> str:
    """Why it started."""
    causes = {
        machine.PWRON_RESET: "power-on",
        machine.HARD_RESET: "reset button or restart",
        machine.WDT_RESET: "watchdog",
        machine.DEEPSLEEP_RESET: DEEP_SLEEP,
        machine.SOFT_RESET: "soft reset",
    }
    return causes.get(machine.reset_cause(), "unknown")
