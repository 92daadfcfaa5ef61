"""The gateway's certificate: enrolled once with a token, renewed by itself, for MQTT over TLS to the hub.

Key and certificate lie in one file, replaced in one step, so that no crash leaves two that do not belong together. The
key is made here and never leaves.
"""

import asyncio
import base64
import hmac
import json
import os
import ssl
import urllib.error
import urllib.parse
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from firmware.hosting.tls import ClientTls
from fleet.wire.enrolment import ENROL_PATH, RENEW_PATH, renewal_message

_log = structlog.get_logger("nanoclaw")

SERVER_FILE = "server.json"
TIMEOUT_S = 30.0
MAX_ANSWER_BYTES = 65_536
LOOK_AGAIN_S = 3600.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class CertificateError(Exception):
    """No certificate was had; the text is for the user."""


def enrol(gateway: str, tls: ClientTls, url: str, token: str, web_authority: Path | None = None) -> datetime:
    """Get the first certificate from the fleet manager at `url`, and the authority's; when it runs out.

    The token names the authority's fingerprint, so a stranger who answers is found out. `web_authority` certifies the
    manager's HTTPS where the machine's own list does not. Raises CertificateError.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    request = _request(gateway, key).public_bytes(serialization.Encoding.PEM).decode()
    secret, _, fingerprint = token.partition(".")
    if not secret or not fingerprint:
        raise CertificateError("the token is not one of fleet pki token: it has two parts and a point between")
    body = {"gateway_id": gateway, "request": request}
    granted, authority = _ask(url, ENROL_PATH, body, secret, web_authority)
    if not hmac.compare_digest(authority.fingerprint(hashes.SHA256()).hex(), fingerprint.lower()):
        raise CertificateError(f"{url} answers with an authority that is not the one of the token: not trusted")
    _check(granted, authority, key)
    server = {"url": url, "web_authority": None if web_authority is None else str(web_authority.resolve())}
    _make_directories(tls)
    _write(tls.authority.parent / SERVER_FILE, json.dumps(server).encode())
    _write(tls.authority, authority.public_bytes(serialization.Encoding.PEM))
    _write(tls.certificate, _pair(key, granted))
    return granted.not_valid_after_utc


def renew(tls: ClientTls) -> datetime:
    """Get the next certificate, on a new key, vouched for by the present one; its end. Raises CertificateError."""
    present, old = _present(tls.certificate)
    key = ec.generate_private_key(ec.SECP256R1())
    names = present.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    request = _request(str(names[0].value), key)
    signed = renewal_message(request.public_bytes(serialization.Encoding.DER))
    body = {
        "certificate": present.public_bytes(serialization.Encoding.PEM).decode(),
        "request": request.public_bytes(serialization.Encoding.PEM).decode(),
    }
    signature = base64.b64encode(old.sign(signed, ec.ECDSA(hashes.SHA256()))).decode()
    url, web_authority = _server(tls.authority.parent / SERVER_FILE)
    granted, _ = _ask(url, RENEW_PATH, body, signature, web_authority)
    _check(granted, _authority(tls.authority), key)
    _write(tls.certificate, _pair(key, granted))
    return granted.not_valid_after_utc


async def keep_renewed(tls: ClientTls) -> None:
    """Look every hour whether a third of the certificate's time or less is left, and renew it then.

    One that was not enrolled here, or whose key lies in a file of its own, is somebody else's to look after.
    """
    if not (tls.authority.parent / SERVER_FILE).exists() or tls.key != tls.certificate:
        _log.info("the certificate does not come from nanoclaw enrol: it is not renewed by itself")
        return
    while True:
        try:
            if await asyncio.to_thread(is_due, tls, datetime.now(UTC)):
                end = await asyncio.to_thread(renew, tls)
                _log.info("certificate renewed", until=f"{end:%Y-%m-%d}")
        except CertificateError as error:
            _log.error("the certificate could not be renewed", reason=str(error))
        await asyncio.sleep(LOOK_AGAIN_S)


def is_due(tls: ClientTls, now: datetime) -> bool:
    """Whether the present certificate is to be renewed. Raises CertificateError."""
    present, _ = _present(tls.certificate)
    lifetime = present.not_valid_after_utc - present.not_valid_before_utc
    return present.not_valid_after_utc - now <= lifetime / 3


def problem(gateway: str, tls: ClientTls, utc_ms: int) -> tuple[str, str]:
    """How the certificate is: "ok", "warning" or "error", and the reason in words."""
    now = datetime.fromtimestamp(utc_ms / 1000, UTC)
    try:
        certificate = _certificate(tls.certificate)
        authority = _authority(tls.authority)
        key = _key(tls.key)
    except CertificateError as error:
        return "error", str(error)
    wrong = _wrong(gateway, certificate, authority, key, now)
    if wrong is not None:
        return "error", f"{tls.certificate}: {wrong}"
    end = certificate.not_valid_after_utc
    if end - now <= (end - certificate.not_valid_before_utc) / 3:
        return "warning", f"{tls.certificate} runs out on {end:%Y-%m-%d}: a running gateway that enrolled renews it"
    return "ok", f"{tls.certificate} is valid until {end:%Y-%m-%d}"


def _wrong(
    gateway: str,
    certificate: x509.Certificate,
    authority: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> str | None:
    names = [str(each.value) for each in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    if names != [gateway]:
        return f"it is for {', '.join(names) or 'nobody'}, and this is {gateway}"
    if certificate.public_key() != key.public_key():
        return "it is for another key"
    if now < certificate.not_valid_before_utc:
        return f"it is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    if now > certificate.not_valid_after_utc:
        return f"it ran out on {certificate.not_valid_after_utc:%Y-%m-%d}: nanoclaw enrol gets another"
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):  # another name, another kind of key, another key
        return "it is not signed by the authority that the hub is checked against"
    return None


def _request(name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateSigningRequest:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())


def _ask(
    url: str, path: str, body: dict[str, str], proof: str, web_authority: Path | None
) -> tuple[x509.Certificate, x509.Certificate]:
    """The granted certificate and the authority's."""
    answer = _post(url, path, body, proof, web_authority)
    load = x509.load_pem_x509_certificate
    try:
        return load(answer["certificate"].encode()), load(answer["authority"].encode())
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CertificateError(f"{url} does not answer as a fleet manager") from None


def _post(url: str, path: str, body: dict[str, str], proof: str, web_authority: Path | None) -> Any:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise CertificateError(f"{url!r}: must begin with https://, since what is sent there is a secret")
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {proof}"}
    request = urllib.request.Request(url.rstrip("/") + path, json.dumps(body).encode(), headers)  # noqa: S310
    try:
        context = ssl.create_default_context(cafile=None if web_authority is None else str(web_authority))
        opener = urllib.request.build_opener(_StayHere, urllib.request.HTTPSHandler(context=context))
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            return json.loads(answer.read(MAX_ANSWER_BYTES))
    except urllib.error.HTTPError as error:
        raise CertificateError(f"{url} refuses ({error.code}): {_message(error)}") from None
    except (OSError, ValueError) as error:
        raise CertificateError(f"{url}: {getattr(error, 'reason', None) or error}") from None


class _StayHere(urllib.request.HTTPRedirectHandler):
    """A secret goes to the address that the user gave, wherever else that may point."""

    def redirect_request(self, *_args: Any, **_more: Any) -> None:
        return None


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read(MAX_ANSWER_BYTES))["message"])
    except (OSError, ValueError, KeyError, TypeError):
        return str(error.reason)


def _check(granted: x509.Certificate, authority: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    try:
        granted.verify_directly_issued_by(authority)
    except Exception:
        raise CertificateError("the fleet manager's answer is not signed by its authority") from None
    if granted.public_key() != key.public_key():
        raise CertificateError("the fleet manager's answer is for another key")


def _present(pair: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    return _certificate(pair), _key(pair)


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(_read(path))
    except ValueError:
        raise CertificateError(f"{path}: not a certificate in PEM") from None


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError):
        raise CertificateError(f"{path}: not a key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{path}: not an elliptic curve key")
    return key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"{path}: {error.strerror}: nanoclaw enrol gets it") from None


def _authority(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        raise CertificateError(f"{path}: not a certificate in PEM; enrol again with nanoclaw enrol") from None


def _make_directories(tls: ClientTls) -> None:
    try:
        for directory in (tls.authority.parent, tls.certificate.parent):
            if not directory.exists():
                directory.mkdir(parents=True, mode=0o700)
                _give(directory, directory.parent)
    except OSError as error:
        raise CertificateError(f"{error.filename}: {error.strerror}") from None


def _server(path: Path) -> tuple[str, Path | None]:
    try:
        found = json.loads(path.read_text())
        authority = found["web_authority"]
        return str(found["url"]), None if authority is None else Path(authority)
    except (OSError, ValueError, KeyError, TypeError):
        raise CertificateError(f"{path}: damaged; enrol again with nanoclaw enrol") from None


def _pair(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> bytes:
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    return key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) + certificate.public_bytes(pem)


def _write(path: Path, content: bytes) -> None:
    """Replace a file in one step; all are for this user alone. Raises CertificateError."""
    fresh = path.with_name(path.name + ".new")
    try:
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o600)
            _give(fresh, path.parent)
            file.write(content)
            file.flush()
            os.fsync(handle)
        fresh.replace(path)
    except OSError as error:
        raise CertificateError(f"{path}: {error.strerror}") from None


def _give(path: Path, directory: Path) -> None:
    """What root makes for a gateway that runs as another user belongs to the owner of the directory."""
    if os.geteuid() == 0:
        owner = directory.stat()
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
