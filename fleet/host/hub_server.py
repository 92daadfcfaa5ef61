"""`fleet hub`: the Event Hub as a process of its own, with credentials from a file or certificates of an authority."""

import asyncio
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firmware.hosting.clock import Clock
from firmware.hosting.lifecycle import CannotRun, stop_on_signals
from firmware.hosting.simclock import start_clock
from firmware.hosting.trace import Tracer, open_trace
from firmware.wire.ids import valid_id
from fleet.host.local_hub import MANAGER, MAX_PAYLOAD_BYTES
from fleet.host.pki.keeping import hub_files
from fleet.host.settings import SettingsError, read_secret_json
from fleet.hub import CertificateAccess, EmbeddedBroker, HubAccess, HubError, TlsFiles, write_mosquitto_files

LOG = logging.getLogger("clawland.hub")


@dataclass(frozen=True)
class HubSettings:
    """What `fleet hub` needs: passwords in `credentials`, or with `tls` the certificates in the directory `data`."""

    credentials: Path | None
    host: str = "127.0.0.1"
    port: int = 1883
    sim_clock: bool = False
    trace: Path | None = None
    tls: bool = False
    data: Path = Path("fleet-data")

    def __post_init__(self) -> None:
        if self.credentials is None and not self.tls:
            raise SettingsError("a hub needs --credentials FILE, or --tls and the certificates of --data DIR")
        if self.credentials is not None and self.tls:
            raise SettingsError("with --tls a certificate says who a client is: leave out --credentials")

    def rights(self) -> "tuple[HubAccess, TlsFiles | None]":
        """Who may do what, and the hub's own certificate with TLS. Raises SettingsError."""
        if self.credentials is None:
            return CertificateAccess(MANAGER), hub_files(self.data)
        return read_credentials(self.credentials), None


async def serve_hub(settings: HubSettings) -> None:
    """Serves until a signal or, under a simulator's clock, the end of stdin. Raises SettingsError, CannotRun."""
    stop = stop_on_signals()
    access, tls = settings.rights()
    voice = HubVoice()
    broker = EmbeddedBroker(
        host=settings.host,
        port=settings.port,
        access=access,
        max_payload_bytes=MAX_PAYLOAD_BYTES,
        on_event=voice.say,
        tls=tls,
    )
    try:
        await broker.start()
    except HubError as error:
        raise CannotRun(str(error)) from None
    try:
        clock = await start_clock(settings.sim_clock, {"mqtt_port": broker.port}, stop)
        voice.begin(clock, open_trace(settings.trace, "hub"))
        if not settings.sim_clock:
            scheme = "mqtts" if settings.tls else "mqtt"
            print(f"Event Hub ready: {scheme}://{settings.host}:{broker.port}", flush=True)
        await stop.wait()
    finally:
        await asyncio.wait_for(broker.stop(), 5.0)


def write_for_mosquitto(settings: HubSettings, directory: Path) -> Path:
    """Write what a Mosquitto needs to be this hub; its configuration file. Raises SettingsError."""
    access, tls = settings.rights()
    if settings.port == 0:
        raise SettingsError("--mosquitto-config needs the --port that Mosquitto is to listen on")
    try:
        files = write_mosquitto_files(
            directory.resolve(),
            access=access,
            host=settings.host,
            port=settings.port,
            max_payload_bytes=MAX_PAYLOAD_BYTES,
            tls=tls,
        )
    except (HubError, OSError) as error:
        raise SettingsError(f"--mosquitto-config {directory}: {error}") from None
    return files.config


def read_credentials(path: Path) -> HubAccess:
    """The rights on the hub that a credentials file describes. Raises SettingsError."""
    found = read_secret_json(path)
    manager, gateways = found.get("manager"), found.get("gateways", {})
    if not isinstance(manager, dict):
        raise SettingsError(f'{path}: manager: expected {{"id": …, "password": …}}')
    if not isinstance(gateways, dict):
        raise SettingsError(f"{path}: gateways: expected passwords by id")
    passwords = {
        _identity(path, f"gateways.{name}", name): _password(path, f"gateways.{name}", secret)
        for name, secret in gateways.items()
    }
    name = _identity(path, "manager.id", manager.get("id", "fleet"))
    if name in passwords:
        raise SettingsError(f"{path}: gateways.{name}: that is the manager's id")
    return HubAccess(passwords, name, _password(path, "manager.password", manager.get("password")))


def _identity(path: Path, place: str, name: Any) -> str:
    if not valid_id(name):
        raise SettingsError(f"{path}: {place}: {name!r} is not an id: 1 to 32 of a-z, 0-9 and '-', not '-' first")
    return str(name)


def _password(path: Path, place: str, secret: Any) -> bytes:
    if not isinstance(secret, str) or not secret or not secret.isascii():
        raise SettingsError(f"{path}: {place}: expected a password in ASCII")
    return secret.encode()


class HubVoice:
    """Says what the broker did: in the log and, of refused messages, in the trace, at most so many."""

    MOST_TRACED = 10_000

    def __init__(self) -> None:
        self._clock: Clock | None = None
        self._trace: Tracer | None = None
        self._traced = 0

    def begin(self, clock: Clock, trace: Tracer) -> None:
        """The clock runs from now on."""
        self._clock, self._trace = clock, trace

    def say(self, kind: str, fields: dict[str, object]) -> None:
        """Something happened at the broker."""
        LOG.info("%s %s", kind, json.dumps(fields, default=str))
        if kind != "message.rejected" or self._clock is None or self._trace is None or self._traced >= self.MOST_TRACED:
            return
        self._traced += 1
        told = {"topic": fields.get("topic"), "reason": fields.get("reason"), "from": fields.get("identity")}
        self._trace.write(kind, told, self._clock.now_ms())
