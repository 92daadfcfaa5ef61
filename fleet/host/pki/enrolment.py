"""How a gateway gets its first certificate, and the next ones, without anybody carrying a private key about.

First: an operator makes a one-time token (`fleet pki token`) and brings it to the gateway. It holds a secret, of which
the server keeps a hash, and the fingerprint of the authority's certificate, by which the gateway recognises what it is
handed. Later: the present certificate vouches for the next request by a signature of its key.
"""

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from fleet.host.pki import certificates, files
from fleet.host.pki.authority import Authority, check_gateway, runs_out
from fleet.host.pki.certificates import RequestRefused
from fleet.host.pki.files import PkiError
from fleet.wire.enrolment import renewal_message

TOKENS_FILE = "tokens.json"
SECRET_BYTES = 32
MAX_TTL_S = 30 * 86_400

Tokens = dict[str, dict[str, Any]]


class TokenRefused(Exception):
    """No live enrolment token of this gateway; it does not say whether there ever was one."""

    def __init__(self) -> None:
        super().__init__("the enrolment token is not valid for this gateway: make a new one with fleet pki token")


@dataclass(frozen=True)
class Granted:
    """What a gateway gets."""

    certificate: x509.Certificate
    authority: x509.Certificate

    @property
    def name(self) -> str:
        """Whose certificate it is."""
        return certificates.common_name(self.certificate)


def make_token(authority: Authority, name: str, ttl_s: int) -> str:
    """A token with which the gateway `name` can enrol once, within `ttl_s` seconds; it replaces an earlier one.

    Raises PkiError.
    """
    check_gateway(name)
    if not 0 < ttl_s <= MAX_TTL_S:
        raise PkiError(f"an enrolment token lives for more than 0 and at most {MAX_TTL_S // 86_400} days")
    found = authority.certificate()
    secret = secrets.token_urlsafe(SECRET_BYTES)
    with files.locked(authority.directory):
        tokens = _live(authority)
        tokens[name] = {"sha256": _digest(secret), "expires_s": int(authority.now().timestamp()) + ttl_s}
        _write(authority, tokens)
    return f"{secret}.{certificates.fingerprint(found)}"


def enrol(authority: Authority, name: str, token: str, request_pem: str) -> Granted:
    """The first certificate, for whoever brings the token of `name`. The token is spent then, and only then.

    Raises TokenRefused, RequestRefused, PkiError.
    """
    request = certificates.read_request(request_pem)
    if _requested_name(request) != name:
        raise RequestRefused(f"the signing request is not for {name!r}")
    with files.locked(authority.directory):
        tokens = _live(authority)
        kept = str(tokens.get(name, {}).get("sha256", ""))
        if not hmac.compare_digest(_digest(token.partition(".")[0]), kept):
            raise TokenRefused
        del tokens[name]
        _write(authority, tokens)
    return _grant(authority, name, request)


def renew(authority: Authority, certificate_pem: str, request_pem: str, signature: bytes) -> Granted:
    """The next certificate, for the name in a present one whose key signed the request.

    Someone who repeats a request that was overheard gets a certificate for a key that is not theirs. Raises
    RequestRefused, PkiError.
    """
    present, request = _certificate(certificate_pem), certificates.read_request(request_pem)
    name = certificates.common_name(present)
    if not authority.is_good(present):
        raise RequestRefused("the present certificate is not valid: revoked, run out, or not of this fleet")
    signed = renewal_message(request.public_bytes(serialization.Encoding.DER))
    certificates.check_signature(present, signature, signed)
    if not runs_out(present, authority.now()):
        raise RequestRefused("the present certificate is not due for renewal: more than a third of its time is left")
    if _requested_name(request) != name:
        raise RequestRefused(f"the signing request is not for {name!r}, whose certificate vouches for it")
    return _grant(authority, name, request)


def _grant(authority: Authority, name: str, request: x509.CertificateSigningRequest) -> Granted:
    """Nothing of the request is taken over but its key: name, purpose and time are ours to say."""
    try:
        check_gateway(name)
    except PkiError as error:
        raise RequestRefused(str(error)) from None
    return Granted(authority.issue(name, certificates.public_key_of(request)), authority.certificate())


def _requested_name(request: x509.CertificateSigningRequest) -> str:
    found = request.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(found[0].value) if len(found) == 1 else ""


def _certificate(text: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(text.encode())
    except ValueError:
        raise RequestRefused("the present certificate is not X.509 in PEM") from None


def _digest(secret: str) -> str:
    """A secret of 256 random bits needs no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _path(authority: Authority) -> Path:
    return authority.directory / TOKENS_FILE


def _live(authority: Authority) -> Tokens:
    """The tokens that have not run out."""
    path = _path(authority)
    if not path.exists():
        return {}
    try:
        found: Tokens = json.loads(files.read(path))
        now_s = authority.now().timestamp()
        return {name: token for name, token in found.items() if token["expires_s"] > now_s}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise PkiError(f"{path}: damaged; remove it, and make the tokens that are still needed anew") from None


def _write(authority: Authority, tokens: Tokens) -> None:
    files.write(_path(authority), json.dumps(tokens).encode(), secret=True)
