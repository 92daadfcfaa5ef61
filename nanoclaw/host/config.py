"""The gateway's configuration: flags over `CLAWLAND_*` variables over the TOML file over defaults, parsed once."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firmware.hosting.config import ConfigError, Table, load_toml
from firmware.hosting.tls import ClientTls
from firmware.wire.ids import valid_metric
from nanoclaw.core.config import GatewayConfig
from nanoclaw.core.reduction import MODES

__all__ = ["EXAMPLE", "ConfigError", "GatewaySettings", "load_settings"]

EXAMPLE = """\
# Any value may also come from a variable, as CLAWLAND_UPLINK_HOST for host in [uplink].
[gateway]
id = "gateway-01"
fleet = "clawland"
site = "site-01"
role = "primary"                 # or "secondary": nodes then choose it only when no primary is left
key_file = "gateway-01.key"      # 64 hexadecimal digits, from `fleet gateways add`; chmod 600

[uplink]                         # the Event Hub
host = "hub.example.org"
port = 1883                      # 8883 with TLS
# tls = true                     # after `nanoclaw enrol`, which puts certificates into pki/ in the data directory
# ca = "ca.crt"                  # or where else the certificates lie; the key may be in the certificate's file
# certificate = "gateway.crt"
# key = "gateway.key"
# bind_address = "192.168.1.100"

[local]                          # the broker that nodes connect to
host = "127.0.0.1"               # an address of the sensors' network, for nodes on other machines
port = 1883                      # 0: any free one
broker = "embedded"              # or "mosquitto"
data = "/var/lib/nanoclaw"       # outbox, configuration snapshot, status
# advertise_port = 1883          # when nodes reach the broker on another port

[discovery]                      # mDNS, so that nodes find this gateway when theirs falls silent
enabled = true
interface = "127.0.0.1"          # the address to announce on

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
    "uplink": ("host", "port", "tls", "ca", "certificate", "key", "bind_address"),
    "local": ("host", "port", "broker", "data", "advertise_port"),
    "discovery": ("enabled", "interface"),
}
_MAX_TUNING = 2**31 - 1


@dataclass(frozen=True)
class GatewaySettings:
    """All that a gateway daemon is told."""

    core: GatewayConfig
    uplink_host: str
    uplink_port: int
    bind_address: str
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

    @property
    def uplink(self) -> str:
        """The hub's address as "host:port"."""
        return (
            f"[{self.uplink_host}]:{self.uplink_port}"
            if ":" in self.uplink_host
            else f"{self.uplink_host}:{self.uplink_port}"
        )


def load_settings(
    file: Path, flags: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None
) -> GatewaySettings:
    """The settings in a TOML file; raises `ConfigError` that begins with `file: key:` or the overriding source.

    `flags` are values by "table.key"; `environ` is the process's own by default.
    """
    overrides = _from_environment(os.environ if environ is None else environ)
    overrides.update({path: (_flag(path), text) for path, text in (flags or {}).items()})
    root = load_toml(file, overrides)
    names = (*_KEYS, "tuning", "modes")
    tables = {name: root.table(name) for name in names}
    root.finish()
    settings = _settings(tables)
    for table in tables.values():
        table.finish()
    return settings


def _settings(tables: Mapping[str, Table]) -> GatewaySettings:
    uplink, local, discovery = tables["uplink"], tables["local"], tables["discovery"]
    data, tls = local.path("data"), uplink.boolean("tls", False)
    return GatewaySettings(
        core=_core(tables["gateway"], tables["tuning"], tables["modes"]),
        uplink_host=uplink.text("host"),
        uplink_port=uplink.integer("port", 1, 65535, 8883 if tls else 1883),
        bind_address=uplink.text("bind_address", ""),
        local_host=local.text("host", "127.0.0.1"),
        local_port=local.integer("port", 0, 65535, 0),
        broker=local.choice("broker", ("embedded", "mosquitto"), "embedded"),
        advertise_port=local.optional_integer("advertise_port", 1, 65535),
        data=data,
        discovery=discovery.boolean("enabled", True),
        interface=discovery.text("interface", "127.0.0.1"),
        seed=tables["gateway"].optional_integer("seed", 0, 2**63 - 1),
        uplink_tls=tls,
        tls=_tls(uplink, data / "pki"),
    )


def _tls(uplink: Table, directory: Path) -> ClientTls:
    certificate = uplink.path("certificate") if uplink.has("certificate") else directory / "gateway.pem"
    key = uplink.path("key") if uplink.has("key") else certificate
    return ClientTls(uplink.path("ca") if uplink.has("ca") else directory / "ca.crt", certificate, key)


def _core(gateway: Table, tuning: Table, modes: Table) -> GatewayConfig:
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
