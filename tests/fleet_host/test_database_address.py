"""The address of a PostgreSQL: what is accepted, and that no password is ever repeated."""

from pathlib import Path

import pytest

from fleet.host.database import named, postgresql_url
from fleet.host.settings import SettingsError, duration_ms


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("clawland", "not a URL"),
        ("mysql://fleet@db/clawland", "mysql is not supported"),
        ("postgresql://fleet:hunter2@db/clawland", "carries a password"),
        ("postgresql://fleet@db/clawland?password=hunter2", "carries a password"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_repeating_a_secret(url: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason) as error:
        postgresql_url(url)
    assert "hunter2" not in str(error.value)


def test_the_password_of_a_file_reaches_the_driver_and_no_text(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("hunter2\n")
    path.chmod(0o600)
    url = postgresql_url("postgresql://fleet@db:5433/clawland?sslmode=verify-full", path)
    assert (url.password, url.query["sslmode"]) == ("hunter2", "verify-full")
    assert named(url) == "postgresql://fleet@db:5433/clawland?sslmode=verify-full"
    assert "hunter2" not in repr(url)


@pytest.mark.parametrize("text", ["", "0d", "90", "-1d", "1y", "1.5d", "9999999d"])
def test_a_retention_that_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"--retention: .* is not a duration"):
        duration_ms("--retention", text)


def test_a_retention_is_a_number_and_a_unit() -> None:
    assert [duration_ms("--retention", text) for text in ("90d", "36h", "5 m", "1s")] == [
        7_776_000_000,
        129_600_000,
        300_000,
        1_000,
    ]
