"""The well-known metrics: unit, resolution and plausible range, so that a scenario need not repeat them."""

from __future__ import annotations

from dataclasses import dataclass

from clawsim.scenario.plan import ValueKind


@dataclass(frozen=True, slots=True)
class Metric:
    """``decimals`` is the resolution; ``low`` and ``high`` are in ``unit``. ``event`` readings go upstream at once."""

    name: str
    unit: str
    decimals: int
    low: float
    high: float
    kind: ValueKind = "number"
    event: bool = False


WELL_KNOWN = {
    metric.name: metric
    for metric in (
        # Ranges are those of the parts that such nodes commonly carry: BME280 (temperature -40..85 °C, pressure
        # 300..1100 hPa), SCD30 (0..10,000 ppm full scale, Sensirion's datasheet), BH1750 (to 65,535 lx, doubled by its
        # sensitivity setting), an accelerometer's RMS velocity after ISO 10816's scale.
        Metric("temp", "°C", 2, -40, 85),
        Metric("humidity", "%", 2, 0, 100),
        Metric("pressure", "hPa", 1, 300, 1100),
        Metric("co2", "ppm", 1, 0, 10_000),
        Metric("light", "lx", 1, 0, 131_070),
        Metric("noise", "dB", 1, 0, 140),
        Metric("vibration", "mm/s", 2, 0, 100),
        Metric("soil_moisture", "%", 1, 0, 100),
        Metric("battery", "V", 2, 0, 60),
        Metric("door", "", 0, 0, 1, kind="bool", event=True),
        Metric("motion", "", 0, 0, 1, kind="bool", event=True),
        Metric("leak", "", 0, 0, 1, kind="bool", event=True),
        Metric("rfid", "", 0, 0, 0, kind="text", event=True),
    )
}
"""By name. The specification's office, factory, warehouse and farm measure these."""
