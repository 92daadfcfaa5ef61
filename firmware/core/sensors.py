"""Sampling on a fixed period, and the range check before anything is sent."""

from firmware.wire.messages import MAX_MS, encode_value

MAX_TEXT_BYTES = 66  # as JSON: 64 characters in quotes, so that a reading always fits its message


class Sensor:
    """One sensor: its metric, range (in units of 10^-`exp`) and period; `next_ms` is None while it is not sampled."""

    def __init__(self, config: dict, start_ms: int) -> None:
        self.metric: str = config["metric"]
        self.unit: str = encode_value(config.get("unit") or "", 0)  # as JSON text: the same for every reading
        self.event: bool = bool(config.get("event"))  # forwarded at once instead of aggregated
        self.sealed: bool = bool(config.get("sealed"))  # for the fleet manager's eyes only
        self.exp: int = config.get("exp") or 0
        self._scale = 10**self.exp
        self.low: int = _or(config.get("low"), -MAX_MS)  # what a message can carry
        self.high: int = _or(config.get("high"), MAX_MS)
        self.every_ms: int | None = config.get("every_ms")
        self.next_ms: int | None = start_ms if self.every_ms else None
        self.fault = ""
        self.stuck_ms: int | None = config.get("stuck_ms")  # the same value for longer is no measurement
        self._last: object = None
        self._last_ms = start_ms

    def pace(self, every_ms: int, now_ms: int) -> None:
        """Sample every `every_ms` from now on. The sample that is due first is not put off; a sensor that was stopped
        stays so."""
        if self.next_ms is not None and self.every_ms != every_ms:
            self.every_ms = every_ms
            self.next_ms = min(self.next_ms, now_ms + every_ms)

    def stuck(self, value: object, now_ms: int) -> bool:
        """Whether `value`, which has no other fault, has not changed for too long."""
        if value != self._last or self.stuck_ms is None:
            self._last, self._last_ms = value, now_ms
            return False
        return now_ms - self._last_ms > self.stuck_ms

    def step(self, now_ms: int) -> None:
        """It is time to sample: the next instant stays on the grid of the period, however late this one is."""
        next_ms, every_ms = self.next_ms, self.every_ms
        if next_ms is not None and every_ms is not None:
            self.next_ms = next_ms + every_ms * (1 + (now_ms - next_ms) // every_ms)

    def check(self, value) -> str:
        """What is wrong with `value`: empty, `failed`, `out-of-range` or `too-long`."""
        kind = type(value)
        if kind is int:
            return "" if self.low <= value <= self.high else "out-of-range"
        if kind is bool:
            return ""
        if kind is str:
            return "" if len(encode_value(value, 0)) <= MAX_TEXT_BYTES else "too-long"
        return "failed"  # None: nothing was read; a float: a driver that does not keep to the metric's resolution

    def text(self, value: object) -> str:
        """`value` as JSON text."""
        return encode_value(value, self.exp)

    def number(self, value: object) -> object:
        """`value` in the metric's unit, for the trace."""
        return round(value / self._scale, self.exp) if self.exp and type(value) is int else value


def _or(value: "int | None", default: int) -> int:
    return default if value is None else value
