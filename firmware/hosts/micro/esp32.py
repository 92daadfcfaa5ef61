"""An ESP32 with stock MicroPython: what other boards do otherwise."""

NAME = "esp32"
LED_PIN = 2
WATCHDOG_MS = 30000
DEEP_SLEEP_FROM_MS = 60000
"""Deep sleep draws 10 µA instead of 1 mA, and costs a start and a new boot number: worth it from about a minute on."""


def cause(machine) -> str:
    """Why it started."""
    causes = {
        machine.PWRON_RESET: "power-on",
        machine.HARD_RESET: "reset button or restart",
        machine.WDT_RESET: "watchdog",
        machine.DEEPSLEEP_RESET: "deep sleep",
        machine.SOFT_RESET: "soft reset",
    }
    return causes.get(machine.reset_cause(), "unknown")
