"""TLS of a client: one that proves itself by a certificate, and one that knows its server by the server's alone."""

import hashlib
import hmac
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Tls(Protocol):
    """How a connection is secured."""

    def context(self) -> ssl.SSLContext:
        """What to connect with now. Raises OSError."""
        ...

    def check(self, connected: ssl.SSLSocket) -> None:
        """Look at the server once more, before anything is said to it. Raises OSError."""
        ...


@dataclass(frozen=True)
class ClientTls:
    """PEM files: the authority that certified the server, and one's own certificate and key (often one file)."""

    authority: Path
    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """What to connect with now; it checks the server's certificate and host name. Raises OSError."""
        for path in (self.authority, self.certificate, self.key):
            path.stat()  # ssl's own errors name no file
        # Not the default context: this authority alone counts, not those that the machine trusts for the web.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(self.authority)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def check(self, connected: ssl.SSLSocket) -> None:
        """Nothing is left to look at: the context has checked it."""


@dataclass(frozen=True)
class PinnedTls:
    """A server is known by the SHA-256 of its certificate, in hexadecimal digits: one of these, whoever signed it."""

    fingerprints: tuple[str, ...]

    def context(self) -> ssl.SSLContext:
        """One that asks no authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context

    def check(self, connected: ssl.SSLSocket) -> None:
        """The certificate is a pinned one. Raises OSError."""
        found = hashlib.sha256(connected.getpeercert(binary_form=True) or b"").hexdigest()
        if not any(hmac.compare_digest(found, pinned) for pinned in self.fingerprints):
            raise OSError(f"the certificate is not the pinned one: its fingerprint is {spelled(found)}")


def spelled(fingerprint: str) -> str:
    """A fingerprint as people write it, byte by byte: logs hide 64 digits in a row, which may be a key."""
    return ":".join(fingerprint[at : at + 2] for at in range(0, len(fingerprint), 2))
