"""TLS at a hub: whose certificate may open a connection, and which of them have been revoked since.

The files may change while the hub runs (a revocation, a renewed certificate): they are looked at again, and what is new
holds for the next connection. OpenSSL verifies the chain, the time, the purpose and the revocation list.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.hub.errors import HubError


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of a hub; `pair` holds its private key and certificate."""

    authority: Path
    pair: Path
    revocations: Path

    def all(self) -> tuple[Path, ...]:
        return (self.authority, self.pair, self.revocations)


@dataclass(frozen=True, slots=True)
class Peer:
    """What a verified client certificate says."""

    name: str
    serial: int
    not_after_s: float  # since 1970


class NoPeerError(Exception):
    """A client did not prove who it is. `reason` is one of two, by which refusals are counted."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail

    @classmethod
    def of(cls, error: OSError) -> "NoPeerError":
        if isinstance(error, ssl.SSLCertVerificationError):
            return cls("certificate refused", error.verify_message)
        return cls("no TLS with a client certificate", str(getattr(error, "reason", "") or error or type(error)))


class HubTls:
    """The hub's side of TLS, from its files. Raises HubError when they cannot be used."""

    def __init__(self, files: TlsFiles) -> None:
        self.files = files
        self._seen = self._stamps()
        self.context, self._revoked = self._load()

    def refresh(self) -> bool:
        """Take changed files into force; whether there were any. Raises HubError, and then the old ones stay."""
        stamps = self._stamps()
        if stamps == self._seen:
            return False
        self._seen = stamps
        self.context, self._revoked = self._load()
        return True

    def is_over(self, peer: Peer, now_s: float) -> bool:
        """Whether a certificate that was good has been revoked, or has run out."""
        return peer.serial in self._revoked or now_s >= peer.not_after_s

    def _load(self) -> tuple[ssl.SSLContext, frozenset[int]]:
        from cryptography import x509  # slow to load, and only hubs with TLS need it

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        try:
            context.load_verify_locations(self.files.authority)
            context.load_verify_locations(self.files.revocations)
            context.load_cert_chain(self.files.pair)
            listed = x509.load_pem_x509_crl(self.files.revocations.read_bytes())
        except (OSError, ValueError) as error:
            raise HubError(f"cannot use the hub's certificates ({self._named()}): {error}") from None
        return context, frozenset(entry.serial_number for entry in listed)

    def _stamps(self) -> tuple[tuple[int, int, int], ...]:
        try:
            found = [path.stat() for path in self.files.all()]
        except OSError as error:
            raise HubError(f"cannot read {error.filename}: {error.strerror}") from None
        return tuple((each.st_mtime_ns, each.st_size, each.st_ino) for each in found)

    def _named(self) -> str:
        return ", ".join(map(str, self.files.all()))


def peer_of(certificate: Mapping[str, Any]) -> Peer:
    """What `ssl.SSLSocket.getpeercert()` tells. Raises NoPeerError unless the subject has exactly one common name."""
    names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    if len(names) != 1:
        raise NoPeerError("certificate refused", "not exactly one common name")
    end_s = ssl.cert_time_to_seconds(certificate["notAfter"])
    return Peer(str(names[0]), int(certificate["serialNumber"], 16), float(end_s))
