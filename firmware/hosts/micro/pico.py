"""A Raspberry Pi Pico W with stock MicroPython: what other boards do otherwise."""

NAME = "pico-w"
LED_PIN = "LED"  # behind the radio's chip
WATCHDOG_MS = 8000  # 8388 at most
DEEP_SLEEP_FROM_MS = None
"""Its deep sleep draws what its light sleep does, and loses its memory on top: it has none."""


def cause(machine) -> str:
    """Why it started; a restart by program is done by the watchdog and cannot be told from one."""
    causes = {machine.PWRON_RESET: "power-on", machine.WDT_RESET: "restart or watchdog"}
    return causes.get(machine.reset_cause(), "unknown")
