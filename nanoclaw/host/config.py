"""The gateway's configuration: flags over `CLAWLAND_*` variables over the TOML file over defaults, parsed once."""

import dataclasses
import difflib
import ipaddress
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

__all__ = ["EXAMPLE", "ConfigError", "GatewaySettings", "data_directory", "is_loopback", "load_settings"]

EXAMPLE = """\
# Any value may also come from a variable, as CLAWLAND_UPLINK_HOST for host in [uplink]; only [[serial]] may not.
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
# plain = true                   # nodes may speak without TLS to a host that is not this machine alone
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
# window_ms = 60000              # readings of this time go to the cloud as one batch
# commit_ms = 5000               # readings wait at most so long for the disk, and their node for its answer
# commit_readings = 1000         # so many go to the disk at once
# uplink_heartbeat_ms = 30000    # how often the cloud is asked whether it is there
# offline_after_ms = 90000       # after so long without an answer the gateway decides alone
# down_after_intervals = 3       # a node is down after so many of its heartbeats did not come
# flap_downs = 3                 # a node that was down so often
# flap_window_ms = 3600000       # within this time is unsteady,
# flap_hold_ms = 600000          # and up again only when it was heard for so long without a break
# outbox_max_readings = 200000   # the oldest goes when there are more,
# outbox_max_bytes = 67108864    # or when they are larger than this together,
# outbox_max_age_ms = 1209600000 # or when it was read so long ago: two weeks
# resend_ms = 30000              # what the cloud has not acknowledged is sent again
# catchup_every_ms = 1000        # after an outage one batch of the backlog goes up in this time,
# catchup_readings = 500         # of at most so many readings
# late_ms = 90000                # older readings are kept and sent, but decide nothing
# for_lag_ms = 5000              # a condition that no reading confirms again is believed so much later
# failback_after_ms = 600000     # with policy "after" in [failback]
# failback_hold_ms = 300000      # a home counts only when it has been up for so long without a break
# unchanged_ms = 900000          # a metric of mode on_change goes up so often though it does not change

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
TUNING = {field.name: field.default for field in dataclasses.fields(GatewayConfig) if field.type in (int, "int")}
"""Keys of [tuning] and their defaults."""
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
    """Whether nodes may come without TLS to `local_host`."""
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
    overrides = _overrides(flags or {}, os.environ if environ is None else environ)
    root = load_toml(file, overrides)
    names = (*_KEYS, "tuning", "modes")
    with_lora = root.has("lora")
    tables = {name: root.table(name) for name in names}
    serial = root.tables("serial")
    root.finish()
    settings = _settings(tables, serial, with_lora)
    modes = _modes(tables["modes"], overrides)
    for table in (*tables.values(), *serial):
        table.finish()
    return dataclasses.replace(settings, core=dataclasses.replace(settings.core, modes=modes))


def data_directory(file: Path, environ: Mapping[str, str] | None = None) -> Path:
    """The data directory alone, for whoever may not read the key; raises `ConfigError`."""
    return load_toml(file, _overrides({}, os.environ if environ is None else environ)).table("local").path("data")


def is_loopback(host: str) -> bool:
    """Whether nobody beyond this machine reaches `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _settings(tables: Mapping[str, Table], serial: list[Table], with_lora: bool) -> GatewaySettings:
    uplink, local, discovery, monitor = (tables[name] for name in ("uplink", "local", "discovery", "monitor"))
    data, tls = local.path("data"), uplink.boolean("tls", False)
    ways, local_host = ways_of(uplink, tables["backup"], tls), local.text("host", "127.0.0.1")
    lora, radio = lora_settings(tables["lora"], with_lora)
    core = _core(tables["gateway"], tables["tuning"], ways, tls, tables["failback"])
    return GatewaySettings(
        core=dataclasses.replace(core, lora=radio),
        ways=ways,
        serial=serial_of(serial),
        local_host=local_host,
        local_port=local.integer("port", 0, 65535, 0),
        local_tls=_sensor_tls(local, data),
        local_plain=_plain(local, local_host),
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
        for key in ("tls_port", "certificate"):
            if local.has(key):
                raise local.fail(key, "means nothing without tls = true")
        return None
    pair = local.path("certificate") if local.has("certificate") else data / "sensors.pem"
    return SensorTls(local.integer("tls_port", 0, 65535, 8883), pair)


def _plain(local: Table, host: str) -> bool:
    """Whether nodes may come without TLS to `host`; beyond this machine somebody has to have said so."""
    tls, plain = local.boolean("tls", False), local.boolean("plain", False)
    if not (tls or plain or is_loopback(host)):
        raise local.fail("host", f"nodes would speak to {host} without TLS: set tls = true, or plain = true")
    return plain or not tls


def _tls(uplink: Table, directory: Path) -> ClientTls:
    certificate = uplink.path("certificate") if uplink.has("certificate") else directory / "gateway.pem"
    key = uplink.path("key") if uplink.has("key") else certificate
    return ClientTls(uplink.path("ca") if uplink.has("ca") else directory / "ca.crt", certificate, key)


def _core(gateway: Table, tuning: Table, ways: tuple[Way, ...], tls: bool, failback: Table) -> GatewayConfig:
    given: dict[str, Any] = {name: tuning.integer(name, 1, _MAX_TUNING) for name in TUNING if tuning.has(name)}
    role = gateway.choice("role", ("primary", "secondary"), "primary")
    return GatewayConfig(
        id=gateway.identity("id"),
        key=gateway.key_file("key_file"),
        fleet_id=gateway.identity("fleet", "clawland"),
        site=gateway.identity("site", "site-01"),
        role="primary" if role == "primary" else "secondary",
        failback=cast(Policy, failback.choice("policy", POLICIES, NEVER)),
        lines=tuple(LineConfig(way.name, way.daily_mb * MB if way.daily_mb else None, tls) for way in ways),
        **given,
    )


def _modes(modes: Table, overrides: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """The modes by metric; raises ConfigError for a name that no metric can have."""
    outside = [path.removeprefix("modes.") for path in overrides if path.startswith("modes.")]
    metrics = list(dict.fromkeys([*modes.names(), *outside]))
    for metric in metrics:
        if not valid_metric(metric):
            raise modes.fail(metric, f"{metric!r} cannot be a metric")
    return {metric: modes.choice(metric, MODES) for metric in metrics}


def _overrides(flags: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Source and text by "table.key". Raises ConfigError for a variable of [tuning] that means nothing."""
    overrides = _from_environment(environ)
    overrides.update({path: (_flag(path), text) for path, text in flags.items()})
    return overrides


def _from_environment(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    overrides = {}
    for name, text in environ.items():
        table, _, key = name.removeprefix(ENV_PREFIX).lower().partition("_")
        if not name.startswith(ENV_PREFIX) or table not in ("tuning", "modes"):
            continue  # of the other tables other programs may have variables, too
        if table == "tuning" and key not in TUNING:
            close = difflib.get_close_matches(key, TUNING, n=1)
            hint = f"; did you mean {ENV_PREFIX}TUNING_{close[0].upper()}?" if close else ""
            raise ConfigError(f"{name}: there is no {key!r} in [tuning]{hint}")
        overrides[f"{table}.{key}"] = (name, text)
    for table, keys in _KEYS.items():
        for key in keys:
            name = f"{ENV_PREFIX}{table}_{key}".upper()
            if name in environ:
                overrides[f"{table}.{key}"] = (name, environ[name])
    return overrides


def _flag(path: str) -> str:
    table, _, key = path.partition(".")
    return "--" + (key if path in ("local.data",) else f"{table}-{key}").replace("_", "-")
