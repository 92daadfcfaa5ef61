"""The certificate authority: what it signs, what it keeps secret, and whom it lets enrol."""

import asyncio
import base64
import contextlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner

from fleet.cli import app
from fleet.host.pki import certificates, enrolment, files
from fleet.host.pki.authority import DOCTOR, Authority, runs_out
from fleet.host.pki.certificates import RequestRefused
from fleet.host.pki.enrolment import TokenRefused
from fleet.host.pki.files import PkiError
from fleet.host.pki.keeping import ends_utc_ms
from fleet.host.pki.routes import MAX_AT_ONCE
from fleet.hub import access
from fleet.wire.enrolment import renewal_message
from tests.fleet_host.stand import GATEWAY, Served, served

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authority(tmp_path: Path, clock: Clock) -> Authority:
    made = Authority(tmp_path, clock)
    made.init(["hub.example.org", "10.0.0.5"])
    return made


def request_for(name: str, key: ec.EllipticCurvePrivateKey | None = None) -> str:
    """A signing request in PEM."""
    made = certificates.build_request(key or certificates.new_key(), name)
    return made.public_bytes(serialization.Encoding.PEM).decode()


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


def vouched(
    old: ec.EllipticCurvePrivateKey, name: str = GATEWAY, prefix: Callable[[bytes], bytes] = renewal_message
) -> tuple[str, bytes]:
    """A request on a new key, and the old key's signature over it."""
    made = certificates.build_request(certificates.new_key(), name)
    signed = prefix(made.public_bytes(serialization.Encoding.DER))
    return made.public_bytes(serialization.Encoding.PEM).decode(), old.sign(signed, ec.ECDSA(hashes.SHA256()))


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


# --- over HTTP --------------------------------------------------------------------------------------------------------


def bearing(proof: str) -> dict[str, str]:
    """The header that shows it."""
    return {"Authorization": f"Bearer {proof}"}


@contextlib.asynccontextmanager
async def serving(data: Path) -> Any:
    async with served(data) as fleet:
        fleet.http.headers.pop("Authorization")
        fleet.runtime.events.listeners.append(lambda kind, fields: kinds.append(kind))
        kinds: list[str] = []
        yield fleet, kinds


async def _with_authority(fleet: Served, data: Path, clock: Clock | None = None) -> Authority:
    authority = Authority(data, clock or Clock())
    authority.init([])
    fleet.stage.authority = authority
    return authority


async def test_a_gateway_enrols_and_renews_over_http_without_an_api_token(tmp_path: Path, clock: Clock) -> None:
    async with serving(tmp_path) as (fleet, kinds):
        authority = await _with_authority(fleet, tmp_path, clock)
        token, key = enrolment.make_token(authority, GATEWAY, 60), certificates.new_key()
        body = {"gateway_id": GATEWAY, "request": request_for(GATEWAY, key)}
        first = await fleet.http.post("/api/v1/fleet/enrol", json=body, headers=bearing(token))
        again = await fleet.http.post("/api/v1/fleet/enrol", json=body, headers=bearing(token))
        clock.now += timedelta(days=61)
        request, signature = vouched(key)
        renewal, shown = {"certificate": first.json()["certificate"], "request": request}, base64.b64encode(signature)
        second = await fleet.http.post("/api/v1/fleet/renew", json=renewal, headers=bearing(shown.decode()))
        garbled = await fleet.http.post("/api/v1/fleet/renew", json=renewal, headers=bearing("%%"))
    assert [each.status_code for each in (first, again, second, garbled)] == [200, 403, 200, 400]
    assert again.json()["error"] == "enrolment_refused" and token.partition(".")[0] not in again.text
    assert second.json()["authority"] == first.json()["authority"] == authority.certificate_file.read_text()
    assert [kind for kind in kinds if kind.startswith("certificate")] == [
        "certificate.issued",
        "certificate.refused",
        "certificate.renewed",
    ]


async def test_only_so_many_strangers_are_served_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as (fleet, _):
        authority = await _with_authority(fleet, tmp_path)
        body = {"gateway_id": GATEWAY, "request": request_for(GATEWAY)}
        with files.locked(authority.directory):  # nothing goes on meanwhile
            asked = [
                asyncio.create_task(fleet.http.post("/api/v1/fleet/enrol", json=body, headers=bearing("x")))
                for _ in range(10)
            ]
            done, _ = await asyncio.wait(asked, timeout=5, return_when=asyncio.FIRST_COMPLETED)
            assert {task.result().status_code for task in done} == {429}
        answers = [await task for task in asked]
    assert sorted(answer.status_code for answer in answers) == [403] * MAX_AT_ONCE + [429] * (10 - MAX_AT_ONCE)
    assert {answer.headers.get("retry-after") for answer in answers if answer.status_code == 429} == {"1"}


async def test_a_server_without_an_authority_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as (fleet, _):
        body = {"gateway_id": GATEWAY, "request": "x"}
        assert (await fleet.http.post("/api/v1/fleet/enrol", json=body, headers=bearing("x"))).status_code == 404


async def test_damaged_files_of_the_authority_are_503_and_name_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as (fleet, _):
        authority = await _with_authority(fleet, tmp_path)
        token = enrolment.make_token(authority, GATEWAY, 60)
        authority.key_file.write_text("nonsense")
        body = {"gateway_id": GATEWAY, "request": request_for(GATEWAY)}
        response = await fleet.http.post("/api/v1/fleet/enrol", json=body, headers=bearing(token))
    assert response.status_code == 503 and str(tmp_path) not in response.text


# --- from a terminal --------------------------------------------------------------------------------------------------


def fleet(*arguments: object) -> tuple[int, str]:
    """Exit code and output of `fleet …`."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_an_authority_from_a_terminal(tmp_path: Path) -> None:
    data = ("--data", tmp_path / "data")
    assert fleet("pki", "init", *data, "--host", "hub.example.org")[0] == 0
    assert fleet("pki", "issue", GATEWAY, *data, "--out", tmp_path / "out")[0] == 0
    assert fleet("pki", "revoke", GATEWAY, *data) == (0, f"{GATEWAY}: 1 certificate revoked\n")
    code, listed = fleet("pki", "list", "--json", *data)
    assert code == 0
    assert {(row["name"], row["state"]) for row in json.loads(listed)} == {
        (GATEWAY, "revoked"),
        ("fleet", "valid"),
        ("hub", "valid"),
    }
    assert (tmp_path / "out" / f"{GATEWAY}.pem").stat().st_mode & 0o077 == 0
    assert fleet("pki", "renew", *data) == (0, "nothing runs out soon\n")
    assert fleet("pki", "renew", *data, "--host", "other.example.org") == (0, "renewed: hub\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pki", "list"), "fleet pki init makes one"),
        (("pki", "issue", "gateway-01"), "fleet pki init makes one"),
        (("pki", "token", "gateway-01"), "fleet pki init makes one"),
        (("pki", "token", "gateway-01", "--ttl", "soon"), "not a duration"),
        (("hub", "--tls"), "fleet pki init --data"),
        (("hub",), "--credentials FILE, or --tls"),
        (("serve", "--hub-host", "0.0.0.0"), "add --hub-tls"),
        (("serve", "--hub-tls"), "fleet pki init --data"),
    ],
)
def test_what_is_missing_is_one_line_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = fleet(*arguments, *(("--data", "data") if arguments != ("hub",) else ()))
    assert (code, said.count("\n")) == (2, 1)
    assert said.startswith("error: ") and message in said


def test_the_files_for_a_mosquitto_hold_the_rights_and_refuse_whom_they_should(tmp_path: Path) -> None:
    fleet("pki", "init", "--data", tmp_path / "data")
    arguments = ("hub", "--tls", "--data", tmp_path / "data", "--mosquitto-config", tmp_path / "m")
    assert fleet(*arguments, "--host", "0.0.0.0") == (
        0,
        f"written; run: mosquitto -c {tmp_path / 'm'}/mosquitto.conf\n",
    )
    config = (tmp_path / "m" / "mosquitto.conf").read_text().splitlines()
    for line in ("listener 8883 0.0.0.0", "require_certificate true", "use_identity_as_username true"):
        assert line in config
    assert f"crlfile {tmp_path / 'm'}/crl.pem" in config and "allow_anonymous false" in config
    rights = (tmp_path / "m" / "rights.acl").read_text().splitlines()
    assert "pattern write clawland/%u/batch" in rights and "pattern read clawland/%u/cmd" in rights
    assert not [line for line in rights if line.startswith("pattern") and "%u" not in line]
