"""Configuration, passwords and rights for a Mosquitto that grants what the embedded broker grants.

The passwords are PBKDF2-SHA512 in the format of `mosquitto_passwd` (Mosquitto 2: `$7$iterations$salt$hash`). Keys of
devices are random, so few iterations do; 101 is Mosquitto's own default.

One right cannot be said in Mosquitto's files: "publish to every topic of a level but these", since its `deny` forbids
reading as well. There a node may publish to its own `cmd` and `received`, which reach only itself and the gateway, and
the gateway knows them for none of its own; `fleet.hub.mosquitto_log` tells of them.

Where the certificate authority alone decides who is in, Mosquitto takes the certificate's common name for the user, and
the rights of all gateways are one pattern with that name in it: a new gateway needs no new file. The pattern holds for
the manager too, who may then speak under its own name, where nobody listens.
"""

import base64
import hashlib
import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.hub.access import DOCTOR, CertificateAccess, Rights, StaticAccess, require_identity
from fleet.hub.broker import PACKET_OVERHEAD_BYTES
from fleet.hub.errors import HubError
from fleet.hub.session import MAX_IN_FLIGHT, MAX_QUEUED_MESSAGES
from fleet.hub.tls import TlsFiles

_ITERATIONS = 101
_SALT_BYTES = 12
_MIN_PACKET_BYTES = 20  # Mosquitto refuses a smaller max_packet_size


@dataclass(frozen=True)
class MosquittoFiles:
    """What `mosquitto -c config` reads."""

    config: Path
    passwords: Path
    rights: Path
    tls: TlsFiles


def write_mosquitto_files(
    directory: Path,
    *,
    access: StaticAccess,
    host: str,
    port: int,
    max_payload_bytes: int,
    max_clients: int = 2000,
    extra_passwords: Mapping[str, bytes] | None = None,
    tls: TlsFiles | None = None,
    log_packets: bool = False,
) -> MosquittoFiles:
    """Write the files into `directory`, readable by this user alone; existing ones are replaced at once.

    `extra_passwords` are users without any right; `log_packets` has each packet logged. With `tls`, copies of those
    files are the hub's; `access` is then a CertificateAccess. Raises HubError for a password or a path that Mosquitto
    cannot take.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    copies = TlsFiles(directory / "ca.crt", directory / "hub.pem", directory / "crl.pem")
    config, passwords, rights = (directory / name for name in ("mosquitto.conf", "passwords", "rights.acl"))
    files = MosquittoFiles(config, passwords, rights, copies)
    if any(character in str(directory) for character in "\r\n"):
        raise HubError(f"Mosquitto cannot read files in {str(directory)!r}")
    settings = _settings(host, port, max_payload_bytes, max_clients)
    if tls is None:
        write_mosquitto_credentials(files, access, extra_passwords or {})
        settings |= {"password_file": files.passwords}
    elif isinstance(access, CertificateAccess):
        _copy(tls, copies)
        _write_secret(files.rights, _pattern_text(access))
        settings |= _tls_settings(copies)
    else:
        raise HubError("Mosquitto takes names from certificates or from a table of passwords, not both")
    _write_secret(files.config, _config_text({**settings, "acl_file": files.rights}, log_packets))
    return files


def write_mosquitto_credentials(
    files: MosquittoFiles, access: StaticAccess, extra_passwords: Mapping[str, bytes]
) -> None:
    """Write the passwords and rights alone, for a Mosquitto that runs and then gets SIGHUP."""
    passwords = {identity: access.password_of(identity) for identity in access.identities()}
    for identity in passwords:
        require_identity(identity)
    lines = [f"{name}:{password_entry(secret)}" for name, secret in {**passwords, **extra_passwords}.items() if secret]
    _write_secret(files.passwords, "\n".join(lines) + "\n")
    _write_secret(files.rights, "\n".join(_rights_text(access, identity) for identity in passwords) + "\n")


def password_entry(password: bytes, salt: bytes | None = None) -> str:
    """A password as Mosquitto stores it. Raises HubError for one with a NUL, at which Mosquitto would stop reading."""
    if b"\0" in password:
        raise HubError("Mosquitto takes no password with a NUL byte: use text, such as hexadecimal")
    salt = os.urandom(_SALT_BYTES) if salt is None else salt
    digest = hashlib.pbkdf2_hmac("sha512", password, salt, _ITERATIONS)
    return f"$7${_ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def _rights_text(access: StaticAccess, identity: str) -> str:
    return "\n".join([f"user {identity}", *_right_lines("topic", access.rights_of(identity))]) + "\n"


def _pattern_text(access: CertificateAccess) -> str:
    """The rights of the manager and the doctor by name, those of whoever else has a certificate by pattern."""
    everyone = "\n".join(_right_lines("pattern", access.rights_of("%u"))) + "\n"
    return "\n".join([_rights_text(access, access.manager), _rights_text(access, DOCTOR), everyone])


def _right_lines(word: str, rights: Rights) -> list[str]:
    lines = [f"{word} write {granted}" for granted in rights.publish]
    return lines + [f"{word} read {granted}" for granted in rights.subscribe]


def _copy(tls: TlsFiles, copies: TlsFiles) -> None:
    try:
        for source, copy in zip(tls.all(), copies.all(), strict=True):
            _write_secret(copy, source.read_text())
    except OSError as error:
        raise HubError(f"cannot copy {error.filename}: {error.strerror}") from None


Settings = dict[str, str | int | Path]


def _tls_settings(files: TlsFiles) -> Settings:
    return {
        "cafile": files.authority,
        "certfile": files.pair,
        "keyfile": files.pair,
        "crlfile": files.revocations,
        "tls_version": "tlsv1.2",  # or later
        "require_certificate": "true",
        "use_identity_as_username": "true",
    }


def _settings(host: str, port: int, max_payload_bytes: int, max_clients: int) -> Settings:
    return {
        "user": pwd.getpwuid(os.geteuid()).pw_name,  # as root it would become another user, who cannot read the files
        "listener": f"{port} {host}",
        "max_connections": max_clients,
        "use_username_as_clientid": "true",
        "allow_anonymous": "false",
        "persistence": "false",
        "message_size_limit": max_payload_bytes,
        "max_packet_size": max(_MIN_PACKET_BYTES, max_payload_bytes + PACKET_OVERHEAD_BYTES),
        "max_inflight_messages": MAX_IN_FLIGHT,
        "max_queued_messages": MAX_QUEUED_MESSAGES,
        "set_tcp_nodelay": "true",
        "sys_interval": 60,  # the doctor alone may read there what product it is
        "log_dest": "stderr",
    }


def _config_text(settings: Settings, log_packets: bool) -> str:
    lines = [f"{name} {value}" for name, value in settings.items()]
    lines += [f"log_type {kind}" for kind in ("error", "warning", "notice", *(["debug"] if log_packets else []))]
    return "\n".join(lines) + "\n"


def _write_secret(path: Path, text: str) -> None:
    """Replace a file in one step, so that Mosquitto never reads half of it."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)
    fresh.replace(path)
