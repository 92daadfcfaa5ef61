"""A hub behind TLS with an authority of its own, on either broker, and clients with certificates of any kind."""

import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fleet.host.pki import certificates
from fleet.host.pki.authority import HUB, Authority
from fleet.hub import CertificateAccess, EmbeddedBroker, MosquittoBroker, TlsFiles
from tests.hub.client import CONNACK, RawClient, connect_packet

MANAGER = "fleet"
MAX_PAYLOAD_BYTES = 512


class CertifiedHub:
    """A hub that runs, its authority, and clients that are gone with the test."""

    def __init__(self, broker: EmbeddedBroker | MosquittoBroker, authority: Authority, directory: Path) -> None:
        self.broker = broker
        self.authority = authority
        self.clients: list[RawClient] = []
        self._directory = directory

    async def attempt(
        self, context: ssl.SSLContext, client_id: str = "x", username: str | None = None, password: str | None = None
    ) -> RawClient | None:
        """Connect with TLS, then MQTT; None when the hub refuses at any step."""
        try:
            client = await RawClient.open(self.broker.port, context)
        except OSError:
            return None
        self.clients.append(client)
        client.send(connect_packet(client_id, username, password))
        with contextlib.suppress(EOFError):
            if (await client.expect(CONNACK))[1] == 0:
                return client
        return None

    async def connect(self, name: str) -> RawClient:
        """As a gateway with a fresh certificate, or as the manager."""
        client = await self.attempt(self.context_of(name))
        assert client is not None, f"{name} was refused"
        return client

    def context_of(self, name: str, authority: Authority | None = None) -> ssl.SSLContext:
        """With a fresh certificate for `name`, of another authority if one is given."""
        signer = authority or self.authority
        if name == MANAGER:
            return self.context(signer.file_of(MANAGER))
        key = certificates.new_key()
        pair = self._directory / f"{name}-{len(list(self._directory.iterdir()))}.pem"
        pair.write_bytes(certificates.pair_pem(key, signer.issue(name, key.public_key())))
        return self.context(pair)

    def context(self, pair: Path | None = None, authority_file: Path | None = None) -> ssl.SSLContext:
        """A client that checks the hub's certificate and host name, with the certificate in `pair`."""
        context = ssl.create_default_context(cafile=str(authority_file or self.authority.certificate_file))
        if pair is not None:
            context.load_cert_chain(pair)
        return context

    async def revoke(self, name: str) -> None:
        """As an operator does; a Mosquitto gets its new list by hand."""
        self.authority.revoke(name)
        if isinstance(self.broker, MosquittoBroker):
            await self.broker.reload()
        else:
            self.broker.refresh_certificates()


def authority_in(directory: Path, days_ago: float = 0) -> Authority:
    """A fresh authority whose clock is behind by so many days."""
    authority = Authority(directory, lambda: datetime.now(UTC) - timedelta(days=days_ago))
    authority.init([])
    return authority


def files_of(authority: Authority) -> TlsFiles:
    """What a hub needs of it."""
    return TlsFiles(authority.certificate_file, authority.file_of(HUB), authority.revocations_file)


@asynccontextmanager
async def certified_hub(kind: str, directory: Path) -> AsyncIterator[CertifiedHub]:
    """A running hub of that kind, with only its own authority's files."""
    authority = authority_in(directory / "data")
    access, files = CertificateAccess(MANAGER), files_of(authority)
    broker: EmbeddedBroker | MosquittoBroker
    if kind == "embedded":
        broker = EmbeddedBroker(access=access, max_payload_bytes=MAX_PAYLOAD_BYTES, tls=files)
    else:
        broker = MosquittoBroker(
            access=access, max_payload_bytes=MAX_PAYLOAD_BYTES, directory=directory / "mosquitto", tls=files
        )
    (directory / "pairs").mkdir()
    async with broker:
        hub = CertifiedHub(broker, authority, directory / "pairs")
        try:
            yield hub
        finally:
            for client in hub.clients:
                client.drop()
