"""`fleet hub doctor`: lets the examination of a hub in, and prints what it found."""

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path

from firmware.hosting.lifecycle import CannotRun
from firmware.hosting.mqtt import split_target
from firmware.hosting.tls import ClientTls
from fleet.host.hub_server import read_credentials
from fleet.host.local_hub import MAX_PAYLOAD_BYTES
from fleet.host.pki.authority import Authority
from fleet.host.pki.files import PkiError
from fleet.host.settings import SettingsError
from fleet.hub.access import DOCTOR
from fleet.hub.doctor import Finding, Patient, Unreachable, examine


@dataclass(frozen=True)
class DoctorSettings:
    """The hub's address as HOST:PORT, and either passwords in `credentials` or with `tls` the authority in `data`."""

    address: str
    credentials: Path | None
    tls: bool
    data: Path


def run(settings: DoctorSettings) -> list[Finding]:
    """Examine. Raises SettingsError for what the user can mend, CannotRun when the hub lets nobody in."""
    try:
        host, port = split_target(settings.address)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    patient = _with_certificate(host, port, settings.data) if settings.tls else _with_password(host, port, settings)
    try:
        return asyncio.run(examine(patient, MAX_PAYLOAD_BYTES))
    except Unreachable as error:
        raise CannotRun(str(error)) from None


def _with_certificate(host: str, port: int, data: Path) -> Patient:
    authority = Authority(data)
    try:
        pair = authority.equip_doctor()
        context: ssl.SSLContext = ClientTls(authority.certificate_file, pair, pair).context()
    except (PkiError, OSError) as error:
        raise SettingsError(str(error)) from None
    return Patient(host, port, context)


def _with_password(host: str, port: int, settings: DoctorSettings) -> Patient:
    if settings.credentials is None:
        raise SettingsError("the doctor needs --tls and --data, or --credentials, to be let in")
    password = read_credentials(settings.credentials).password_of(DOCTOR)
    if password is None:
        raise SettingsError(f"{settings.credentials}: gateways.{DOCTOR}: add a password for the doctor under this name")
    return Patient(host, port, None, DOCTOR, password)
