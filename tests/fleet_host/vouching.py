"""A clock for the certificate authority, and requests as gateways make them."""

from collections.abc import Callable
from datetime import UTC, datetime

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fleet.host.pki import certificates
from fleet.wire.enrolment import renewal_message
from tests.fleet_host.stand import GATEWAY

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def request_for(name: str, key: ec.EllipticCurvePrivateKey | None = None) -> str:
    """A signing request in PEM."""
    made = certificates.build_request(key or certificates.new_key(), name)
    return made.public_bytes(serialization.Encoding.PEM).decode()


def vouched(
    old: ec.EllipticCurvePrivateKey, name: str = GATEWAY, prefix: Callable[[bytes], bytes] = renewal_message
) -> tuple[str, bytes]:
    """A request on a new key, and the old key's signature over it."""
    made = certificates.build_request(certificates.new_key(), name)
    signed = prefix(made.public_bytes(serialization.Encoding.DER))
    return made.public_bytes(serialization.Encoding.PEM).decode(), old.sign(signed, ec.ECDSA(hashes.SHA256()))
