"""The gateway's configuration: flags over `CLAWLAND_*` variables over the TOML file over defaults, parsed once."""

import dataclasses
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firmware.cable.stream import DEFAULT_SPEED, LEAST_SPEED, MOST_SPEED, problem_of_url
from firmware.hosting.config import ConfigError, Table, load_toml
from firmware.hosting.tls import ClientTls
from firmware.wire.ids import valid_metric
from nanoclaw.core.config import GatewayConfig
from nanoclaw.core.lines import LineConfig
from nanoclaw.core.reduction import MODES

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
# advertise_port = 1883          # when nodes reach the broker on another port

# [[serial]]                     # a port with nodes at the other end, one or many; one such table for each port
# url = "/dev/ttyUSB0"           # a device, or socket://host:port, or rfc2217://host:port
# speed = 115200                 # in baud
# name = "barn"                  # how status and logs call it

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

[modes]                          # what goes up a metered uplink, by metric; raw where nothing is said
# temp = "summary"               # count, min, mean and max of each minute
# humidity = "on_change"         # only what differs from the value before it
"""

ENV_PREFIX = "CLAWLAND_"
_KEYS = {
    "gateway": ("id", "fleet", "site", "role", "key_file"),
    "uplink": ("name", "host", "port", "interface", "bind_address", "daily_mb", "tls", "ca", "certificate", "key"),
    "backup": ("name", "host", "port", "interface", "bind_address", "daily_mb"),
    "local": ("host", "port", "broker", "data", "advertise_port"),
    "discovery": ("enabled", "interface"),
    "monitor": ("host", "port"),
}
MB = 1_000_000
_MAX_TUNING = 2**31 - 1


@dataclass(frozen=True)
class Way:
    """A line to the cloud: where the hub is, and through which interface or from which address."""

    name: str
    host: str
    port: int
    interface: str
    bind_address: str
    daily_mb: int | None

    @property
    def target(self) -> str:
        """The hub's address as "host:port"."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def through(self) -> str:
        """Interface or address on this side, "" when the machine chooses."""
        return self.interface or self.bind_address


@dataclass(frozen=True)
class SerialConfig:
    """A serial port with nodes behind it."""

    name: str
    url: str
    speed: int


@dataclass(frozen=True)
class GatewaySettings:
    """All that a gateway daemon is told."""

    core: GatewayConfig
    ways: tuple[Way, ...]
    """The primary, and the backup if there is one; in the order of `core.lines`."""
    serial: tuple[SerialConfig, ...]
    local_host: str
    local_port: int
    broker: str
    advertise_port: int | None
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
    tables = {name: root.table(name) for name in names}
    serial = root.tables("serial")
    root.finish()
    settings = _settings(tables, serial)
    for table in (*tables.values(), *serial):
        table.finish()
    return settings


def _settings(tables: Mapping[str, Table], serial: list[Table]) -> GatewaySettings:
    uplink, local, discovery, monitor = (tables[name] for name in ("uplink", "local", "discovery", "monitor"))
    data, tls = local.path("data"), uplink.boolean("tls", False)
    ways, local_host = _ways(uplink, tables["backup"], tls), local.text("host", "127.0.0.1")
    return GatewaySettings(
        core=_core(tables["gateway"], tables["tuning"], tables["modes"], ways, tls),
        ways=ways,
        serial=_serial(serial),
        local_host=local_host,
        local_port=local.integer("port", 0, 65535, 0),
        broker=local.choice("broker", ("embedded", "mosquitto"), "embedded"),
        advertise_port=local.optional_integer("advertise_port", 1, 65535),
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


def is_specific(host: str) -> bool:
    """Whether `host` is an address that others can be told: a number, and not a wildcard."""
    try:
        return not ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _ways(uplink: Table, backup: Table, tls: bool) -> tuple[Way, ...]:
    first = _way(uplink, "uplink", uplink.text("host"), 8883 if tls else 1883)
    if not any(backup.has(key) for key in _KEYS["backup"]):
        return (first,)
    second = _way(backup, "backup", backup.text("host", first.host), first.port)
    if second.name == first.name:
        raise backup.fail("name", f"{first.name!r} is the name of [uplink] already")
    if (second.target, second.through) == (first.target, first.through):
        raise backup.fail("interface", "is needed: the backup would go the same way as [uplink]")
    return (first, second)


def _way(table: Table, name: str, host: str, port: int) -> Way:
    interface, address = table.text("interface", ""), table.text("bind_address", "")
    if interface and address:
        raise table.fail("bind_address", "leave it out: interface says already where the line begins")
    return Way(
        name=table.identity("name", name),
        host=host,
        port=table.integer("port", 1, 65535, port),
        interface=interface,
        bind_address=_address(table, address),
        daily_mb=table.optional_integer("daily_mb", 1, 1_000_000),
    )


def _address(table: Table, text: str) -> str:
    if text and not is_specific(text):
        raise table.fail("bind_address", f"{text!r} is no address of an interface, as in 192.168.1.100")
    return text


def _tls(uplink: Table, directory: Path) -> ClientTls:
    certificate = uplink.path("certificate") if uplink.has("certificate") else directory / "gateway.pem"
    key = uplink.path("key") if uplink.has("key") else certificate
    return ClientTls(uplink.path("ca") if uplink.has("ca") else directory / "ca.crt", certificate, key)


def _serial(tables: list[Table]) -> tuple[SerialConfig, ...]:
    found: list[SerialConfig] = []
    for number, table in enumerate(tables, 1):
        url, name = table.text("url"), table.identity("name", f"serial-{number}")
        problem = problem_of_url(url)
        if problem:
            raise table.fail("url", problem)
        speed = table.integer("speed", LEAST_SPEED, MOST_SPEED, DEFAULT_SPEED)
        for other in found:
            if other.url == url or other.name == name:
                key = "url" if other.url == url else "name"
                raise table.fail(key, f"{getattr(other, key)!r} is that of another [[serial]] already")
        found.append(SerialConfig(name, url, speed))
    return tuple(found)


def _core(gateway: Table, tuning: Table, modes: Table, ways: tuple[Way, ...], tls: bool) -> GatewayConfig:
    numbers = {field.name: field for field in dataclasses.fields(GatewayConfig) if field.type in (int, "int")}
    given: dict[str, Any] = {name: tuning.integer(name, 1, _MAX_TUNING) for name in numbers if tuning.has(name)}
    role = gateway.choice("role", ("primary", "secondary"), "primary")
    return GatewayConfig(
        id=gateway.identity("id"),
        key=gateway.key_file("key_file"),
        fleet_id=gateway.identity("fleet", "clawland"),
        site=gateway.identity("site", "site-01"),
        role="primary" if role == "primary" else "secondary",
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
