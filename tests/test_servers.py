"""The servers that tests start: where one is missing, the test fails and says what to install."""

import pytest

from tests import servers
from tests.servers import MissingServer


def test_a_missing_server_is_a_failure_that_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingServer, match="make setup, or sudo apt-get install redis-server"):
        servers._found("redis-server-of-nowhere", "redis-server")
