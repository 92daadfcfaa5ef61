"""TLS for nodes: a certificate of the gateway's own that they pin, and a port that decrypts for the local broker.

Nodes know no authority; they know the certificate, by its SHA-256. It is made once and lasts, since a new one means
going to every node. A front in front of the broker serves the embedded one and Mosquitto alike, and nothing of a
message is kept in it: what one side does not take is not read from the other.
"""

import asyncio
import hashlib
import os
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from firmware.hosting.lifecycle import CannotRun

MOST_CONNECTIONS = 2_000
HANDSHAKE_S = 10.0
CHUNK_BYTES = 4_096
LASTS_DAYS = 20 * 365


@dataclass(frozen=True)
class SensorTls:
    """The port for nodes that speak TLS, and the PEM file with the key and the certificate."""

    port: int
    pair: Path


def make_pair(path: Path, name: str) -> None:
    """A key and a certificate signed by itself, for its owner alone; one that is there stays. Raises OSError.

    It is on the disk when this returns: after a power cut another one would mean going to every node.
    """
    # Imported here: it loads a library that gateways without TLS do not need.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if path.exists():
        return
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    since = datetime.now(UTC) - timedelta(days=1)
    made = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(since).not_valid_after(since + timedelta(days=LASTS_DAYS))
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    _sync(path.parent)


def _sync(directory: Path) -> None:
    """Have the name of a new file on the disk too. Raises OSError."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fingerprint(pair: Path) -> str:
    """What nodes pin: the SHA-256 of the certificate, 64 hexadecimal digits. Raises OSError or ValueError."""
    text = pair.read_text()
    begin = text.index("-----BEGIN CERTIFICATE-----")
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(text[begin:])).hexdigest()


class TlsFront:
    """Listens with TLS on `host`, and passes what it decrypts to the broker on this machine, at `target`."""

    def __init__(self, tls: SensorTls, name: str, host: str) -> None:
        self.port = tls.port
        self.fingerprint = ""
        self._tls, self._name, self._host = tls, name, host
        self._target: tuple[str, int] = ("", 0)
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self, target: tuple[str, int]) -> None:
        """Raises `CannotRun` when the certificate cannot be used or the port is taken."""
        self._target = target
        context = self._context()
        try:
            self._server = await asyncio.start_server(
                self._serve, self._host, self.port, ssl=context, ssl_handshake_timeout=HANDSHAKE_S, limit=CHUNK_BYTES
            )
        except OSError as error:
            reason = os.strerror(error.errno).lower() if error.errno else str(error)  # asyncio's own text is longer
            raise CannotRun(f"local.tls_port: {self.port} on {self._host}: {reason}") from None
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and every connection."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)
            await server.wait_closed()

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            make_pair(self._tls.pair, self._name)
            self.fingerprint = fingerprint(self._tls.pair)
            context.load_cert_chain(self._tls.pair)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "no certificate and key in PEM"
            raise CannotRun(f"local.certificate: {self._tls.pair}: {reason}") from None
        return context

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._join(reader, writer))
        self._serving.add(task)
        try:
            if len(self._serving) <= MOST_CONNECTIONS:
                await asyncio.wait([task])
        finally:
            task.cancel()
            self._serving.discard(task)
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Both directions, until one of them ends."""
        inner_reader, inner_writer = await asyncio.open_connection(*self._target, limit=CHUNK_BYTES)
        ways = [
            asyncio.create_task(_pass_on(reader, inner_writer)),
            asyncio.create_task(_pass_on(inner_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            inner_writer.close()
            await asyncio.gather(*ways, return_exceptions=True)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
