"""The configuration file of a node that runs as a process; `EXAMPLE` is one."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firmware.core import profiles
from firmware.core.rules import problem as problem_of_rules
from firmware.hal.recording import RecordingError
from firmware.hal.signals import Signal, SignalError, signal_from_spec
from firmware.hosting.config import ConfigError, Table, load_toml
from firmware.hosting.tls import PinnedTls
from firmware.hosts.board_settings import load_board
from firmware.wire.ids import valid_metric
from firmware.wire.lora import frame_key

EXAMPLE = """\
[node]
id = "sensor-01"
type = "microclaw"               # or "picoclaw"
fleet = "clawland"
key_file = "sensor-01.key"       # 64 hexadecimal digits, from `fleet nodes add`; chmod 600
# sealing_key_file = "sensor-01.sealing.key"   # the same, for sensors with `sealed = true`; no gateway has it
data = "sensor-01"               # directory of the flash
# sync = true                    # have the disk confirm each write
# heartbeat_ms = 60000
# backlog_readings = 1000        # kept until acknowledged; beyond that the oldest is lost; at most 100 in 48 KB of heap
# sleep = true                   # sleep between samples
# low_battery_mv = 3300          # below it all intervals are five times as long
# battery_mv = 3700              # what the battery is said to have: a process has none to measure
# free_memory_kb = 100           # what the heartbeat says of the memory: the same
# version = "1.2.0"              # what it says of the firmware, instead of the firmware's own
# seed = 7                       # for rehearsals: the same chance every time
# sample_until_ms = 3600000      # for rehearsals: nothing is sampled from then on

[gateway]
id = "gateway-01"
host = "127.0.0.1"
port = 1883
# tls = true                     # not on boards; the port is then usually 8883
# With tls: the gateway's certificate, as `nanoclaw status` shows it; those of several gateways with commas.
# fingerprint = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0"
# bind_address = "127.0.0.2"     # local address to connect from
# At the end of a cable, instead of host and port: serial, which is a device (/dev/ttyUSB0) or a URL
# (socket://host:port, rfc2217://host:port), and perhaps speed in baud (115200).

# Two # are before what stands instead of [gateway] and [discovery], and not beside them:
## [lora]                        # on the radio instead of [gateway]: no IP, no beacon, within its duty cycle
## sf = 9                        # spreading factor, 7 (near) to 12 (far)
## concentrator = "127.0.0.1:1700"   # a process has no radio: it speaks to a gateway's port for concentrators

[discovery]
interface = "127.0.0.1"          # where to look for other gateways when this one falls silent

[[sensors]]
metric = "temp"
unit = "°C"
exp = 2                          # values, low and high are integers in 0.01 °C
low = -4000
high = 8500
every_ms = 60000
# stuck_ms = 14400000            # the same value for longer is a fault
# event = true                   # forwarded at once, not with the next summary
signal = { kind = "sine", mean = 22.0, amplitude = 3.0, period_ms = 86400000 }
# sealed = true                  # only the fleet manager can read the values; needs sealing_key_file

# [[sensors]]
# profile = "co2"                # unit, range and interval of a usual sensor; what is given beside it counts
# signal = { kind = "constant", value = 600 }

# [[rules]]                      # the node sounds its alarm by itself, also without a gateway
# name = "hot"
# when = { metric = "temp", op = ">", value = 30 }
# clear = { metric = "temp", op = "<", value = 29 }
"""

NODE_TYPES = ("microclaw", "picoclaw", "picclaw")
_MAX_VALUE = 2**31 - 1
_MAX_MS = 2**40
_OPTIONAL_OF_A_SENSOR = (
    ("low", -_MAX_VALUE, _MAX_VALUE),
    ("high", -_MAX_VALUE, _MAX_VALUE),
    ("every_ms", 1, _MAX_MS),
    ("stuck_ms", 1, _MAX_MS),
)
_SIGNAL_DEFAULTS = {"type": "number", "phase_ms": 0, "time": "time", "seed": 0}


@dataclass(frozen=True)
class NodeSettings:
    """All that a node process is told. `core` is the node core's configuration, `signals` are in its sensors' order.

    `sealing_key` is that of `core["seal_block"]`, for whoever has an AES of its own. `sample_until_ms` is the core time
    from which on nothing is sampled, for rehearsals.
    """

    core: dict[str, Any]
    sealing_key: bytes | None
    signals: tuple[Signal, ...]
    data: Path
    sync: bool
    tls: PinnedTls | None
    bind_address: str
    speed: int | None
    """In baud, of a serial line to the gateway; None where the link is MQTT."""
    interface: str
    seed: int | str | None
    sample_until_ms: int | None
    backlog_given: bool = True
    """Whether the file itself says how many readings to keep."""
    concentrator: tuple[str, int] | None = None
    """Of a node on the radio: host and port of the gateway's port for concentrators."""
    board: dict[str, Any] | None = None
    """What `firmware.hosts.board_settings` found; then there are no signals."""

    @property
    def id(self) -> str:
        return str(self.core["id"])


def load_settings(file: Path) -> NodeSettings:
    """The settings in a TOML file; raises `ConfigError` with `file: key: message`."""
    root = load_toml(file)
    node, gateway, discovery = root.table("node"), root.table("gateway"), root.table("discovery")
    sensors, rules, lora = root.tables("sensors"), root.tables("rules"), root.table("lora")
    on_radio = root.has("lora")
    if on_radio and root.has("gateway"):
        raise root.fail("lora", "a node on the radio has no [gateway]: whichever hears it forwards")
    board = root.table("board") if root.has("board") else None
    if board is not None:
        _refuse_for_boards(root, on_radio)
    parts = root.tables("parts") if board is not None else []
    root.finish()
    if not sensors:
        raise root.fail("sensors", "a node needs at least one [[sensors]] table")
    sealing_key = node.key_file("sealing_key_file") if node.has("sealing_key_file") else None
    home, speed = ({"id": "", "target": ""}, None) if on_radio else _home(gateway)
    core = {
        **_core_settings(node, sealing_key),
        "home": home,
        "wired": speed is not None,
        "sensors": [_sensor(table) for table in sensors],
    }
    core |= _radio(lora, core["key"]) if on_radio else {}
    core["rules"] = _rules(root, rules)
    _refuse_repeats(sensors, core["sensors"])
    if "seal_block" not in core and any(sensor["sealed"] for sensor in core["sensors"]):
        raise node.fail("sealing_key_file", "is missing: a sensor is sealed")
    settings = NodeSettings(
        core=core,
        sealing_key=sealing_key,
        signals=tuple(_signals(sensors, core["sensors"]) if board is None else ()),
        data=node.path("data") if board is None else file.parent,
        sync=node.boolean("sync", False),
        tls=_tls(gateway),
        bind_address=gateway.text("bind_address", ""),
        speed=speed,
        interface=discovery.text("interface", "127.0.0.1"),
        seed=_seed(node),
        sample_until_ms=node.optional_integer("sample_until_ms", 0, _MAX_MS),
        backlog_given=node.has("backlog_readings"),
        concentrator=_concentrator(lora) if on_radio else None,
        board=None if board is None else load_board(board, parts, sensors),
    )
    for table in (node, gateway, discovery, lora, *sensors, *rules, *([board] if board else [])):
        table.finish()
    return settings


def _refuse_for_boards(root: Table, on_radio: bool) -> None:
    if on_radio:
        raise root.fail("lora", "the boards' host knows Wi-Fi only; a radio at a board is not wired in yet")
    if root.has("discovery"):
        raise root.fail("discovery", "leave it out: a board looks for gateways on its Wi-Fi")


def _core_settings(node: Table, sealing_key: bytes | None) -> dict[str, Any]:
    core: dict[str, Any] = {
        "id": node.identity("id"),
        "fleet": node.identity("fleet", "clawland"),
        "type": node.choice("type", NODE_TYPES, "microclaw").replace("picclaw", "picoclaw"),
        "key": node.key_file("key_file"),
        "heartbeat_ms": node.integer("heartbeat_ms", 1000, _MAX_MS, 60_000),
        "backlog_readings": node.integer("backlog_readings", 1, 1_000_000, 1000),
    }
    if node.has("version"):
        core["version"] = node.text("version")
    core["sleep"] = node.boolean("sleep", False)
    if sealing_key is not None:
        from firmware.hosting.aes import aes_block  # loads a library that most nodes need not have

        core["seal_block"] = aes_block(sealing_key)
    for key in ("free_memory_kb", "battery_mv", "low_battery_mv"):
        if node.has(key):
            core[key] = node.integer(key, 0, _MAX_VALUE)
    return core


def _home(gateway: Table) -> tuple[dict[str, str], int | None]:
    """The gateway to begin with, and the speed of the line to it if that is a serial one."""
    if gateway.has("serial"):
        return _at_a_cable(gateway)
    if gateway.has("speed"):
        raise gateway.fail("speed", "belongs to a serial line, and serial is missing")
    usual_port = 8883 if gateway.has("tls") and gateway.boolean("tls") else 1883
    host, port = gateway.text("host", "127.0.0.1"), gateway.integer("port", 1, 65535, usual_port)
    return {"id": gateway.identity("id"), "target": f"[{host}]:{port}" if ":" in host else f"{host}:{port}"}, None


def _at_a_cable(gateway: Table) -> tuple[dict[str, str], int]:
    from firmware.cable import stream  # loads a library that most nodes need not have

    for key in ("host", "port", "bind_address", "tls", "fingerprint"):
        if gateway.has(key):
            raise gateway.fail(key, "leave it out: serial says already where the gateway is")
    url = gateway.text("serial")
    problem = stream.problem_of_url(url)
    if problem:
        raise gateway.fail("serial", problem)
    least, most = stream.LEAST_SPEED, stream.MOST_SPEED
    speed = gateway.integer("speed", least, most, stream.DEFAULT_SPEED)
    return {"id": gateway.identity("id"), "target": url}, speed


def _radio(lora: Table, key: bytes) -> dict[str, Any]:
    from firmware.hosting.aes import aes_block  # loads a library that most nodes need not have

    return {"lora": {"sf": lora.integer("sf", 7, 12, 9)}, "frame_block": aes_block(frame_key(key))}


def _concentrator(lora: Table) -> tuple[str, int]:
    text = lora.text("concentrator", "127.0.0.1:1700")
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65536:
        raise lora.fail("concentrator", f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def _tls(gateway: Table) -> PinnedTls | None:
    """The pins, which hold for every gateway that the node joins: a fallback's belong here, too."""
    if not gateway.boolean("tls", False):
        return None
    pins = tuple(pin.strip().lower().replace(":", "") for pin in gateway.text("fingerprint").split(","))
    if not all(re.fullmatch("[0-9a-f]{64}", pin) for pin in pins):
        raise gateway.fail("fingerprint", "must be SHA-256 fingerprints of 64 hexadecimal digits, separated by commas")
    return PinnedTls(pins)


def _rules(root: Table, tables: list[Table]) -> list[dict[str, Any]]:
    rules = [
        {
            "name": table.text("name"),
            "when": table.raw("when"),
            "clear": table.raw("clear") if table.has("clear") else None,
        }
        for table in tables
    ]
    if problem := problem_of_rules(rules):
        raise root.fail("rules", problem)
    return rules


def _sensor(table: Table) -> dict[str, Any]:
    known: dict[str, Any] = {}
    if table.has("profile"):
        known = profiles.sensor(table.choice("profile", sorted(profiles.SENSORS)))
    metric = table.text("metric", known["metric"]) if known else table.text("metric")
    if not valid_metric(metric):
        raise table.fail("metric", f"{metric!r} cannot be a metric: use at most 32 of a-z, 0-9 and '_', a letter first")
    return {
        "metric": metric,
        "unit": table.text("unit", known.get("unit", "")),
        "exp": table.integer("exp", 0, 9, known.get("exp", 0)),
        "event": table.boolean("event", known.get("event", False)),
        "sealed": table.boolean("sealed", False),
        **{
            key: table.integer(key, low, high) if table.has(key) else known.get(key)
            for key, low, high in _OPTIONAL_OF_A_SENSOR
        },
    }


def _refuse_repeats(tables: list[Table], sensors: list[dict[str, Any]]) -> None:
    seen: set[str] = set()
    for table, sensor in zip(tables, sensors, strict=True):
        if sensor["metric"] in seen:
            raise table.fail("metric", f"{sensor['metric']!r} is measured twice")
        seen.add(sensor["metric"])


def _signals(tables: list[Table], sensors: list[dict[str, Any]]) -> list[Signal]:
    return [_signal(table, sensor) for table, sensor in zip(tables, sensors, strict=True)]


def _signal(table: Table, sensor: dict[str, Any]) -> Signal:
    spec = {**_SIGNAL_DEFAULTS, "exp": sensor["exp"], **table.raw("signal")}
    if isinstance(spec.get("path"), str):
        spec["path"] = str(table.file.parent / spec["path"])
    try:
        signal = signal_from_spec(spec)
    except (SignalError, RecordingError) as error:
        raise table.fail("signal", str(error)) from None
    if sensor["every_ms"] is None and next(signal.instants(), None) is None:
        raise table.fail("every_ms", "is missing: this signal does not say by itself when to read it")
    return signal


def _seed(node: Table) -> int | str | None:
    if not node.has("seed"):
        return None
    try:
        return node.text("seed")
    except ConfigError:
        return node.integer("seed", -(2**63), 2**63 - 1)
