"""DIR/pki on disk: who owns which file, whole files only, and one process at a time that changes them."""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from fleet.host.pki.certificates import PrivateKey

LOCK_FILE = "lock"


class PkiError(Exception):
    """The certificate authority cannot do what it was asked; the text is for the user."""


def write(path: Path, content: bytes, secret: bool = False) -> None:
    """Replace a file in one step and durably; a secret one is readable by its owner alone. Raises PkiError."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if secret else 0o644)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(handle)
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise PkiError(f"{path}: {error.strerror}") from None


def make_directory(path: Path) -> None:
    """A directory for this user alone, unless it is there. Raises PkiError."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise PkiError(f"{path}: {error.strerror}") from None


def read(path: Path) -> bytes:
    """A whole file. Raises PkiError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise PkiError(f"{path}: {error.strerror}") from None


def read_certificate(path: Path) -> x509.Certificate:
    """The first certificate in a PEM file. Raises PkiError."""
    try:
        return x509.load_pem_x509_certificate(read(path))
    except ValueError:
        raise PkiError(f"{path}: not a certificate in PEM") from None


def read_key(path: Path) -> PrivateKey:
    """The private key in a PEM file; nothing of it is ever in a message. Raises PkiError."""
    try:
        key = serialization.load_pem_private_key(read(path), password=None)
    except (ValueError, TypeError):
        raise PkiError(f"{path}: not an unencrypted private key in PEM") from None
    if not isinstance(key, PrivateKey):
        raise PkiError(f"{path}: not an elliptic curve key")
    return key


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Alone with the directory's files, however many processes use it. Raises PkiError."""
    try:
        handle = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise PkiError(f"{directory}: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
