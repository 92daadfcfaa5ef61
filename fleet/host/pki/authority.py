"""The certificate authority of a data directory.

The files are the state: `issued/` holds every certificate that was signed, `crl.pem` says which of them are revoked.
Nothing else is remembered, so the two can never disagree with a third.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from firmware.wire.ids import valid_id
from fleet.host.local_hub import MANAGER
from fleet.host.pki import certificates, files
from fleet.host.pki.certificates import FOR_CLIENTS, FOR_SERVERS, GATEWAY_DAYS, HUB_DAYS, PublicKey
from fleet.host.pki.files import PkiError

DIRECTORY = "pki"
HUB = "hub"
DOCTOR = "hub-doctor"  # as `fleet.hub.access` has it; loading a broker for one word takes long
LOOPBACK = ("localhost", "127.0.0.1", "::1")
MAX_DAYS = 3650


@dataclass(frozen=True)
class Issued:
    """One certificate that the authority signed; `state` is valid, expired or revoked."""

    name: str
    serial: int
    not_after: datetime
    state: str


def utc_now() -> datetime:
    """The machine's own clock: certificates are about real time, also under a simulator's clock."""
    return datetime.now(UTC)


class Authority:
    """The authority in `data`/pki; every method raises PkiError. `now` is handed in by tests of expiry."""

    def __init__(self, data: Path, now: Callable[[], datetime] = utc_now) -> None:
        self.directory = data / DIRECTORY
        self.certificate_file = self.directory / "ca.crt"
        self.key_file = self.directory / "ca.key"
        self.revocations_file = self.directory / "crl.pem"
        self.now = now

    @property
    def exists(self) -> bool:
        """Whether `init` was ever done."""
        return self.certificate_file.exists()

    @property
    def can_sign(self) -> bool:
        """Whether the authority's key is here; a machine that only runs a hub does without."""
        return self.exists and self.key_file.exists()

    def file_of(self, name: str) -> Path:
        """Where the hub's or the manager's own key and certificate lie: one file, so that both change in one step."""
        return self.directory / f"{name}.pem"

    def init(self, hosts: Sequence[str]) -> None:
        """Make the authority, the hub's certificate for `hosts` and loopback, and the manager's."""
        files.make_directory(self.directory)  # first, since parents are made with wider rights
        files.make_directory(self.directory / "issued")
        with files.locked(self.directory):
            if self.exists:
                raise PkiError(f"{self.directory} holds an authority already: every certificate in use comes from it")
            key = certificates.new_key()
            made = certificates.build_authority(key, "Clawland fleet authority", self.now())
            files.write(self.key_file, certificates.key_pem(key), secret=True)
            self._write_revocations(made, key, [], 1)
            self._equip(made, key, HUB, FOR_SERVERS, hosts)
            self._equip(made, key, MANAGER, FOR_CLIENTS, ())
            files.write(self.certificate_file, certificates.pem(made))  # last: it says that all is there

    def certificate(self) -> x509.Certificate:
        """The authority's own certificate."""
        self._require()
        return files.read_certificate(self.certificate_file)

    def issue(self, name: str, public_key: PublicKey, days: int = GATEWAY_DAYS) -> x509.Certificate:
        """A client certificate for the gateway `name`."""
        check_gateway(name)
        if not 0 < days <= MAX_DAYS:
            raise PkiError(f"a certificate is valid for 1 to {MAX_DAYS} days")
        with files.locked(self._require()):
            return self._sign(self.certificate(), files.read_key(self.key_file), name, public_key, FOR_CLIENTS, days)

    def renew_own(self, hosts: Sequence[str] | None = None) -> list[str]:
        """Sign the hub's and the manager's certificates anew, on new keys, when a third of their time or less is left.

        With `hosts` the hub's is renewed in any case, for those addresses. Returns whose were renewed.
        """
        renewed = []
        with files.locked(self._require()):
            authority, key = self.certificate(), files.read_key(self.key_file)
            for name, purpose in ((HUB, FOR_SERVERS), (MANAGER, FOR_CLIENTS)):
                present = files.read_certificate(self.file_of(name))
                wanted = hosts if name == HUB else None
                if wanted is not None or runs_out(present, self.now()):
                    self._equip(authority, key, name, purpose, _hosts_of(present) if wanted is None else wanted)
                    renewed.append(name)
        return renewed

    def equip_doctor(self) -> Path:
        """Key and certificate for an examination of the hub, good for a day."""
        with files.locked(self._require()):
            authority, key = self.certificate(), files.read_key(self.key_file)
            self._equip(authority, key, DOCTOR, FOR_CLIENTS, (), days=1)
        return self.file_of(DOCTOR)

    def revoke(self, name: str) -> int:
        """Revoke every certificate of `name` that is valid; how many those were."""
        with files.locked(self._require()):
            listed = self._revocations()
            doomed = [issued for issued in self.issued() if issued.name == name and issued.state == "valid"]
            if not doomed:
                raise PkiError(f"{name!r} has no valid certificate: fleet pki list shows them all")
            fresh = [_revoked(issued.serial, self.now()) for issued in doomed]
            number = int(listed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
            key = files.read_key(self.key_file)
            self._write_revocations(self.certificate(), key, [*listed, *fresh], number + 1)
        return len(doomed)

    def issued(self) -> list[Issued]:
        """Everything that was signed, by name and then by end."""
        directory, found = self._require(), []
        revoked = {entry.serial_number for entry in self._revocations()}
        for path in sorted((directory / "issued").glob("*.crt")):
            signed = files.read_certificate(path)
            end = signed.not_valid_after_utc
            state = "revoked" if signed.serial_number in revoked else "expired" if end <= self.now() else "valid"
            found.append(Issued(certificates.common_name(signed), signed.serial_number, end, state))
        return sorted(found, key=lambda issued: (issued.name, issued.not_after))

    def is_good(self, certificate: x509.Certificate) -> bool:
        """Whether a certificate is one of ours, in its time, and not revoked."""
        try:
            certificate.verify_directly_issued_by(self.certificate())
        except Exception:
            return False
        in_time = certificate.not_valid_before_utc <= self.now() < certificate.not_valid_after_utc
        return (
            in_time and self._revocations().get_revoked_certificate_by_serial_number(certificate.serial_number) is None
        )

    def _require(self) -> Path:
        if not self.exists:
            raise PkiError(f"there is no certificate authority in {self.directory}: fleet pki init makes one")
        return self.directory

    def _revocations(self) -> x509.CertificateRevocationList:
        try:
            return x509.load_pem_x509_crl(files.read(self.revocations_file))
        except ValueError:
            raise PkiError(f"{self.revocations_file}: not a revocation list in PEM") from None

    def _write_revocations(
        self,
        authority: x509.Certificate,
        key: certificates.PrivateKey,
        revoked: Sequence[x509.RevokedCertificate],
        number: int,
    ) -> None:
        listed = certificates.build_revocations(authority, key, revoked, number, self.now())
        files.write(self.revocations_file, certificates.pem(listed))

    def _equip(
        self,
        authority: x509.Certificate,
        key: certificates.PrivateKey,
        name: str,
        purpose: x509.ObjectIdentifier,
        hosts: Sequence[str],
        days: int = HUB_DAYS,
    ) -> None:
        """A key and its certificate for a part of the fleet manager itself."""
        own = certificates.new_key()
        if purpose == FOR_SERVERS:
            hosts = [*dict.fromkeys([*hosts, *LOOPBACK])]
        made = self._sign(authority, key, name, own.public_key(), purpose, days, hosts)
        files.write(self.file_of(name), certificates.pair_pem(own, made), secret=True)

    def _sign(
        self,
        authority: x509.Certificate,
        key: certificates.PrivateKey,
        name: str,
        public_key: PublicKey,
        purpose: x509.ObjectIdentifier,
        days: int,
        hosts: Sequence[str] = (),
    ) -> x509.Certificate:
        try:
            made = certificates.build_leaf(authority, key, public_key, name, purpose, self.now(), days, hosts)
        except ValueError as error:
            raise PkiError(f"cannot make a certificate for {', '.join(hosts) or name}: {error}") from None
        files.write(self.directory / "issued" / f"{made.serial_number:040x}.crt", certificates.pem(made))
        return made


def check_gateway(name: str) -> None:
    """Raises PkiError for a name that no gateway can have, or that is the manager's or the hub's own."""
    if not valid_id(name):
        raise PkiError(f"{name!r} is not an id: 1 to 32 of a-z, 0-9 and '-', not '-' first")
    if name in (MANAGER, HUB, DOCTOR):
        raise PkiError(f"{name!r} is the name of a part of the fleet manager; no gateway can have it")


def runs_out(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether a third of its time or less is left: then it is to be renewed."""
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return certificate.not_valid_after_utc - now <= lifetime / 3


def _hosts_of(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names]


def _revoked(serial: int, now: datetime) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - timedelta(seconds=1))
    return builder.build()
