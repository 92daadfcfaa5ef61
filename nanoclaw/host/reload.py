"""What of a changed configuration a running gateway takes over at SIGHUP, and what waits for a restart.

It takes over where each line to the cloud leads, through which interface, and what it may carry in a day. Certificates
are read anew for every connection anyway. Everything else is who it is and what it listens on.
"""

from dataclasses import fields
from typing import Any

from nanoclaw.host.config import GatewaySettings

# Of GatewaySettings and GatewayConfig, the key of the file that a user changed; the others have the key's own name.
_KEYS = {
    "id": "gateway.id",
    "key": "gateway.key_file",
    "fleet_id": "gateway.fleet",
    "site": "gateway.site",
    "role": "gateway.role",
    "modes": "modes",
    "seed": "gateway.seed",
    "serial": "serial",
    "local_host": "local.host",
    "local_port": "local.port",
    "broker": "local.broker",
    "data": "local.data",
    "advertise_port": "local.advertise_port",
    "discovery": "discovery.enabled",
    "interface": "discovery.interface",
    "uplink_tls": "uplink.tls",
    "tls": "uplink.certificate",
    "monitor_host": "monitor.host",
    "monitor_port": "monitor.port",
}


def needs_restart(old: GatewaySettings, new: GatewaySettings) -> list[str]:
    """The keys that differ and cannot be taken over, as in the configuration file."""
    changed = [*_changed(old, new, ("core", "ways", "key_file")), *_changed(old.core, new.core, ("lines",))]
    if [way.name for way in old.ways] != [way.name for way in new.ways]:
        changed.append("backup" if len(old.ways) != len(new.ways) else "uplink.name")
    return sorted(changed)


def _changed(old: Any, new: Any, but: tuple[str, ...]) -> list[str]:
    names = [each.name for each in fields(old) if each.name not in but]
    return [_KEYS.get(name, f"tuning.{name}") for name in names if getattr(old, name) != getattr(new, name)]
