"""The part of a node's TOML file that is about a board: its kind, its Wi-Fi, its pins and the parts at them."""

from typing import Any

from firmware.hosting.config import Table
from firmware.hosts.micro import esp32, pico

KINDS = (esp32.NAME, pico.NAME)
BOARD_EXAMPLE = """\
[node]
id = "sensor-01"
type = "microclaw"               # or "picoclaw"
fleet = "clawland"
key_file = "sensor-01.key"       # 64 hexadecimal digits, from `fleet nodes add`; chmod 600
# sealing_key_file = "sensor-01.sealing.key"   # the same, for sensors with `sealed = true`; no gateway has it
backlog_readings = 100           # kept until acknowledged; beyond that the oldest is lost; at most 200
# heartbeat_ms = 60000
# sleep = true                   # sleep between samples
# low_battery_mv = 3300          # below it all intervals are five times as long

[gateway]
id = "gateway-01"
host = "192.168.1.100"           # as the board reaches it
port = 1883                      # without TLS, which boards do not speak

[board]                          # with stock MicroPython
kind = "pico-w"                  # or "esp32"
wifi_ssid = "shed"
wifi_password_file = "wifi.password"   # its first line is the password; chmod 600
# alarm_pin = 15                 # of a buzzer or a lamp
# led_pin = 2                    # blinks on `identify`, unless the board's own shall
# battery = { pin = 26, low = [500, 76], high = [65000, 9819] }   # [raw, millivolts] at two points of its divider
# deep_sleep_from_ms = 60000     # esp32 with node.sleep: a shorter sleep keeps its memory

[[parts]]
name = "air"
kind = "dht22"                   # analog, contact, dht22, ds18b20, gps, level, rc522 or scd4x: see docs/firmware.md
pin = 4

[[sensors]]
profile = "temp"                 # unit, range and interval of a usual sensor; what is given beside it counts
part = "air"
what = "temp"
# every_ms = 60000
# stuck_ms = 14400000            # the same value for longer is a fault
# sealed = true                  # only the fleet manager can read the values; needs sealing_key_file

[[sensors]]
profile = "humidity"
part = "air"
what = "humidity"

# [[rules]]                      # the node sounds its alarm by itself, also without a gateway
# name = "hot"
# when = { metric = "temp", op = ">", value = 30 }
# clear = { metric = "temp", op = "<", value = 29 }
"""
_MAX_SSID_BYTES, _MAX_PASSWORD_BYTES = 32, 63  # IEEE 802.11, and WPA's pass phrases
_MAX_PIN = 48
_MAX_RAW = 65535
_MAX_VALUE = 2**31 - 1
# By kind of part: what it must and what it may be told, and what it measures; None speaks for itself.
_PINS = ("pin", "scl", "sda", "sck", "mosi", "miso", "select", "tx", "rx")
_PARTS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...] | None]] = {
    "analog": (("pin", "what", "low", "high"), ("exp",), ()),
    "contact": (("pin",), ("active_low", "debounce_ms", "hold_ms"), None),
    "dht22": (("pin",), (), ("temp", "humidity")),
    "ds18b20": (("pin",), ("rom",), ("temp",)),
    "gps": (("tx", "rx"), ("baud", "bus"), ("position",)),
    "level": (("pin", "what"), ("active_low",), ()),
    "rc522": (("sck", "mosi", "miso", "select"), ("bus",), None),
    "scd4x": (("scl", "sda"), ("bus",), ("co2", "temp", "humidity")),
}


def load_board(board: Table, parts: list[Table], sensors: list[Table]) -> dict[str, Any]:
    """What the board's host reads as `board` in node.json; raises `ConfigError`. `sensors` in the core's order."""
    found: dict[str, Any] = {"kind": board.choice("kind", KINDS)}
    found["wifi_ssid"] = _short(board, "wifi_ssid", _MAX_SSID_BYTES)
    found["wifi_password"] = _password(board)
    for key in ("alarm_pin", "led_pin"):
        if board.has(key):
            found[key] = board.integer(key, 0, _MAX_PIN)
    if board.has("deep_sleep_from_ms"):
        if found["kind"] != esp32.NAME:
            raise board.fail("deep_sleep_from_ms", f"only {esp32.NAME} sleeps deeply")
        found["deep_sleep_from_ms"] = board.integer("deep_sleep_from_ms", 1000, 2**40)
    if board.has("battery"):
        found["battery"] = _battery(board.table("battery"))
    found["parts"] = _parts(parts)
    found["sensors"] = [_sensor(table, found["parts"]) for table in sensors]
    return found


def _short(table: Table, key: str, most_bytes: int) -> str:
    text = table.text(key)
    if len(text.encode()) > most_bytes:
        raise table.fail(key, f"must be at most {most_bytes} bytes long")
    return text


def _password(board: Table) -> str:
    """The first line of a file that only its owner reads. Errors never show it."""
    key = "wifi_password_file"
    path = board.path(key)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise board.fail(key, f"{path} cannot be read: {getattr(error, 'strerror', 'it is not UTF-8 text')}") from None
    if mode & 0o007:
        raise board.fail(key, f"{path} is open to every user of this machine: chmod 600 {path}")
    if not lines or not 8 <= len(lines[0].encode()) <= _MAX_PASSWORD_BYTES:
        raise board.fail(key, f"{path} must begin with a password of 8 to {_MAX_PASSWORD_BYTES} bytes")
    return lines[0]


def _battery(table: Table) -> dict[str, Any]:
    found: dict[str, Any] = {"pin": table.integer("pin", 0, _MAX_PIN)}
    found |= {key: _point(table, key) for key in ("low", "high")}
    table.finish()
    return found


def _point(table: Table, key: str) -> list[int]:
    raw, value = table.integers(key, 2)
    if not 0 <= raw <= _MAX_RAW:
        raise table.fail(key, f"the raw value must be from 0 to {_MAX_RAW}, not {raw}")
    return [raw, value]


def _parts(tables: list[Table]) -> dict[str, dict[str, Any]]:
    parts: dict[str, dict[str, Any]] = {}
    for table in tables:
        name = table.text("name")
        if name in parts:
            raise table.fail("name", f"there are two parts {name!r}")
        parts[name] = _part(table)
        table.finish()
    return parts


def _part(table: Table) -> dict[str, Any]:
    kind = table.choice("kind", sorted(_PARTS))
    must, may, _ = _PARTS[kind]
    return {"kind": kind, **{key: _setting(table, key) for key in (*must, *may) if key in must or table.has(key)}}


def _setting(table: Table, key: str) -> Any:
    if key in _PINS:
        return table.integer(key, 0, _MAX_PIN)
    if key in ("low", "high"):
        return _point(table, key)
    if key in ("what", "rom"):
        return table.text(key)
    if key == "active_low":
        return table.boolean(key)
    return table.integer(key, 0, _MAX_VALUE)


def _sensor(table: Table, parts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    if table.has("signal"):
        raise table.fail("signal", "is for a process: a board has a `part`")
    name = table.choice("part", sorted(parts))
    measures = _PARTS[parts[name]["kind"]][2]
    if measures is None:
        return {"part": name}
    return {"part": name, "what": table.choice("what", measures or (parts[name]["what"],))}
