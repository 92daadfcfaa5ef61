"""Where this machine dials what it listens on itself."""

import pytest

from firmware.hosting.dial import dialled, dialled_at


@pytest.mark.parametrize(
    ("listens", "dials"),
    [
        ("0.0.0.0", "127.0.0.1:80"),
        ("", "127.0.0.1:80"),
        ("::", "[::1]:80"),
        ("::1", "[::1]:80"),
        ("192.0.2.7", "192.0.2.7:80"),
        ("hub.example.org", "hub.example.org:80"),
    ],
)
def test_what_listens_everywhere_is_dialled_by_loopback(listens: str, dials: str) -> None:
    assert dialled_at(listens, 80) == dials and dialled(listens) in dials
