"""What is wrong is said in a person's words, with the place where it is."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from fleet.cli import app
from tests.fleet_host.stand import Served, served

FLEET = "/api/v1/fleet"


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as server:
        server.http.headers = httpx.Headers(server.as_role("admin"))
        yield server


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("gateways", {"id": "g", "site": "barn"}, "body.gateway_id: is needed; body.id: is not known here"),
        ("gateways", {"gateway_id": "Gate 1"}, "body.gateway_id: expected an id, 1 to 32 of a-z, 0-9 and '-'"),
        ("registration-tokens", {"ttl": "1 h"}, "body.ttl: expected a whole number"),
        (
            "maintenance",
            {"on": "all", "until_utc": "2020-01-01T00:00:00Z"},
            "ends after it begins",
        ),
    ],
)
async def test_a_body_that_is_wrong(fleet: Served, path: str, body: dict[str, Any], says: str) -> None:
    response = await fleet.http.post(f"{FLEET}/{path}", json=body)
    assert response.status_code == 400 and says in response.json()["message"]


async def test_a_body_that_is_no_json_is_shown_where(fleet: Served) -> None:
    headers = {"Content-Type": "application/json"}
    response = await fleet.http.post(f"{FLEET}/gateways", content=b'{"site" "barn"}', headers=headers)
    assert response.json()["message"] == "body: not JSON at character 9: Expecting ':' delimiter"


async def test_a_url_that_is_none_and_a_method_that_does_not_go_with_one(fleet: Served) -> None:
    nowhere = (await fleet.http.get("/api/nowhere")).json()
    assert nowhere["message"] == "there is nothing at this URL; /docs lists what there is"
    assert (await fleet.http.delete(f"{FLEET}/nodes")).json()["message"] == "DELETE is not for this URL"


def test_a_token_of_a_directory_in_which_no_server_has_worked_says_so(tmp_path: Path) -> None:
    command = ["token", "--data", str(tmp_path / "new"), "--for", "anna"]
    first, second = (CliRunner().invoke(app, command) for _ in range(2))
    assert first.exit_code == second.exit_code == 0
    assert "no server has worked in" in first.stderr and second.stderr == ""
    assert first.stdout.count("\n") == 1
