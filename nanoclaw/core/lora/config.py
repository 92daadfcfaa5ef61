"""What a gateway is told of its radio: the concentrators, and the law of the region."""

from dataclasses import dataclass

REGIONS = ("EU868",)
MOST_POWER_DBM = 14
"""25 mW, in all of the sub-bands but one (ETSI EN 300 220-2, annex B)."""

_SUB_BANDS = (
    (863_000_000, 865_000_000, 1_000),
    (865_000_000, 868_000_000, 10_000),
    (868_000_000, 868_600_000, 10_000),
    (868_700_000, 869_200_000, 1_000),
    (869_400_000, 869_650_000, 100_000),
    (869_700_000, 870_000_000, 10_000),
)
"""From, to, and the share of an hour in millionths: K, L, M, N, P and Q of the same annex."""


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """A LoRa port; a gateway without one has none of these."""

    euis: frozenset[str] = frozenset()
    """The concentrators that are listened to, 16 hexadecimal digits each; empty: all, for a port on loopback."""
    power_dbm: int = 14
    duty_ppm: int = 1_000_000
    """How much of an hour a concentrator transmits in a sub-band at most, in millionths, where the law allows more."""


def band_of(frequency_hz: int) -> int | None:
    """Where the sub-band of EU868 begins that this frequency is in, in Hz; None outside of all."""
    return next((first_hz for first_hz, end_hz, _ in _SUB_BANDS if first_hz <= frequency_hz < end_hz), None)


def ppm_of(band: int) -> int:
    """What the law allows in the sub-band that begins there, in millionths of an hour; nothing where there is none."""
    return next((ppm for first_hz, _, ppm in _SUB_BANDS if first_hz == band), 0)
