"""The concentrators that talk to this gateway: where each is reached, what it has heard and sent, its duty cycle."""

from typing import Any

from firmware.wire.airtime import WINDOW_MS, DutyCycle
from nanoclaw.core.lora.config import LoraConfig, band_of, ppm_of

MOST_CONCENTRATORS = 16
FORGET_MS = WINDOW_MS
ROUTE_MS = 60_000
"""A concentrator pulls every few seconds; silent for so long, nothing is sent to where it was."""


class Concentrator:
    """One concentrator, and its budget in every sub-band."""

    def __init__(self, eui: str, duty_ppm: int, kept: dict[str, Any], now_ms: int) -> None:
        """`kept`: what `as_slot` gave before the gateway restarted."""
        self.eui = eui
        self.heard_ms = 0
        self.packets = 0
        self.crc_failed = 0
        self.copies = 0
        self.downlinks = 0
        self.tx_errors: dict[str, int] = {}
        self._duty_ppm = duty_ppm
        self._address = ""
        self._pulled_ms: int | None = None
        self._bands: dict[int, DutyCycle] = {}
        self._reserved_us: dict[int, int] = {}
        for band, slices in kept.items():
            self._budget(int(band)).restore(slices, now_ms)

    def pulled(self, address: str, now_ms: int) -> None:
        """It asks for something to send: `address` is where it waits."""
        self._address, self._pulled_ms = address, now_ms

    def address(self, now_ms: int) -> str | None:
        """Where it waits for downlinks, if it does."""
        return self._address if self._pulled_ms is not None and now_ms - self._pulled_ms <= ROUTE_MS else None

    def reserve(self, frequency_hz: int, air_us: int, now_ms: int) -> bool:
        """Whether law and configuration let it transmit so long now; if so, that is kept until `settle`."""
        band = band_of(frequency_hz)
        if band is None:
            return False
        reserved_us = self._reserved_us.get(band, 0) + air_us
        if self._budget(band).due_ms(reserved_us, now_ms) != now_ms:
            return False
        self._reserved_us[band] = reserved_us
        return True

    def settle(self, frequency_hz: int, air_us: int, sent: bool, now_ms: int) -> None:
        """What was reserved was sent (as far as anybody knows), or surely was not."""
        band = band_of(frequency_hz)
        if band is not None:
            self._reserved_us[band] -= air_us
            if sent:
                self._budget(band).spend(air_us, now_ms)

    def failed(self, error: str) -> None:
        """It refused to send; `error` is one of few words."""
        self.tx_errors[error] = self.tx_errors.get(error, 0) + 1

    def as_slot(self, now_ms: int) -> dict[str, Any]:
        """What it has transmitted of late, by sub-band: no restart of the gateway gives it a new hour."""
        return {str(band): budget.as_slot(now_ms) for band, budget in self._bands.items()}

    def _budget(self, band: int) -> DutyCycle:
        if band not in self._bands:
            self._bands[band] = DutyCycle(min(ppm_of(band), self._duty_ppm))
        return self._bands[band]

    def view(self, now_ms: int) -> dict[str, Any]:
        """What people want to know; airtime is that of the last hour."""
        return {
            "eui": self.eui,
            "silent_ms": now_ms - self.heard_ms,
            "reachable": self.address(now_ms) is not None,
            "packets": self.packets,
            "crc_failed": self.crc_failed,
            "copies": self.copies,
            "downlinks": self.downlinks,
            "tx_errors": dict(self.tx_errors),
            "airtime_ms": sum([budget.used_us(now_ms) for budget in self._bands.values()]) // 1000,
        }


class Concentrators:
    """All of them by EUI: those of the configuration, or, without a list, the first few that speak.

    Without a list one that was silent for an hour makes room for another; nothing of its duty cycle counts then.
    """

    def __init__(self, config: LoraConfig, kept: dict[str, Any]) -> None:
        """`kept`: `Concentrator.as_slot` by EUI."""
        self._config = config
        self._kept = kept
        self.all: dict[str, Concentrator] = {}

    def get(self, eui: str, now_ms: int) -> Concentrator | None:
        """The concentrator that just spoke; None for one that is not ours."""
        found = self.all.get(eui)
        if found is None:
            if not self._is_welcome(eui, now_ms):
                return None
            found = self.all[eui] = Concentrator(eui, self._config.duty_ppm, self._kept.pop(eui, {}), now_ms)
        found.heard_ms = now_ms
        return found

    def _is_welcome(self, eui: str, now_ms: int) -> bool:
        if self._config.euis:
            return eui in self._config.euis
        if len(self.all) >= MOST_CONCENTRATORS:
            quietest = min(self.all.values(), key=lambda each: each.heard_ms)
            if now_ms - quietest.heard_ms <= FORGET_MS:
                return False
            del self.all[quietest.eui]
        return True
