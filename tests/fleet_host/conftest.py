"""The databases that every claim about storage holds for."""

from pathlib import Path

import pytest

from tests.fleet_host.stand import Database


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """An empty database of each kind."""
    return Database.make(request, tmp_path)
