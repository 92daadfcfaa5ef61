"""`nanoclaw check`: what is wrong before a gateway runs, found without changing anything."""

import os
import shutil
import socket
import ssl
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from firmware.cable.stream import open_port, reason_of
from nanoclaw.host.attempt import refused_because
from nanoclaw.host.config import MB, GatewaySettings, is_loopback
from nanoclaw.host.daemon import EARLIEST_UTC_MS
from nanoclaw.host.networks import Interfaces, forwarding, separation_problems, way_problems
from nanoclaw.host.status import is_running, moved_aside

OK, WARNING, ERROR = "ok", "warning", "error"
READING_BYTES = 300
"""On disk, with SQLite's own and the write-ahead log: measured 240 with usual metrics."""
LEAST_FREE_BYTES = 20 * MB
SYSTEM_PATHS = ("/usr/local/sbin", "/usr/sbin", "/opt/mosquitto/sbin")
"""Where the hub looks for programs, too: Debian keeps daemons off a user's PATH."""
LEAST_DAILY_MB = 3
"""Heartbeats every 30 s and their answers weigh 2.1 MB a day."""


class Finding(NamedTuple):
    """One thing that was looked at."""

    level: str
    what: str
    text: str


def findings(settings: GatewaySettings, utc_ms: int | None = None) -> Iterator[Finding]:
    """Everything, in the order in which a user would mend it. `utc_ms` is the machine's own when left out."""
    try:
        running = is_running(settings.data)
    except PermissionError:
        yield Finding(ERROR, "data", f"{settings.data}: permission denied: run it as root or as the gateway's user")
        return
    utc_ms = time.time_ns() // 1_000_000 if utc_ms is None else utc_ms
    yield from _data(settings)
    yield from _disk(settings)
    yield from _secrets(settings)
    yield from _clock(settings, utc_ms)
    yield from _networks(settings)
    yield from _broker(settings)
    yield from _ports(settings, running)
    yield from _nodes_tls(settings)
    yield from _serial(settings, running)
    yield from _certificate(settings, utc_ms)
    yield from _budgets(settings)
    yield from _hub(settings, running)


def _data(settings: GatewaySettings) -> Iterator[Finding]:
    there = _existing(settings.data)
    if settings.data.exists() and not settings.data.is_dir():
        yield Finding(ERROR, "data", f"{settings.data} is not a directory")
    elif not os.access(there, os.W_OK | os.X_OK):
        yield Finding(ERROR, "data", f"{there} cannot be written by this user")
    elif there == settings.data and settings.data.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield Finding(WARNING, "data", f"{settings.data} is open to other users: chmod 700 {settings.data}")
    else:
        yield Finding(OK, "data", str(settings.data) + ("" if there == settings.data else " will be made"))
    for name in moved_aside(settings.data):
        text = f"{settings.data / name} is an outbox that could not be read: its readings are nowhere else"
        yield Finding(WARNING, "data", text)


def _disk(settings: GatewaySettings) -> Iterator[Finding]:
    free = shutil.disk_usage(_existing(settings.data)).free
    wanted = settings.core.outbox_max_readings * READING_BYTES
    text = f"{free // MB} MB free; an outbox of {settings.core.outbox_max_readings:,} readings takes {wanted // MB} MB"
    level = ERROR if free < LEAST_FREE_BYTES else WARNING if free < wanted else OK
    yield Finding(level, "disk", text)


def _existing(path: Path) -> Path:
    path = path.absolute()
    return path if path.exists() else _existing(path.parent)


def _secrets(settings: GatewaySettings) -> Iterator[Finding]:
    files = [settings.key_file, *([settings.tls.key] if settings.uplink_tls else [])]
    files += [settings.local_tls.pair] if settings.local_tls is not None else []
    wide = [path for path in files if path.exists() and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)]
    # In systemd's directory of credentials an access list, which shows as rights of the group, names our user.
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    for path in wide:
        if not (given and path.is_relative_to(given)):
            yield Finding(WARNING, "secrets", f"{path} can be read by others than its owner: chmod 600 {path}")
    if not wide:
        yield Finding(OK, "secrets", "for their owner alone")


def _clock(settings: GatewaySettings, utc_ms: int) -> Iterator[Finding]:
    if utc_ms >= EARLIEST_UTC_MS:
        yield Finding(OK, "clock", f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime(utc_ms / 1000))} UTC")
        return
    level = ERROR if settings.uplink_tls else WARNING
    more = ", and no certificate is valid yet" if settings.uplink_tls else ": readings are stamped once it is"
    yield Finding(level, "clock", f"this machine does not know the time{more}")


def _networks(settings: GatewaySettings) -> Iterator[Finding]:
    interfaces = Interfaces.of_this_machine()
    problems = list(way_problems(settings, interfaces))
    yield from (Finding(ERROR, "networks", text) for text in problems)
    mixed = list(separation_problems(settings, interfaces))
    yield from (Finding(WARNING, "networks", text) for text in mixed)
    on = forwarding(settings, interfaces)
    for name in on:
        yield Finding(ERROR, "networks", f"packets pass between sensors and uplink: sysctl -w {name}=0")
    if not problems and not mixed and not on:
        alone = is_loopback(settings.local_host)
        text = "nodes are on this machine alone" if alone else "sensors and uplink are apart, and nothing is forwarded"
        yield Finding(OK, "networks", text)


def _broker(settings: GatewaySettings) -> Iterator[Finding]:
    """What another program's broker needs; our own needs nothing."""
    if settings.broker != "mosquitto":
        return
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *SYSTEM_PATHS))
    missing = [
        f"the program {program} is not installed: apt-get install {package}"
        for program, package in (("mosquitto", "mosquitto"), ("setpriv", "util-linux"))
        if shutil.which(program, path=path) is None
    ]
    yield from (Finding(ERROR, "broker", f"{text} (local.broker)") for text in missing)
    if not missing:
        yield Finding(OK, "broker", "Mosquitto is installed")


def _ports(settings: GatewaySettings, running: bool) -> Iterator[Finding]:
    if running:
        yield Finding(OK, "ports", "not tried, since the gateway is running")
        return
    plain_host = settings.local_host if settings.local_plain else "127.0.0.1"
    yield _port("for nodes" if settings.local_plain else "of the broker", plain_host, settings.local_port, "local.port")
    if settings.local_tls is not None:
        yield _port("for nodes with TLS", settings.local_host, settings.local_tls.port, "local.tls_port")
    if settings.lora is not None:
        yield _port("for concentrators", settings.lora.host, settings.lora.port, "lora.port", socket.SOCK_DGRAM)
        if not is_loopback(settings.lora.host):
            text = f"{settings.lora.host} is beyond this machine, and their protocol proves nobody's identity"
            yield Finding(WARNING, "ports", f"for concentrators: {text}: keep that network apart")
    if settings.monitor_port is not None:
        if settings.monitor_port == settings.local_port != 0 and settings.monitor_host == settings.local_host:
            yield Finding(ERROR, "ports", f"{settings.local_port} is given twice: local.port and monitor.port")
        yield _port("for monitoring", settings.monitor_host, settings.monitor_port, "monitor.port")
        if not is_loopback(settings.monitor_host):
            text = f"{settings.monitor_host} is beyond this machine, and whoever reaches it may read all"
            yield Finding(WARNING, "ports", text)


def _port(what: str, host: str, port: int, key: str, kind: int = socket.SOCK_STREAM) -> Finding:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind) as probe:
            if kind == socket.SOCK_STREAM:  # of UDP it would share a port that somebody has
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            if kind == socket.SOCK_STREAM:
                probe.listen(1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return Finding(ERROR, "ports", f"{what}: {port} on {host}: {reason} ({key})")
    return Finding(OK, "ports", f"{what}: {port} on {host} is free" if port else f"{what}: any free one on {host}")


def _nodes_tls(settings: GatewaySettings) -> Iterator[Finding]:
    """The certificate for nodes; nodes without TLS are nothing wrong, and nothing to be silent about."""
    if settings.local_tls is not None and settings.local_tls.pair.exists():
        problem = _pair_problem(settings.local_tls.pair)
        if problem:
            yield Finding(ERROR, "tls", f"{settings.local_tls.pair}: {problem} (local.certificate)")
    if settings.local_plain and not is_loopback(settings.local_host):
        text = f"nodes may speak to {settings.local_host} as they are: whoever listens there reads them (local.tls)"
        yield Finding(WARNING, "tls", text)


def _pair_problem(pair: Path) -> str:
    """Why no TLS server can use the file, "" when it can. The daemon makes one that is not there."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(pair)
    except ssl.SSLError:  # an OSError too, with a text of OpenSSL's own
        return "no certificate with its key in PEM"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""


def _serial(settings: GatewaySettings, running: bool) -> Iterator[Finding]:
    if settings.serial and running:
        yield Finding(OK, "serial", "not tried, since the gateway is running")
        return
    for port in settings.serial:
        try:
            open_port(port.url, port.speed).close()
        except (OSError, ValueError) as error:
            text = f"{port.name}: {port.url}: {reason_of(error)}"
            yield Finding(ERROR, "serial", text)
        else:
            yield Finding(OK, "serial", f"{port.name}: {port.url} can be opened")


def _certificate(settings: GatewaySettings, utc_ms: int) -> Iterator[Finding]:
    if settings.uplink_tls:
        from nanoclaw.host.certificate import problem  # it loads a library that gateways without TLS do not need

        level, text = problem(settings.core.id, settings.tls, utc_ms)
        yield Finding(level, "certificate", text)
    elif not all(is_loopback(way.host) for way in settings.ways):
        text = "uplink.tls is off: readings and commands travel as they are; nanoclaw enrol gets a certificate"
        yield Finding(WARNING, "certificate", text)


def _budgets(settings: GatewaySettings) -> Iterator[Finding]:
    for way in settings.ways:
        if way.daily_mb is not None and way.daily_mb < LEAST_DAILY_MB:
            text = f"{way.name}: {way.daily_mb} MB a day do not even pay for heartbeats: give {LEAST_DAILY_MB} or more"
            yield Finding(WARNING, "budget", text)


def _hub(settings: GatewaySettings, running: bool) -> Iterator[Finding]:
    for way in settings.ways:
        if running:  # it would lose its connection to us
            yield Finding(OK, "hub", f"{way.name}: not tried, since the gateway is running")
            continue
        failure = refused_because(settings, way)
        if failure is None:
            yield Finding(OK, "hub", f"{way.name}: {way.target} lets {settings.core.id} in")
        else:
            yield Finding(ERROR, "hub", f"{way.name}: {way.target}: {failure}")
