"""A gateway's certificate: whom it believes when it enrols, and how it renews. The manager answers without HTTP."""

import base64
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from firmware.hosting.tls import ClientTls
from fleet.host.pki import certificates, enrolment
from fleet.host.pki.authority import Authority
from fleet.wire.enrolment import ENROL_PATH
from nanoclaw.host import certificate
from nanoclaw.host.certificate import CertificateError
from nanoclaw.host.config import load_settings
from tests.nanoclaw_host.rig import GATEWAY, gateway_config, write_key

URL = "https://fleet.example.org"


class Manager:
    """Stands for a fleet manager: answers with what its authority grants."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.asked: list[str] = []
        self.now = datetime.now(UTC)

    def post(self, url: str, path: str, body: dict[str, str], proof: str, _web: Path | None) -> Any:
        self.asked.append(url + path)
        if path == ENROL_PATH:
            granted = enrolment.enrol(self.authority, body["gateway_id"], proof, body["request"])
        else:
            signature = base64.b64decode(proof)
            granted = enrolment.renew(self.authority, body["certificate"], body["request"], signature)
        pems = {"certificate": granted.certificate, "authority": granted.authority}
        return {name: certificates.pem(found).decode() for name, found in pems.items()}


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manager:
    made = Manager(Authority(tmp_path / "fleet", lambda: made.now))
    made.authority.init([])
    monkeypatch.setattr(certificate, "_post", made.post)
    return made


@pytest.fixture
def tls(tmp_path: Path) -> ClientTls:
    pair = tmp_path / "gateway" / "pki" / "gateway.pem"
    return ClientTls(pair.with_name("ca.crt"), pair, pair)


def enrolled(manager: Manager, tls: ClientTls) -> None:
    certificate.enrol(GATEWAY, tls, URL, enrolment.make_token(manager.authority, GATEWAY, 60))


def test_enrolling_leaves_files_for_this_user_alone_that_tls_can_use(manager: Manager, tls: ClientTls) -> None:
    enrolled(manager, tls)
    assert [path.stat().st_mode & 0o077 for path in tls.authority.parent.iterdir()] == [0, 0, 0]
    assert tls.authority.read_bytes() == manager.authority.certificate_file.read_bytes()
    assert tls.context().check_hostname
    assert not certificate.is_due(tls, datetime.now(UTC))
    assert certificate.is_due(tls, datetime.now(UTC) + timedelta(days=61))


def test_an_impostor_s_authority_is_not_trusted_and_leaves_no_file(
    manager: Manager, tls: ClientTls, tmp_path: Path
) -> None:
    impostor = Authority(tmp_path / "impostor")
    impostor.init([])
    token = enrolment.make_token(manager.authority, GATEWAY, 60)
    stolen = enrolment.make_token(impostor, GATEWAY, 60)  # it would take any token
    manager.authority = impostor
    with pytest.raises(CertificateError, match="not the one of the token"):
        certificate.enrol(GATEWAY, tls, URL, f"{stolen.partition('.')[0]}.{token.partition('.')[2]}")
    assert not tls.authority.parent.exists()


def test_a_renewal_has_a_new_key_from_the_same_place(manager: Manager, tls: ClientTls) -> None:
    enrolled(manager, tls)
    manager.now += timedelta(days=61)
    before = x509.load_pem_x509_certificate(tls.certificate.read_bytes())
    certificate.renew(tls)
    after = x509.load_pem_x509_certificate(tls.certificate.read_bytes())
    assert after.public_key() != before.public_key()
    assert certificates.common_name(after) == GATEWAY
    tls.context()
    assert manager.asked == [f"{URL}/api/v1/fleet/enrol", f"{URL}/api/v1/fleet/renew"]


def _of_another_key(answer: Any, manager: Manager) -> Any:
    other = manager.authority.issue(GATEWAY, certificates.new_key().public_key())
    return {**answer, "certificate": certificates.pem(other).decode()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda answer, manager: {}, "does not answer as a fleet manager"),
        (lambda answer, manager: [], "does not answer as a fleet manager"),
        (lambda answer, manager: {**answer, "certificate": "x"}, "does not answer as a fleet manager"),
        (lambda answer, manager: {**answer, "certificate": answer["authority"]}, "another key"),
        (_of_another_key, "another key"),
    ],
)
def test_an_answer_that_does_not_fit_changes_nothing(
    manager: Manager,
    tls: ClientTls,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Any, Manager], Any],
    message: str,
) -> None:
    enrolled(manager, tls)
    manager.now += timedelta(days=61)
    before = tls.certificate.read_bytes()
    monkeypatch.setattr(certificate, "_post", lambda *asked: change(manager.post(*asked), manager))
    with pytest.raises(CertificateError, match=message):
        certificate.renew(tls)
    assert tls.certificate.read_bytes() == before


@pytest.mark.parametrize("token", ["", "abc", "abc.", ".abc"])
def test_what_is_no_token_is_never_sent(manager: Manager, tls: ClientTls, token: str) -> None:
    with pytest.raises(CertificateError, match="fleet pki token"):
        certificate.enrol(GATEWAY, tls, URL, token)
    assert manager.asked == []


@pytest.mark.parametrize("url", ["http://fleet.example.org", "ftp://x", "fleet.example.org", "", "file:///etc/passwd"])
def test_a_secret_goes_over_https_or_not_at_all(tls: ClientTls, url: str) -> None:
    with pytest.raises(CertificateError, match="https"):
        certificate.enrol(GATEWAY, tls, url, "secret.fingerprint")


@pytest.mark.parametrize("content", [None, "nonsense"])
def test_a_certificate_that_cannot_be_read_is_named(tls: ClientTls, content: str | None) -> None:
    tls.certificate.parent.mkdir(parents=True)
    if content is not None:
        tls.certificate.write_text(content)
    with pytest.raises(CertificateError, match=r"gateway\.pem"):
        certificate.is_due(tls, datetime.now(UTC))


def test_certificates_lie_in_the_data_directory_or_where_the_file_says(tmp_path: Path) -> None:
    write_key(tmp_path / "gateway.key", bytes(32))
    config = gateway_config(tmp_path, 8883)
    usual = load_settings(config, {"uplink.tls": "True"}, {})
    told = load_settings(config, {"uplink.ca": "/a/ca.crt", "uplink.certificate": "/a/g.crt", "uplink.key": "/a/k"}, {})
    pair = tmp_path / "gateway" / "pki" / "gateway.pem"
    assert (usual.uplink_tls, usual.tls) == (True, ClientTls(pair.with_name("ca.crt"), pair, pair))
    assert (told.uplink_tls, told.tls) == (False, ClientTls(Path("/a/ca.crt"), Path("/a/g.crt"), Path("/a/k")))


def test_a_redirection_is_not_followed(tls: ClientTls) -> None:
    """The proof in the header would go along."""

    class Elsewhere(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_args: Any) -> None: ...

    asked: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(CertificateError, match="refuses \\(302\\)"):
            certificate.enrol(GATEWAY, tls, f"http://127.0.0.1:{server.server_port}", "secret.fingerprint")
        server.shutdown()
    assert asked == [ENROL_PATH]


# --- what `nanoclaw check` says of it ---------------------------------------------------------------------------------


def verdict(tls: ClientTls, gateway: str = GATEWAY, in_days: float = 0) -> tuple[str, str]:
    utc = datetime.now(UTC) + timedelta(days=in_days)
    return certificate.problem(gateway, tls, int(utc.timestamp() * 1000))


def test_a_fresh_certificate_is_good_and_says_until_when(manager: Manager, tls: ClientTls) -> None:
    enrolled(manager, tls)
    level, text = verdict(tls)
    assert (level, "is valid until 20" in text) == ("ok", True)


def test_one_that_runs_out_soon_is_a_warning_and_one_that_has_run_out_an_error(
    manager: Manager, tls: ClientTls
) -> None:
    enrolled(manager, tls)
    present = x509.load_pem_x509_certificate(tls.certificate.read_bytes())
    days = (present.not_valid_after_utc - datetime.now(UTC)) / timedelta(days=1)
    assert verdict(tls, in_days=days * 0.8)[0] == "warning"
    level, text = verdict(tls, in_days=days + 1)
    assert (level, "it ran out on" in text, "nanoclaw enrol" in text) == ("error", True, True)


def test_one_that_is_not_valid_yet_says_so(manager: Manager, tls: ClientTls) -> None:
    enrolled(manager, tls)
    level, text = verdict(tls, in_days=-3000)
    assert (level, "it is not valid before" in text) == ("error", True)


def test_one_of_another_gateway_says_whose_it_is(manager: Manager, tls: ClientTls) -> None:
    enrolled(manager, tls)
    level, text = verdict(tls, gateway="gateway-02")
    assert (level, f"it is for {GATEWAY}, and this is gateway-02" in text) == ("error", True)


def test_one_of_another_authority_or_key_is_an_error(manager: Manager, tls: ClientTls, tmp_path: Path) -> None:
    enrolled(manager, tls)
    stranger = Authority(tmp_path / "stranger")
    stranger.init([])
    other = tmp_path / "other.pem"
    other.write_bytes(tls.certificate.read_bytes())
    enrolled(manager, tls)
    assert "it is for another key" in verdict(ClientTls(tls.authority, other, tls.certificate))[1]
    foreign = ClientTls(tmp_path / "stranger" / "pki" / "ca.crt", tls.certificate, tls.key)
    assert "it is not signed by the authority" in verdict(foreign)[1]


@pytest.mark.parametrize("text", ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_garbage_is_an_error_that_names_the_file(manager: Manager, tls: ClientTls, text: str) -> None:
    enrolled(manager, tls)
    tls.certificate.write_text(text)
    level, told = verdict(tls)
    assert (level, told.startswith(str(tls.certificate))) == ("error", True)


def test_what_root_makes_belongs_to_the_owner_of_the_directory(
    manager: Manager, tls: ClientTls, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []
    monkeypatch.setattr(certificate.os, "geteuid", lambda: 0)
    monkeypatch.setattr(certificate.os, "chown", lambda path, *_ids, follow_symlinks: given.append(Path(path).name))
    enrolled(manager, tls)
    assert {"pki", "gateway.pem.new", "ca.crt.new"} <= set(given)
