"""Users, logins, tokens, signing keys and the audit log, over the API."""

import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from fleet.host import accounts, keyring, passwords
from fleet.host.keyring import Keyring
from fleet.host.tokens import Caller, TokenError, issue, load_key
from tests.fleet_host.stand import Served, problem, served

ALICE = {"name": "alice", "role": "operator", "password": "correct horse battery"}
NODES = "/api/v1/fleet/nodes"


@pytest.fixture
async def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    cheap = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),))
    monkeypatch.setattr(passwords, "_HASH", cheap)  # the same algorithm at a price for tests
    async with served(tmp_path) as server:
        server.http.headers = httpx.Headers(server.as_role("admin"))
        yield server


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def log_in(fleet: Served, password: str = ALICE["password"], name: str = "alice") -> httpx.Response:
    return await fleet.http.post(
        "/api/v1/auth/login", json={"name": name, "password": password}, headers={"Authorization": ""}
    )


async def refresh(fleet: Served, token: str) -> httpx.Response:
    return await fleet.http.post("/api/v1/auth/refresh", json={"refresh_token": token}, headers={"Authorization": ""})


async def allowed(fleet: Served, token: str) -> bool:
    return (await fleet.http.get(NODES, headers=bearer(token))).status_code == 200


# --- users -----------------------------------------------------------------------------------------------------------


async def test_a_user_logs_in_and_the_server_keeps_no_password(fleet: Served, tmp_path: Path) -> None:
    added = await fleet.http.post("/api/v1/users", json=ALICE)
    assert added.status_code == 201 and "password" not in added.json()
    assert problem(await fleet.http.post("/api/v1/users", json=ALICE)) == (409, "conflict")
    session = await log_in(fleet)
    assert session.headers["cache-control"] == "no-store" and session.json()["role"] == "operator"
    me = (await fleet.http.get("/api/v1/auth/me", headers=bearer(session.json()["access_token"]))).json()
    assert (me["name"], me["role"]) == ("alice", "operator")
    kept = fleet.runtime.storage.load()
    assert kept["users"][0]["doc"]["password"].startswith("$argon2id$")
    assert ALICE["password"] not in str(kept) and session.json()["refresh_token"].partition(".")[2] not in str(kept)


async def test_a_wrong_password_an_unknown_and_a_disabled_user_look_alike(fleet: Served) -> None:
    await fleet.http.post("/api/v1/users", json=ALICE)
    wrong, unknown = await log_in(fleet, "not the password"), await log_in(fleet, name="mallory")
    await fleet.http.patch("/api/v1/users/alice", json={"disabled": True})
    disabled = await log_in(fleet)
    assert {problem(each) for each in (wrong, unknown, disabled)} == {(401, "unauthorized")}
    assert len({each.text for each in (wrong, unknown, disabled)}) == 1


async def test_changing_disabling_and_removing_a_user_ends_their_logins_at_once(fleet: Served) -> None:
    await fleet.http.post("/api/v1/users", json=ALICE)
    for change in ({"role": "viewer"}, {"password": "another long one"}, {"disabled": True}, None):
        password = "another long one" if change in ({"disabled": True}, None) else ALICE["password"]
        await fleet.http.patch("/api/v1/users/alice", json={"disabled": False})
        session = (await log_in(fleet, password)).json()
        assert await allowed(fleet, session["access_token"])
        if change is None:
            assert (await fleet.http.delete("/api/v1/users/alice")).status_code == 204
        else:
            assert (await fleet.http.patch("/api/v1/users/alice", json=change)).status_code == 200
        assert not await allowed(fleet, session["access_token"]), change
        assert problem(await refresh(fleet, session["refresh_token"])) == (401, "unauthorized")
    for method in ("GET", "PATCH", "DELETE"):
        response = await fleet.http.request(method, "/api/v1/users/alice", json={} if method == "PATCH" else None)
        assert problem(response) == (404, "not_found")


async def test_a_user_changes_their_own_password_with_the_old_one(fleet: Served) -> None:
    await fleet.http.post("/api/v1/users", json=ALICE)
    own = bearer((await log_in(fleet)).json()["access_token"])
    url, new = "/api/v1/auth/password", "a new long password"
    assert problem(await fleet.http.post(url, json={"old": "wrong", "new": new}, headers=own)) == (403, "forbidden")
    body = {"old": ALICE["password"], "new": new}
    assert problem(await fleet.http.post(url, json=body)) == (404, "not_found")
    assert (await fleet.http.post(url, json=body, headers=own)).status_code == 204
    assert (await log_in(fleet)).status_code == 401 and (await log_in(fleet, new)).status_code == 200


@pytest.mark.parametrize(
    "change", [{"name": ""}, {"name": "a b"}, {"role": "root"}, {"role": "node"}, {"password": "short"}, {"extra": 1}]
)
async def test_a_user_that_is_wrong_is_a_problem(fleet: Served, change: dict[str, Any]) -> None:
    assert problem(await fleet.http.post("/api/v1/users", json=ALICE | change)) == (400, "invalid")
    assert (await fleet.http.get("/api/v1/users")).json()["users"] == []


# --- logins ----------------------------------------------------------------------------------------------------------


async def test_a_login_is_refreshed_and_a_copied_refresh_token_ends_it(fleet: Served) -> None:
    await fleet.http.post("/api/v1/users", json=ALICE)
    first = (await log_in(fleet)).json()
    second = (await refresh(fleet, first["refresh_token"])).json()
    assert await allowed(fleet, second["access_token"])
    assert problem(await refresh(fleet, first["refresh_token"])) == (401, "unauthorized")
    assert problem(await refresh(fleet, second["refresh_token"])) == (401, "unauthorized")
    assert not await allowed(fleet, second["access_token"])


async def test_a_made_up_refresh_token_ends_nobodys_login(fleet: Served) -> None:
    await fleet.http.post("/api/v1/users", json=ALICE)
    session = (await log_in(fleet)).json()
    key = session["refresh_token"].partition(".")[0]
    for token in ("x", f"{key}.guess", "." * 200):
        assert problem(await refresh(fleet, token)) == (401, "unauthorized")
    assert await allowed(fleet, session["access_token"])


async def test_logging_out_ends_one_login_only(fleet: Served) -> None:
    await fleet.http.post("/api/v1/users", json=ALICE)
    one, other = [(await log_in(fleet)).json()["access_token"] for _ in range(2)]
    assert (await fleet.http.post("/api/v1/auth/logout", headers=bearer(one))).status_code == 204
    assert not await allowed(fleet, one) and await allowed(fleet, other)
    assert problem(await fleet.http.post("/api/v1/auth/logout")) == (409, "conflict")


async def test_the_oldest_login_of_a_user_makes_room(fleet: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "MOST_SESSIONS", 2)
    await fleet.http.post("/api/v1/users", json=ALICE)
    tokens = [(await log_in(fleet)).json()["access_token"] for _ in range(3)]
    assert [await allowed(fleet, token) for token in tokens] == [False, True, True]


async def test_users_and_logins_survive_the_server(tmp_path: Path) -> None:
    async with served(tmp_path) as fleet:
        await fleet.http.post("/api/v1/users", json=ALICE, headers=fleet.as_role("admin"))
        session = (await log_in(fleet)).json()
    async with served(tmp_path) as fleet:
        assert await allowed(fleet, session["access_token"])
        assert (await refresh(fleet, session["refresh_token"])).status_code == 200


# --- tokens ----------------------------------------------------------------------------------------------------------


async def test_a_token_is_issued_listed_without_its_text_and_revoked(fleet: Served) -> None:
    issued = await fleet.http.post("/api/v1/tokens", json={"name": "grafana", "role": "viewer", "ttl": 3600})
    assert issued.status_code == 201
    token = issued.json()["token"]
    assert await allowed(fleet, token)
    listed = await fleet.http.get("/api/v1/tokens")
    assert token not in listed.text
    assert [(each["name"], each["issued_by"]) for each in listed.json()["tokens"]] == [("grafana", "tester")]
    assert (await fleet.http.delete(f"/api/v1/tokens/{issued.json()['token_id']}")).status_code == 204
    assert problem(await fleet.http.get(NODES, headers=bearer(token))) == (401, "unauthorized")
    assert (await fleet.http.get("/api/v1/tokens")).json()["tokens"][0]["revoked"] is True


async def test_a_token_that_the_command_line_made_can_be_revoked_by_its_id(fleet: Served) -> None:
    import jwt

    token = issue(fleet.key, "bob", "viewer", 60)
    assert await allowed(fleet, token)
    key = jwt.decode(token, options={"verify_signature": False})["jti"]
    assert (await fleet.http.delete(f"/api/v1/tokens/{key}")).status_code == 204
    assert not await allowed(fleet, token)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"name": "agent-99", "role": "node"}, (404, "not_found")),
        ({"name": "sensor-01", "role": "node"}, (404, "not_found")),
        ({"name": "gateway-99", "role": "gateway"}, (404, "not_found")),
        ({"name": "x", "role": "root"}, (400, "invalid")),
        ({"name": "x", "role": "viewer", "ttl": 0}, (400, "invalid")),
        ({"name": "x", "role": "viewer", "ttl": True}, (400, "invalid")),
    ],
)
async def test_a_token_that_cannot_be_issued_is_a_problem(
    fleet: Served, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    assert problem(await fleet.http.post("/api/v1/tokens", json=body)) == expected


async def test_there_are_only_so_many_tokens(fleet: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "MOST_TOKENS", 1)
    answers = [await fleet.http.post("/api/v1/tokens", json={"name": "x", "role": "viewer"}) for _ in range(2)]
    assert answers[0].status_code == 201 and problem(answers[1]) == (409, "conflict")


@pytest.mark.parametrize("path", ["users", "tokens", "auth/keys", "fleet/audit"])
async def test_accounts_keys_and_the_log_are_for_admins(fleet: Served, path: str) -> None:
    for role in ("viewer", "operator"):
        assert problem(await fleet.http.get(f"/api/v1/{path}", headers=fleet.as_role(role))) == (403, "forbidden")


# --- keys ------------------------------------------------------------------------------------------------------------


async def test_tokens_of_the_key_before_are_accepted_while_the_keys_overlap(fleet: Served, tmp_path: Path) -> None:
    old = issue(fleet.key, "bob", "viewer", 3600)
    rotated = await fleet.http.post("/api/v1/auth/keys/rotate", json={"overlap": 60})
    assert [key["verifies_until"] is None for key in rotated.json()["keys"]] == [True, False]
    assert stat.S_IMODE((tmp_path / "api.key").stat().st_mode) == 0o600
    assert load_key(tmp_path) != fleet.key, "`fleet token` signs with the new one"
    assert await allowed(fleet, old) and await allowed(fleet, issue(load_key(tmp_path), "bob", "viewer", 60))
    headers = bearer(issue(load_key(tmp_path), "root", "admin", 60))
    assert (await fleet.http.post("/api/v1/auth/keys/rotate", json={"overlap": 0}, headers=headers)).status_code == 200
    assert not await allowed(fleet, old)
    assert problem(await fleet.http.get("/api/v1/auth/keys", headers=headers)) == (401, "unauthorized")


def test_another_process_sees_a_rotation_with_its_next_request(tmp_path: Path) -> None:
    here, there = Keyring(tmp_path), Keyring(tmp_path)
    here.rotate(60)
    assert there.verify(here.issue("bob", "viewer", 60)).name == "bob"
    (tmp_path / "api.key").write_text("damaged")
    assert there.verify(here.issue("bob", "viewer", 60)).name == "bob", "a damaged file takes nobody's key away"
    with pytest.raises(TokenError):
        Keyring(tmp_path)


def test_a_token_is_looked_at_again_once_it_may_have_expired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = Keyring(tmp_path)
    token = keys.issue("bob", "viewer", 60)
    keys.verify(token)

    def expired(_key: bytes, _token: str) -> Caller:
        raise TokenError("expired")

    monkeypatch.setattr(keyring, "verify", expired)
    assert keys.verify(token).name == "bob", "a signature is checked once"
    later_s = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later_s)
    with pytest.raises(TokenError):
        keys.verify(token)


# --- the audit log ---------------------------------------------------------------------------------------------------


async def test_the_log_says_who_did_what_with_which_result(fleet: Served) -> None:
    await fleet.http.post("/api/v1/users", json=ALICE)
    await log_in(fleet, "not the password")
    await fleet.http.delete("/api/v1/users/nobody")
    await fleet.http.post("/api/nodes/sensor-01/restart", headers=fleet.as_role("viewer"))
    await fleet.http.get(NODES)
    await fleet.settled()
    entries = (await fleet.http.get("/api/v1/fleet/audit")).json()["entries"]
    assert [(each["who"], each["action"], each["status"], each["result"]) for each in entries] == [
        ("tester", "POST /api/nodes/{node_id}/{action}", 403, "refused"),
        ("tester", "DELETE /api/v1/users/{name}", 404, "refused"),
        ("alice", "POST /api/v1/auth/login", 401, "refused"),
        ("tester", "POST /api/v1/users", 201, "done"),
    ]
    assert entries[0]["path"] == "/api/nodes/sensor-01/restart" and entries[0]["role"] == "viewer"
    assert ALICE["password"] not in str(entries)
    of_alice = await fleet.http.get("/api/v1/fleet/audit", params={"who": "alice"})
    assert len(of_alice.json()["entries"]) == 1


async def test_the_log_is_walked_by_cursor_and_nothing_changes_it(fleet: Served) -> None:
    for number in range(5):
        await fleet.http.put(f"/api/v1/fleet/sites/site-{number}", json={})
    await fleet.settled()
    found: list[str] = []
    params: dict[str, Any] = {"limit": 2}
    while True:
        page = (await fleet.http.get("/api/v1/fleet/audit", params=params)).json()
        found += [entry["path"][-1] for entry in page["entries"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert found == ["4", "3", "2", "1", "0"]
    assert problem(await fleet.http.get("/api/v1/fleet/audit", params={"cursor": "zz"})) == (400, "invalid")
    for method in ("DELETE", "PUT", "PATCH", "POST"):
        assert problem(await fleet.http.request(method, "/api/v1/fleet/audit"))[0] == 405
