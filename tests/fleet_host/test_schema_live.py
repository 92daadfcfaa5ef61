"""schemathesis against the OpenAPI description that the server gives of itself, over HTTP."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.host.tokens import issue, load_key
from tests.fleet_host.stand import INVENTORY, Process

pytestmark = pytest.mark.live

EXAMPLES, MANY = 3, 200
# It never ends; what it refuses is claimed in test_stream.py.
ENDLESS = "/api/v1/events/stream"


@pytest.mark.timeout(1800)
def test_schemathesis_finds_nothing(tmp_path: Path, full: bool) -> None:
    inventory = tmp_path / "inventory.json"
    inventory.write_text(json.dumps(INVENTORY))
    where = ("--data", tmp_path / "data", "--port", "0", "--hub-port", "0", "--inventory", inventory)
    with Process("serve", *where, "--rate-limit", "1000000") as server:
        token = issue(load_key(tmp_path / "data"), "schemathesis", "admin", 3600)
        url = f"http://127.0.0.1:{server.ready['http_port']}/openapi.json"
        tool = [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            url,
            "--header",
            f"Authorization: Bearer {token}",
        ]
        tool += ["--max-examples", str(MANY if full else EXAMPLES), "--exclude-path", ENDLESS, "--seed", "1"]
        tool += ["--phases", "examples,coverage,fuzzing", "--request-timeout", "40", "--no-color"]
        found = subprocess.run(tool, capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode == 0, found.stdout[-20_000:] + found.stderr[-2_000:]
