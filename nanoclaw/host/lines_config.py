"""The lines of a gateway in its configuration: the ways to the cloud, and the serial ports with nodes behind them."""

import ipaddress
from dataclasses import dataclass

from firmware.cable.stream import DEFAULT_SPEED, LEAST_SPEED, MOST_SPEED, problem_of_url
from firmware.hosting.config import Table

BACKUP_KEYS = ("name", "host", "port", "interface", "bind_address", "daily_mb")


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


def is_specific(host: str) -> bool:
    """Whether `host` is an address that others can be told: a number, and not a wildcard."""
    try:
        return not ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def ways_of(uplink: Table, backup: Table, tls: bool) -> tuple[Way, ...]:
    """The primary line and, if [backup] says anything, the second one. Raises ConfigError."""
    first = _way(uplink, "uplink", uplink.text("host"), 8883 if tls else 1883)
    if not any(backup.has(key) for key in BACKUP_KEYS):
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


def serial_of(tables: list[Table]) -> tuple[SerialConfig, ...]:
    """The ports of all [[serial]] tables. Raises ConfigError."""
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
