"""The certificate authority: what it signs, what it keeps secret, and whom it lets enrol."""

import base64
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from fleet.host.pki import certificates, enrolment
from fleet.host.pki.authority import DOCTOR, Authority, runs_out
from fleet.host.pki.certificates import RequestRefused
from fleet.host.pki.enrolment import TokenRefused
from fleet.host.pki.files import PkiError
from fleet.host.pki.keeping import ends_utc_ms
from fleet.hub import access
from tests.fleet_host.stand import GATEWAY
from tests.fleet_host.vouching import NOW, Clock, request_for, vouched


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authority(tmp_path: Path, clock: Clock) -> Authority:
    made = Authority(tmp_path, clock)
    made.init(["hub.example.org", "10.0.0.5"])
    return made


# --- the authority ----------------------------------------------------------------------------------------------------


def test_secrets_are_for_their_owner_alone(authority: Authority) -> None:
    enrolment.make_token(authority, GATEWAY, 60)
    for name in ("ca.key", "hub.pem", "fleet.pem", "tokens.json"):
        assert (authority.directory / name).stat().st_mode & 0o077 == 0, name
    assert authority.directory.stat().st_mode & 0o077 == 0
    assert b"PRIVATE" not in authority.certificate_file.read_bytes()


def test_the_doctor_has_one_name_everywhere() -> None:
    assert DOCTOR == access.DOCTOR


def test_a_second_init_would_orphan_every_certificate_and_is_refused(authority: Authority) -> None:
    before = authority.certificate_file.read_bytes()
    with pytest.raises(PkiError, match="holds an authority already"):
        authority.init([])
    assert authority.certificate_file.read_bytes() == before


def test_the_hub_is_certified_for_its_names_and_for_loopback_as_a_server_alone(authority: Authority) -> None:
    found = x509.load_pem_x509_certificate(authority.file_of("hub").read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    purposes = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {str(name.value) for name in names} == {"hub.example.org", "10.0.0.5", "localhost", "127.0.0.1", "::1"}
    assert list(purposes) == [certificates.FOR_SERVERS]


def test_a_gateway_s_certificate_names_it_is_for_clients_signs_nothing_and_ends(authority: Authority) -> None:
    made = authority.issue(GATEWAY, certificates.new_key().public_key())
    assert certificates.common_name(made) == GATEWAY
    assert list(made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [certificates.FOR_CLIENTS]
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert made.not_valid_after_utc - NOW == timedelta(days=certificates.GATEWAY_DAYS)


def test_no_certificate_outlives_the_authority(authority: Authority, clock: Clock) -> None:
    end = authority.certificate().not_valid_after_utc
    clock.now = end - timedelta(days=5)
    assert authority.issue(GATEWAY, certificates.new_key().public_key()).not_valid_after_utc == end


@pytest.mark.parametrize(
    "name", ["fleet", "hub", "hub-doctor", "Gateway", "a/b", "+", "#", "", "g" * 33, "gateway-01\nuser fleet"]
)
def test_a_name_that_is_not_a_gateway_s_is_never_certified(authority: Authority, name: str) -> None:
    with pytest.raises(PkiError):
        authority.issue(name, certificates.new_key().public_key())
    with pytest.raises(PkiError):
        enrolment.make_token(authority, name, 60)


def test_revoking_takes_every_valid_certificate_of_a_name_and_the_list_tells_all(
    authority: Authority, clock: Clock
) -> None:
    authority.issue(GATEWAY, certificates.new_key().public_key(), days=1)
    clock.now += timedelta(days=2)
    taken = [authority.issue(GATEWAY, certificates.new_key().public_key()) for _ in range(2)]
    other = authority.issue("gateway-02", certificates.new_key().public_key())

    assert authority.revoke(GATEWAY) == 2

    states = {issued.serial: issued.state for issued in authority.issued()}
    assert [states[each.serial_number] for each in (*taken, other)] == ["revoked", "revoked", "valid"]
    assert sorted(issued.state for issued in authority.issued() if issued.name == GATEWAY)[0] == "expired"
    assert not authority.is_good(taken[0]) and authority.is_good(other)
    with pytest.raises(PkiError, match="no valid certificate"):
        authority.revoke(GATEWAY)


def test_its_own_certificates_are_renewed_when_a_third_of_the_time_is_left(authority: Authority, clock: Clock) -> None:
    before = authority.file_of("hub").read_bytes()
    clock.now += timedelta(days=200)
    assert authority.renew_own() == []
    clock.now += timedelta(days=100)
    assert authority.renew_own() == ["hub", "fleet"]
    renewed = x509.load_pem_x509_certificate(authority.file_of("hub").read_bytes())
    names = renewed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert authority.file_of("hub").read_bytes() != before and not runs_out(renewed, clock.now)
    assert "hub.example.org" in {str(name.value) for name in names}


def test_what_runs_out_is_the_last_certificate_of_each_name_and_never_a_revoked_one(
    authority: Authority, clock: Clock
) -> None:
    for days in (10, 40, 20):
        authority.issue(GATEWAY, certificates.new_key().public_key(), days)
    authority.issue("gateway-02", certificates.new_key().public_key())
    authority.revoke("gateway-02")
    ends = ends_utc_ms(authority)
    assert set(ends) == {"the authority", "hub", "fleet", GATEWAY}
    assert ends[GATEWAY] == int((NOW + timedelta(days=40)).timestamp() * 1000)


# --- enrolment --------------------------------------------------------------------------------------------------------


def test_a_token_works_once_and_is_kept_only_as_a_hash(authority: Authority) -> None:
    token = enrolment.make_token(authority, GATEWAY, 60)
    assert token.partition(".")[0] not in (authority.directory / "tokens.json").read_text()
    assert token.partition(".")[2] == certificates.fingerprint(authority.certificate())

    granted = enrolment.enrol(authority, GATEWAY, token, request_for(GATEWAY))

    assert granted.name == GATEWAY and authority.is_good(granted.certificate)
    with pytest.raises(TokenRefused):
        enrolment.enrol(authority, GATEWAY, token, request_for(GATEWAY))


@pytest.mark.parametrize("other", ["wrong", "gateway-02", "expired", "replaced", "none"])
def test_any_other_token_is_refused_in_the_same_words(authority: Authority, clock: Clock, other: str) -> None:
    token = enrolment.make_token(authority, "gateway-02" if other == "gateway-02" else GATEWAY, 60)
    if other == "wrong":
        token = "A" + token[1:] if token[0] != "A" else "B" + token[1:]
    elif other == "expired":
        clock.now += timedelta(seconds=61)
    elif other == "replaced":
        enrolment.make_token(authority, GATEWAY, 60)
    elif other == "none":
        token = ""
    with pytest.raises(TokenRefused, match="not valid for this gateway"):
        enrolment.enrol(authority, GATEWAY, token, request_for(GATEWAY))


def _rsa_request() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, GATEWAY)])
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def _tampered() -> str:
    made = certificates.build_request(certificates.new_key(), GATEWAY)
    raw = bytearray(made.public_bytes(serialization.Encoding.DER))
    raw[-1] ^= 1
    body = base64.encodebytes(bytes(raw)).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: "nonsense", "not PKCS"),
        (lambda: request_for("gateway-02"), "not for 'gateway-01'"),
        (_rsa_request, "P-256"),
        (_tampered, "own key"),
    ],
)
def test_a_bad_request_is_refused_and_the_token_still_works(
    authority: Authority, make: Callable[[], str], message: str
) -> None:
    token = enrolment.make_token(authority, GATEWAY, 60)
    with pytest.raises(RequestRefused, match=message):
        enrolment.enrol(authority, GATEWAY, token, make())
    enrolment.enrol(authority, GATEWAY, token, request_for(GATEWAY))


def test_the_present_certificate_s_key_vouches_for_the_next(authority: Authority, clock: Clock) -> None:
    old = certificates.new_key()
    present = certificates.pem(authority.issue(GATEWAY, old.public_key())).decode()
    clock.now += timedelta(days=60)
    granted = enrolment.renew(authority, present, *vouched(old))
    assert granted.certificate.not_valid_after_utc == clock.now + timedelta(days=90)


def test_renewing_early_is_refused_so_that_nobody_collects_certificates(authority: Authority) -> None:
    old = certificates.new_key()
    present = certificates.pem(authority.issue(GATEWAY, old.public_key())).decode()
    with pytest.raises(RequestRefused, match="not due"):
        enrolment.renew(authority, present, *vouched(old))


@pytest.mark.parametrize("case", ["another key", "another name", "unmarked", "expired", "revoked", "stranger", "hub"])
def test_nothing_else_vouches_for_anything(authority: Authority, clock: Clock, tmp_path: Path, case: str) -> None:
    old = certificates.new_key()
    signer = authority
    if case == "stranger":
        signer = Authority(tmp_path / "other", clock)
        signer.init([])
    present = certificates.pem(signer.issue(GATEWAY, old.public_key())).decode()
    request, signature = vouched(old)
    clock.now += timedelta(days=80)
    if case == "another key":
        request, signature = vouched(certificates.new_key())
    elif case == "another name":
        request, signature = vouched(old, "gateway-02")
    elif case == "unmarked":
        request, signature = vouched(old, prefix=lambda der: der)
    elif case == "expired":
        clock.now += timedelta(days=11)
    elif case == "revoked":
        authority.revoke(GATEWAY)
    elif case == "hub":
        clock.now += timedelta(days=300)
        pair = authority.file_of("fleet").read_bytes()
        key = serialization.load_pem_private_key(pair, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        present = certificates.pem(x509.load_pem_x509_certificate(pair)).decode()
        request, signature = vouched(key, "fleet")
    with pytest.raises(RequestRefused):
        enrolment.renew(authority, present, request, signature)
