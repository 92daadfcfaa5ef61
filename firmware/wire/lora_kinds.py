"""The usual metrics by the numbers that LoRa frames have for them."""

# Metric, unit, decimals. Frames of every version speak with these numbers: add at the end, change nothing.
KINDS = (
    ("temp", "°C", 2),
    ("probe_temp", "°C", 2),
    ("humidity", "%", 2),
    ("pressure", "hPa", 1),
    ("co2", "ppm", 0),
    ("vibration", "mm/s", 2),
    ("leak", "", 0),
    ("soil_moisture", "%", 1),
    ("wind_speed", "m/s", 1),
    ("rain", "mm", 1),
    ("position", "", 0),
    ("battery", "V", 2),
    ("door", "", 0),
    ("motion", "", 0),
    ("rfid", "", 0),
)
