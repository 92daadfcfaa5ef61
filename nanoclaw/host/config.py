"""The gateway's configuration: flags over `CLAWLAND_*` variables over the TOML file over defaults, parsed once."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from firmware.hosting.config import ConfigError, Table, load_toml
from firmware.hosting.tls import ClientTls
from firmware.wire.ids import valid_metric
from nanoclaw.core.config import GatewayConfig
from nanoclaw.core.failback import NEVER, POLICIES, Policy
from nanoclaw.core.lines import LineConfig
from nanoclaw.core.reduction import MODES
from nanoclaw.host.lines_config import BACKUP_KEYS, SerialConfig, Way, is_specific, serial_of, ways_of
from nanoclaw.host.lora_config import LORA_KEYS, LoraSettings, lora_settings
from nanoclaw.host.sensor_tls import SensorTls

__all__ = ["EXAMPLE", "ConfigError", "GatewaySettings", "load_settings"]

EXAMPLE = """\
# Any value may also come from a variable, as CLAWLAND_UPLINK_HOST for host in [uplink].
[gateway]
id = "gateway-01"
fleet = "clawland"
site = "site-01"
role = "primary"                 # or "secondary": nodes then choose it only when no primary is left
key_file = "gateway-01.key"      # 64 hexadecimal digits, as the fleet manager has them; chmod 600

[uplink]                         # the Event Hub, and the network that leads there
name = "ethernet"                # how status and logs call it
host = "hub.example.org"
port = 1883                      # 8883 with TLS
# tls = true                     # after `nanoclaw enrol`, which puts certificates into pki/ in the data directory
# ca = "ca.crt"                  # or where else the certificates lie; the key may be in the certificate's file
# certificate = "gateway.crt"
# key = "gateway.key"
# interface = "eth0"             # connect through this interface and no other (Linux)
# bind_address = "192.168.1.100" # or from this address
# daily_mb = 50                  # the line is metered: batches become rarer so that so many MB last the day (UTC)

# [backup]                       # used while [uplink] does not work; TLS is the same for both
# name = "4g"
# host = "hub.example.org"       # the same as of [uplink] when left out, and so with the port
# interface = "wwan0"
# daily_mb = 50

[local]                          # the broker that nodes connect to
host = "127.0.0.1"               # the gateway's address on the sensors' network, for nodes on other machines
port = 1883                      # 0: any free one
broker = "embedded"              # or "mosquitto"
data = "/var/lib/nanoclaw"       # outbox, configuration snapshot, status
# tls = true                     # nodes that can speak TLS, and pin this gateway's certificate (`nanoclaw status`)
# tls_port = 8883                # 0: any free one
# certificate = "sensors.pem"    # key and certificate; made in the data directory when left out
# plain = true                   # with tls: leave the port without it open to nodes that cannot
# advertise_port = 1883          # when nodes reach the broker on another port

# [[serial]]                     # a port with nodes at the other end, one or many; one such table for each port
# url = "/dev/ttyUSB0"           # a device, or socket://host:port, or rfc2217://host:port
# speed = 115200                 # in baud
# name = "barn"                  # how status and logs call it

# [lora]                         # concentrators that hear nodes by radio, with Semtech's UDP packet forwarder
# host = "127.0.0.1"             # where they send to; for those on other machines the address on a trusted network
# port = 1700                    # UDP; 0: any free one
# euis = ["aa555a0000000101"]    # who may; needed unless host is this machine alone
# region = "EU868"
# duty_cycle_percent = 1         # of an hour that one may transmit in a sub-band, where the law allows more
# power_dbm = 14

[discovery]                      # mDNS, so that nodes find this gateway when theirs falls silent
enabled = true
# interface = "127.0.0.1"        # the address to announce on; that of [local] when left out

[monitor]                        # /healthz, /metrics and /status by HTTP
# port = 9109                    # 0: any free one; none when left out
# host = "127.0.0.1"             # whoever reaches it may read it

[tuning]                         # milliseconds unless the name says otherwise; these are the defaults
# window_ms = 60000
# offline_after_ms = 90000
# outbox_max_readings = 200000
# failback_after_ms = 600000
# failback_hold_ms = 300000      # a home counts only when it has been up for so long without a break

[failback]                       # when nodes that fled here go back to their home, which the cloud hears again
policy = "never"                 # "idle": when nothing is under way; "after": when it has been up for a while

[modes]                          # what goes up a metered uplink, by metric; raw where nothing is said
# temp = "summary"               # count, min, mean and max of each minute
# humidity = "on_change"         # only what differs from the value before it
"""

ENV_PREFIX = "CLAWLAND_"
_KEYS = {
    "gateway": ("id", "fleet", "site", "role", "key_file"),
    "uplink": ("name", "host", "port", "interface", "bind_address", "daily_mb", "tls", "ca", "certificate", "key"),
    "backup": BACKUP_KEYS,
    "local": ("host", "port", "broker", "data", "tls", "tls_port", "certificate", "plain", "advertise_port"),
    "lora": LORA_KEYS,
    "discovery": ("enabled", "interface"),
    "monitor": ("host", "port"),
    "failback": ("policy",),
}
MB = 1_000_000
_MAX_TUNING = 2**31 - 1


@dataclass(frozen=True)
class GatewaySettings:
    """All that a gateway daemon is told."""

    core: GatewayConfig
    ways: tuple[Way, ...]
    """The primary, and the backup if there is one; in the order of `core.lines`."""
    serial: tuple[SerialConfig, ...]
    local_host: str
    local_port: int
    local_tls: SensorTls | None
    local_plain: bool
    """Whether nodes may come without TLS."""
    broker: str
    advertise_port: int | None
    lora: LoraSettings | None
    data: Path
    discovery: bool
    interface: str
    seed: int | None
    uplink_tls: bool
    tls: ClientTls  # where the certificates are, or will be after enrolment

    monitor_host: str
    monitor_port: int | None
    key_file: Path
    """Where the key of `core` was read."""

    @property
    def uplink(self) -> str:
        """The address of the hub over the primary line, as "host:port"."""
        return self.ways[0].target


def load_settings(
    file: Path, flags: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None
) -> GatewaySettings:
    """The settings in a TOML file; raises `ConfigError`, which says where the mistake is.

    `flags` are values by "table.key"; `environ` is the process's own by default.
    """
    overrides = _from_environment(os.environ if environ is None else environ)
    overrides.update({path: (_flag(path), text) for path, text in (flags or {}).items()})
    root = load_toml(file, overrides)
    names = (*_KEYS, "tuning", "modes")
    with_lora = root.has("lora")
    tables = {name: root.table(name) for name in names}
    serial = root.tables("serial")
    root.finish()
    settings = _settings(tables, serial, with_lora)
    for table in (*tables.values(), *serial):
        table.finish()
    return settings


def _settings(tables: Mapping[str, Table], serial: list[Table], with_lora: bool) -> GatewaySettings:
    uplink, local, discovery, monitor = (tables[name] for name in ("uplink", "local", "discovery", "monitor"))
    data, tls = local.path("data"), uplink.boolean("tls", False)
    ways, local_host = ways_of(uplink, tables["backup"], tls), local.text("host", "127.0.0.1")
    lora, radio = lora_settings(tables["lora"], with_lora)
    core = _core(tables["gateway"], tables["tuning"], tables["modes"], ways, tls, tables["failback"])
    return GatewaySettings(
        core=dataclasses.replace(core, lora=radio),
        ways=ways,
        serial=serial_of(serial),
        local_host=local_host,
        local_port=local.integer("port", 0, 65535, 0),
        local_tls=_sensor_tls(local, data),
        local_plain=local.boolean("plain", False) if local.boolean("tls", False) else True,
        broker=local.choice("broker", ("embedded", "mosquitto"), "embedded"),
        advertise_port=local.optional_integer("advertise_port", 1, 65535),
        lora=lora,
        data=data,
        discovery=discovery.boolean("enabled", True),
        interface=discovery.text("interface", local_host if is_specific(local_host) else "127.0.0.1"),
        seed=tables["gateway"].optional_integer("seed", 0, 2**63 - 1),
        uplink_tls=tls,
        tls=_tls(uplink, data / "pki"),
        monitor_host=monitor.text("host", "127.0.0.1"),
        monitor_port=monitor.optional_integer("port", 0, 65535),
        key_file=tables["gateway"].path("key_file"),
    )


def _sensor_tls(local: Table, data: Path) -> SensorTls | None:
    if not local.boolean("tls", False):
        for key in ("tls_port", "certificate", "plain"):
            if local.has(key):
                raise local.fail(key, "means nothing without tls = true")
        return None
    pair = local.path("certificate") if local.has("certificate") else data / "sensors.pem"
    return SensorTls(local.integer("tls_port", 0, 65535, 8883), pair)


def _tls(uplink: Table, directory: Path) -> ClientTls:
    certificate = uplink.path("certificate") if uplink.has("certificate") else directory / "gateway.pem"
    key = uplink.path("key") if uplink.has("key") else certificate
    return ClientTls(uplink.path("ca") if uplink.has("ca") else directory / "ca.crt", certificate, key)


def _core(
    gateway: Table, tuning: Table, modes: Table, ways: tuple[Way, ...], tls: bool, failback: Table
) -> GatewayConfig:
    numbers = {field.name: field for field in dataclasses.fields(GatewayConfig) if field.type in (int, "int")}
    given: dict[str, Any] = {name: tuning.integer(name, 1, _MAX_TUNING) for name in numbers if tuning.has(name)}
    role = gateway.choice("role", ("primary", "secondary"), "primary")
    return GatewayConfig(
        id=gateway.identity("id"),
        key=gateway.key_file("key_file"),
        fleet_id=gateway.identity("fleet", "clawland"),
        site=gateway.identity("site", "site-01"),
        role="primary" if role == "primary" else "secondary",
        failback=cast(Policy, failback.choice("policy", POLICIES, NEVER)),
        modes={metric: modes.choice(metric, MODES) for metric in _metrics(modes)},
        lines=tuple(LineConfig(way.name, way.daily_mb * MB if way.daily_mb else None, tls) for way in ways),
        **given,
    )


def _metrics(modes: Table) -> list[str]:
    """The metrics of [modes]; raises ConfigError for a name that no metric can have."""
    for metric in modes.names():
        if not valid_metric(metric):
            raise modes.fail(metric, f"{metric!r} cannot be a metric")
    return modes.names()


def _from_environment(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    overrides = {}
    for table, keys in _KEYS.items():
        for key in keys:
            name = f"{ENV_PREFIX}{table}_{key}".upper()
            if name in environ:
                overrides[f"{table}.{key}"] = (name, environ[name])
    return overrides


def _flag(path: str) -> str:
    table, _, key = path.partition(".")
    return "--" + (key if path in ("local.data",) else f"{table}-{key}").replace("_", "-")
