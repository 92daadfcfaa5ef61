"""Ready-made sensors and boards: what the usual deployments of a Clawland fleet measure, how finely and how often.

A sensor's `low` and `high` are those of its part, in units of 10^-`exp`; what lies outside is a fault. `stuck_ms` is
given where air or a machine is never so still: the last digit of such a part moves by itself.
"""

HOUR_MS = 3600000

SENSORS = {
    # periodic
    "temp": {"unit": "°C", "exp": 2, "low": -4000, "high": 8500, "every_ms": 60000},
    "probe_temp": {"unit": "°C", "exp": 2, "low": -5500, "high": 12500, "every_ms": 60000},  # DS18B20
    "humidity": {"unit": "%", "exp": 2, "low": 0, "high": 10000, "every_ms": 60000},
    "pressure": {"unit": "hPa", "exp": 1, "low": 3000, "high": 11000, "every_ms": 600000},  # BME280
    "co2": {"unit": "ppm", "exp": 0, "low": 300, "high": 40000, "every_ms": 60000, "stuck_ms": 4 * HOUR_MS},  # SCD4x
    "vibration": {"unit": "mm/s", "exp": 2, "low": 0, "high": 10000, "every_ms": 10000, "stuck_ms": HOUR_MS},
    "leak": {"unit": "", "every_ms": 30000, "event": True},  # asked periodically, and forwarded at once
    "soil_moisture": {"unit": "%", "exp": 1, "low": 0, "high": 1000, "every_ms": 1800000},
    "wind_speed": {"unit": "m/s", "exp": 1, "low": 0, "high": 750, "every_ms": 600000},
    "rain": {"unit": "mm", "exp": 1, "low": 0, "high": 10000, "every_ms": 600000},
    "position": {"unit": "", "every_ms": 600000},  # a text, `48.117300,11.516667`
    "battery": {"unit": "V", "exp": 2, "low": 0, "high": 6000, "every_ms": HOUR_MS},
    # events
    "door": {"unit": "", "event": True},
    "motion": {"unit": "", "event": True},
    "rfid": {"unit": "", "event": True},  # a text, the card's id
}

# Type of node and its sensors, by what it is for (specification, deployment examples).
NODES = {
    "room": ("microclaw", ("temp", "humidity")),
    "meeting-room": ("microclaw", ("co2", "temp", "humidity")),
    "door": ("picoclaw", ("door",)),
    "motion": ("picoclaw", ("motion",)),
    "machine": ("microclaw", ("vibration",)),
    "equipment": ("microclaw", ("probe_temp",)),
    "water-leak": ("microclaw", ("leak",)),
    "warehouse-gate": ("picoclaw", ("rfid",)),
    "soil": ("microclaw", ("soil_moisture", "battery")),
    "weather-station": ("microclaw", ("temp", "humidity", "pressure", "wind_speed", "rain")),
    "collar": ("microclaw", ("position", "battery")),
}


def sensor(name: str) -> dict:
    """The configuration of one sensor, as `firmware.core.sensors.Sensor` takes it. Raises KeyError."""
    found: dict = {"exp": 0, "low": None, "high": None, "every_ms": None, "event": False, "stuck_ms": None}
    found.update(SENSORS[name])
    found["metric"] = name
    return found


def node(name: str) -> dict:
    """`type` and `sensors` of a node for this purpose. Raises KeyError."""
    kind, sensors = NODES[name]
    return {"type": kind, "sensors": [sensor(metric) for metric in sensors]}
