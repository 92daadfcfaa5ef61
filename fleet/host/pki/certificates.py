"""X.509 as this fleet uses it: built from keys, names and times that are handed in; no file is touched here.

EC P-256 throughout (RFC 5480), signed with SHA-256. The authority signs two kinds: one for the hub, good for servers
alone and with its addresses as subject alternative names; and one a gateway, good for clients alone and with the
gateway's id as common name. Neither can pass for the other, or sign.
"""

import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
HUB_DAYS = 397
GATEWAY_DAYS = 90  # a gateway renews by itself when a third of it is left
# A gateway without a battery-backed clock may be a little behind when it gets its first certificate.
BACKDATE = timedelta(hours=1)
MAX_REQUEST_CHARS = 8192
FOR_SERVERS, FOR_CLIENTS = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH

PrivateKey = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey


class RequestRefused(Exception):
    """A signing request, or a proof that goes with one, that cannot be honoured; the text is for whoever sent it."""


def new_key() -> PrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: PrivateKey) -> bytes:
    """A private key as unencrypted PKCS #8."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def pem(certificate: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    """A certificate or revocation list as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def pair_pem(key: PrivateKey, certificate: x509.Certificate) -> bytes:
    """A key and its certificate in one PEM text."""
    return key_pem(key) + pem(certificate)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 over the certificate's DER form, in hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def common_name(certificate: x509.Certificate) -> str:
    """The one common name of the subject; "" when there is none or more."""
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if len(found) == 1 else ""


def build_authority(key: PrivateKey, name: str, now: datetime) -> x509.Certificate:
    """The authority's own certificate, which signs leaves and revocation lists and nothing below."""
    subject = _name(name)
    builder = _builder(subject, subject, key.public_key(), now, now + timedelta(days=AUTHORITY_DAYS))
    usage = _usage(signs=True)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.add_extension(usage, critical=True).sign(key, hashes.SHA256())


def build_leaf(
    authority: x509.Certificate,
    authority_key: PrivateKey,
    public_key: PublicKey,
    name: str,
    purpose: x509.ObjectIdentifier,
    now: datetime,
    days: int,
    hosts: Sequence[str] = (),
) -> x509.Certificate:
    """A certificate for `name`, never valid for longer than the authority itself."""
    until = min(now + timedelta(days=days), authority.not_valid_after_utc)
    builder = _builder(_name(name), authority.subject, public_key, now, until)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    builder = builder.add_extension(signer, critical=False)
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_address(host) for host in hosts]), critical=False)
    return builder.sign(authority_key, hashes.SHA256())


def build_revocations(
    authority: x509.Certificate,
    authority_key: PrivateKey,
    revoked: Sequence[x509.RevokedCertificate],
    number: int,
    now: datetime,
) -> x509.CertificateRevocationList:
    """The list of revoked certificates.

    It is pushed to hubs as a file whenever it changes, so its next update is due when the authority itself ends: a list
    that lapsed earlier would lock the whole fleet out because of something that somebody forgot.
    """
    builder = x509.CertificateRevocationListBuilder(
        issuer_name=authority.subject, last_update=now - BACKDATE, next_update=authority.not_valid_after_utc
    )
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    builder = builder.add_extension(x509.CRLNumber(number), critical=False).add_extension(signer, critical=False)
    for entry in revoked:
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(authority_key, hashes.SHA256())


def build_request(key: PrivateKey, name: str) -> x509.CertificateSigningRequest:
    """A signing request (PKCS #10) for `name`."""
    return x509.CertificateSigningRequestBuilder().subject_name(_name(name)).sign(key, hashes.SHA256())


def read_request(text: str) -> x509.CertificateSigningRequest:
    """The signing request in PEM, with its proof of possession checked. Raises RequestRefused."""
    try:
        request = x509.load_pem_x509_csr(text[:MAX_REQUEST_CHARS].encode())
        proven = request.is_signature_valid
        public_key_of(request)
    except RequestRefused:
        raise
    except Exception:
        raise RequestRefused("the signing request is not PKCS #10 in PEM") from None
    if not proven:
        raise RequestRefused("the signing request is not signed with its own key")
    return request


def public_key_of(found: x509.CertificateSigningRequest | x509.Certificate) -> PublicKey:
    """The P-256 key in a request or certificate. Raises RequestRefused for any other kind."""
    key = found.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise RequestRefused("the key must be an elliptic curve key, P-256")
    return key


def check_signature(certificate: x509.Certificate, signature: bytes, signed: bytes) -> None:
    """Raises RequestRefused unless the certificate's key signed `signed` (ECDSA with SHA-256)."""
    try:
        public_key_of(certificate).verify(signature, signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise RequestRefused("the signature is not that of the present certificate's key") from None


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: PublicKey, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public_key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(min(now - BACKDATE, until - BACKDATE)).not_valid_after(until)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _address(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
