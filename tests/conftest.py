"""What every test shares: hypothesis profiles, the `full` gate, and which tests run alone."""

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.servers import PostgresServer, RedisServer

# A shell's background job ignores SIGINT, and so would every process that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

FULL = os.environ.get("CLAWSIM_FULL") == "1"
TESTS = Path(__file__).resolve().parent
BENCHMARKS = TESTS.parent / "benchmarks"
PACED = TESTS / "conformance", TESTS / "live"

# Deadlines are off everywhere: a shared machine's hiccup is not a bug.
settings.register_profile("ci", max_examples=60, deadline=None, derandomize=True, print_blob=True)
settings.register_profile(
    "full", max_examples=2_000, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "full" if FULL else "ci"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks benchmarks and what is paced, and skips the long counts unless CLAWSIM_FULL=1."""
    for item in items:
        if any(map(item.path.is_relative_to, PACED)):
            item.add_marker(pytest.mark.paced)
        if item.path.is_relative_to(BENCHMARKS):
            item.add_marker(pytest.mark.bench)
        if not FULL and item.get_closest_marker("full"):
            item.add_marker(pytest.mark.skip(reason="a long count: CLAWSIM_FULL=1 runs it"))


@pytest.fixture(scope="session")
def full() -> bool:
    """True when long counts are asked for (`make test-full`): tests scale their counts by it."""
    return FULL


@pytest.fixture
def own_logging() -> Iterator[None]:
    """For a test that sets logging up as a process of its own would: afterwards it is as before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        if handler not in handlers:
            handler.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of this session's own; each test makes a database in it."""
    server = PostgresServer()
    yield server
    server.remove()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of this test's own."""
    server = RedisServer(tmp_path)
    yield server
    server.kill()
