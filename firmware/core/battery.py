"""The battery: what the heartbeat says of it, and the longer intervals that spare it when it is low."""

STRETCH = 5  # all intervals in low-battery mode: a fifth of the transmissions, which cost most
RECOVERED_MV = 100  # above the limit, since a battery rises by some tens of millivolts when it has less to do


class Battery:
    """Low-battery mode: on below `low_mv`, off again `RECOVERED_MV` above it."""

    def __init__(self, core, low_mv: "int | None") -> None:
        """Without `low_mv` there is no such mode."""
        self._core = core
        self._low_mv = low_mv

    def measured(self, battery_mv: "int | None", now_ms: int) -> None:
        """The voltage is `battery_mv`; None: it could not be measured, and nothing changes."""
        core = self._core
        core.presence.battery_mv = battery_mv
        if battery_mv is None or self._low_mv is None:
            return
        was_low = core.presence.low_battery
        low = battery_mv < self._low_mv + (RECOVERED_MV if was_low else 0)
        if low != was_low:
            core.presence.low_battery = low
            core.event("battery.low" if low else "battery.recovered", {"battery_mv": battery_mv})
            core.settings.stretch(STRETCH if low else 1, now_ms)
