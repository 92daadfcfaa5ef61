"""The two networks of a gateway, the sensors' and the uplink's, on this machine; whether it forwards between them."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ifaddr

from nanoclaw.host.config import GatewaySettings
from nanoclaw.host.lines_config import is_specific

SETTINGS = Path("/proc/sys/net")
LOOPBACK_INTERFACE = "lo"
_ON = ("1", "2")


@dataclass(frozen=True)
class Interfaces:
    """Addresses by interface."""

    addresses: dict[str, list[str]]

    @classmethod
    def of_this_machine(cls) -> "Interfaces":
        """As they are now; an interface that is down or has no address counts too."""
        found: dict[str, list[str]] = {name: [] for _, name in socket.if_nameindex()}
        for adapter in ifaddr.get_adapters():
            texts = [each.ip if isinstance(each.ip, str) else each.ip[0] for each in adapter.ips]
            found.setdefault(adapter.name, []).extend(texts)
        return cls(found)

    def with_address(self, address: str) -> str | None:
        """The interface that has this address."""
        if address.startswith("127.") or address == "localhost":  # all of 127.0.0.0/8 is there, and one is listed
            return LOOPBACK_INTERFACE
        return next((name for name, addresses in self.addresses.items() if address in addresses), None)


def sensor_interface(settings: GatewaySettings, interfaces: Interfaces) -> str | None:
    """Where nodes come in; None: everywhere, or nobody can tell."""
    return interfaces.with_address(settings.local_host)


def uplink_interfaces(settings: GatewaySettings, interfaces: Interfaces) -> list[str]:
    """Where the lines go out, as far as the configuration says."""
    found = [way.interface or interfaces.with_address(way.bind_address) for way in settings.ways if way.through]
    return [name for name in found if name]


def way_problems(settings: GatewaySettings, interfaces: Interfaces) -> Iterator[str]:
    """What keeps a line from going where it is told to."""
    for way in settings.ways:
        if way.interface and way.interface not in interfaces.addresses:
            have = ", ".join(sorted(interfaces.addresses))
            yield f"{way.name}: there is no interface {way.interface}; there are {have}"
        elif way.interface and not interfaces.addresses[way.interface]:
            yield f"{way.name}: {way.interface} has no address"
        elif way.bind_address and interfaces.with_address(way.bind_address) is None:
            yield f"{way.name}: {way.bind_address} is no address of this machine"


def separation_problems(settings: GatewaySettings, interfaces: Interfaces) -> Iterator[str]:
    """What mixes the two networks before any packet is forwarded."""
    if not is_specific(settings.local_host):
        yield f"local.host {settings.local_host} listens on every network, the uplink's too: give the sensors' address"
        return
    sensors = sensor_interface(settings, interfaces)
    if sensors == LOOPBACK_INTERFACE:
        return
    for table, way in zip(("uplink", "backup"), settings.ways, strict=False):
        if not way.through:
            yield f"{way.name}: nothing says that sensors and uplink are apart: set interface in [{table}]"
        out = way.interface or interfaces.with_address(way.bind_address) if way.through else None
        if sensors is not None and out == sensors:
            yield f"sensors and {way.name} share the interface {sensors}: give each network its own"


def forwarding(settings: GatewaySettings, interfaces: Interfaces, root: Path = SETTINGS) -> list[str]:
    """The kernel settings by which this machine would pass packets between the two networks; [] is as it should be.

    A gateway whose nodes are on this machine alone has nothing to keep apart.
    """
    sensors = sensor_interface(settings, interfaces)
    if sensors == LOOPBACK_INTERFACE:
        return []
    named = [name for name in (sensors, *uplink_interfaces(settings, interfaces)) if name]
    paths = [root / "ipv4" / "ip_forward"]
    paths += [root / version / "conf" / name / "forwarding" for version in ("ipv4", "ipv6") for name in named]
    paths.append(root / "ipv6" / "conf" / "all" / "forwarding")
    return [".".join(path.relative_to(root.parent).parts) for path in paths if _is_on(path)]


def _is_on(path: Path) -> bool:
    try:
        return path.read_text().strip() in _ON
    except OSError:
        return False  # no IPv6 in this kernel, or no such interface
