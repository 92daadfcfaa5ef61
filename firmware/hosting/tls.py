"""TLS of a client that proves itself by a certificate, from files that may be renewed while it runs."""

import ssl
from dataclasses import dataclass
from pathlib import Path


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
