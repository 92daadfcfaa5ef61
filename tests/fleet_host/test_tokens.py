"""Tokens and their key."""

import stat
import threading
from pathlib import Path

import jwt
import pytest

from fleet.host.tokens import Caller, TokenError, issue, load_key, parse_ttl, verify

KEY = bytes(range(32))


def test_a_token_says_who_and_in_which_role() -> None:
    assert verify(KEY, issue(KEY, "alice", "operator", 60)) == Caller("alice", "operator")


@pytest.mark.parametrize(
    ("role", "may"),
    [("viewer", ["viewer"]), ("operator", ["viewer", "operator"]), ("admin", ["viewer", "operator", "admin"])],
)
def test_each_role_may_what_those_below_it_may(role: str, may: list[str]) -> None:
    assert [each for each in ("viewer", "operator", "admin") if Caller("a", role).may(each)] == may


def _signed(key: bytes = KEY, algorithm: str = "HS256", **changes: object) -> str:
    claims = {"iss": "clawland-fleet", "sub": "a", "role": "admin", "iat": 1, "exp": 4_000_000_000} | changes
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, key, algorithm)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x.y.z",
        _signed(key=b"another key, of thirty-two bytes"),
        _signed(exp=2),
        _signed(exp=None),
        _signed(iss="elsewhere"),
        _signed(sub=None),
        _signed(role=None),
        _signed(role="root"),
        _signed(role=["admin"]),
        _signed(key=KEY * 2, algorithm="HS512"),
        jwt.encode({"iss": "clawland-fleet", "sub": "a", "role": "admin", "iat": 1, "exp": 4_000_000_000}, "", "none"),
    ],
)
def test_a_token_that_is_not_ours_and_alive_is_refused(token: str) -> None:
    with pytest.raises(TokenError):
        verify(KEY, token)


def test_the_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    keys: list[bytes] = []
    threads = [threading.Thread(target=lambda: keys.append(load_key(tmp_path / "new"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8 and len(set(keys)) == 1 and len(keys[0]) == 32
    files = list((tmp_path / "new").iterdir())
    assert [file.name for file in files] == ["api.key"]
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "zz", "abcd"])
def test_a_damaged_key_is_an_error_and_stays_as_it_is(tmp_path: Path, text: str) -> None:
    (tmp_path / "api.key").write_text(text)
    with pytest.raises(TokenError, match=r"api\.key"):
        load_key(tmp_path)
    assert (tmp_path / "api.key").read_text() == text


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("24h", 86_400), (" 30 d ", 2_592_000)])
def test_durations_are_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert parse_ttl(text) == seconds


@pytest.mark.parametrize("text", ["", "24", "h", "1.5h", "-1h", "1y", "9999999999s"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(TokenError):
        parse_ttl(text)
