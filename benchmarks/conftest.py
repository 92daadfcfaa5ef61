"""What benchmarks share; their counts and their databases come from where those of the tests do."""

from collections.abc import Iterator

import pytest

from tests.conftest import full, postgres
from tests.servers import PostgresServer

__all__ = ["durable_postgres", "full", "postgres"]


@pytest.fixture(scope="session")
def durable_postgres() -> Iterator[PostgresServer]:
    """One that waits for the disk, as a real one does."""
    server = PostgresServer(fsync=True)
    yield server
    server.remove()
