"""Enrolment and renewal over HTTP, and the authority from a terminal."""

import asyncio
import base64
import contextlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fleet.cli import app
from fleet.host.pki import certificates, enrolment, files
from fleet.host.pki.authority import Authority
from fleet.host.pki.routes import MAX_AT_ONCE
from tests.fleet_host.stand import GATEWAY, Served, served
from tests.fleet_host.vouching import Clock, request_for, vouched


@pytest.fixture
def clock() -> Clock:
    return Clock()


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
