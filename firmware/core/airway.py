"""A LoRa node's use of the air: what the law allows, how it is spread over the hour, and when the radio is busy.

Frames that can wait keep a distance, so that four fifths of the budget last for every hour; what cannot wait (an event,
the answer to a command) may come at once as long as the hour's budget lasts, and those that can wait make up for it.
"""

from firmware.wire.airtime import DUTY_PPM, DutyCycle, time_on_air_us
from firmware.wire.lora import MAX_FRAME_BYTES, RECEIVE_DELAY_MS

CHANNELS_HZ = (868100000, 868300000, 868500000)  # LoRaWAN's three in EU868, one sub-band
SLICE_MS = 300000
# The longest frame by spreading factor, as LoRaWAN has it for application data in EU868 (RP002, table 5).
_FRAME_BYTES = {7: 222, 8: 222, 9: 115, 10: 51, 11: 51, 12: 51}
_WINDOW_SLACK_MS = 100


class Airway:
    """One radio with one spreading factor."""

    def __init__(self, config: dict, slot: "list | None", now_ms: int) -> None:
        """`config`: `sf`, perhaps `duty_ppm`. `slot`: what `as_slot` gave before the power went; how long that took
        nobody knows, so no time counts."""
        self.sf: int = config["sf"]
        self.frame_bytes = _FRAME_BYTES[self.sf]
        self._ppm: int = config.get("duty_ppm", DUTY_PPM)
        self._duty = DutyCycle(self._ppm, SLICE_MS)
        self.free_ms = now_ms  # when the radio has nothing to do
        self._next_ms = now_ms  # when a frame that can wait may follow
        if slot:
            self._next_ms += slot[0]
            self._duty.restore(slot[1], now_ms)
        self.window_ms = RECEIVE_DELAY_MS + time_on_air_us(MAX_FRAME_BYTES, self.sf, False) // 1000 + _WINDOW_SLACK_MS

    def as_slot(self, now_ms: int) -> list:
        """What to keep on flash."""
        return [max(self._next_ms - now_ms, 0), self._duty.as_slot(now_ms)]

    @property
    def pace_ms(self) -> int:
        """The distance of the longest frames that can wait."""
        return self._distance_ms(time_on_air_us(self.frame_bytes, self.sf))

    def due_ms(self, urgent: bool, now_ms: int) -> int:
        """When the longest frame may be sent, at the earliest now."""
        legal_ms = self.legal_ms(self.frame_bytes, now_ms)
        return max(legal_ms, self.free_ms) if urgent else max(legal_ms, self.free_ms, self._next_ms)

    def legal_ms(self, count: int, now_ms: int) -> int:
        """When the law allows a frame of `count` bytes, at the earliest now."""
        legal_ms = self._duty.due_ms(time_on_air_us(count, self.sf), now_ms)
        return now_ms + SLICE_MS if legal_ms is None else legal_ms

    def send(self, count: int, now_ms: int) -> int:
        """A frame of `count` bytes goes out now, and its receive window follows; its time on air in µs."""
        air_us = time_on_air_us(count, self.sf)
        self._duty.spend(air_us, now_ms)
        self.free_ms = now_ms + air_us // 1000 + 1 + self.window_ms
        self._next_ms = max(self._next_ms, now_ms) + self._distance_ms(air_us)
        return air_us

    def wait(self, until_ms: int) -> None:
        """Nothing is sent before `until_ms`."""
        self.free_ms = max(self.free_ms, until_ms)

    def listens(self, now_ms: int) -> bool:
        """Whether the receive window is open, or may be."""
        return now_ms < self.free_ms

    def close_window(self, now_ms: int) -> None:
        """The answer has come: the radio may send again."""
        self.free_ms = now_ms

    def used_us(self, now_ms: int) -> int:
        """The airtime of the last hour."""
        return self._duty.used_us(now_ms)

    def _distance_ms(self, air_us: int) -> int:
        return air_us * 1000 // self._ppm * 5 // 4
