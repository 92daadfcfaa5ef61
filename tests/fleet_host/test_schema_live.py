"""schemathesis against the OpenAPI description that the server gives of itself, over HTTP."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.host.tokens import issue, load_key
from tests.fleet_host.stand import INVENTORY, Process

pytestmark = pytest.mark.live

EXAMPLES, MANY = 3, 100
ENDLESS = "/api/v1/events/stream"  # it never answers to the end; what it refuses is claimed in test_stream.py
ROTATE = "/api/v1/auth/keys/rotate"  # without an overlap it makes the tool's own token worthless: last, by itself

# Where JSON Schema cannot say what is accepted: which texts are a rule or a cursor, how long a command may be for a
# node's radio, that one of two members is needed, what is a signature. That these refuse with words is claimed in the
# other tests.
COMMAND = "POST /api/nodes/{node_id}/{action}"
LISTS = ("alerts", "audit", "commands", "dead-letters", "gateways", "maintenance", "readings")
BEYOND_SCHEMA = (
    "PUT /api/v1/fleet/rules/{name}",
    "PUT /api/v1/fleet/nodes/{node_id}/configuration",
    COMMAND,
    "POST /api/v1/fleet/nodes",
    "POST /api/v1/fleet/nodes/{node_id}/move",
    "POST /api/v1/tokens",
    "POST /api/v1/fleet/maintenance",
    "PATCH /api/v1/fleet/maintenance/{window_id}",
    "POST /api/v1/fleet/renew",
    "POST /api/v1/fleet/enrol",
    *(f"GET /api/v1/fleet/{list}" for list in LISTS),
    *(f"GET /api/v1/fleet/nodes/{{node_id}}/{list}" for list in ("readings", "events", "summaries")),
)


def settings_of(token: str) -> str:
    """The tool's configuration file."""
    exceptions = [
        f'[[operations]]\ninclude-name = "{name}"\nchecks.positive_data_acceptance.enabled = false'
        for name in BEYOND_SCHEMA
    ]
    exceptions[BEYOND_SCHEMA.index(COMMAND)] += '\nparameters = { "query.timeout" = 0 }'  # nobody answers: do not wait
    return "\n".join([f'headers = {{ Authorization = "Bearer {token}" }}', *exceptions])


def run(directory: Path, port: int, examples: int, *which: str) -> None:
    tool = [str(Path(sys.executable).with_name("schemathesis")), "run", f"http://127.0.0.1:{port}/openapi.json", *which]
    tool += ["--max-examples", str(examples), "--phases", "examples,coverage,fuzzing", "--seed", "1", "--no-color"]
    tool += ["--request-timeout", "40"]
    found = subprocess.run(tool, capture_output=True, text=True, cwd=directory)
    assert found.returncode == 0, found.stdout[-20_000:] + found.stderr[-2_000:]
    assert "401 Unauthorized" not in found.stdout, "the tool was let in, and looked at what is behind the door"


@pytest.mark.timeout(1800)
def test_schemathesis_finds_nothing(tmp_path: Path, full: bool) -> None:
    inventory, examples = tmp_path / "inventory.json", MANY if full else EXAMPLES
    inventory.write_text(json.dumps(INVENTORY))
    where = ("--data", tmp_path / "data", "--port", "0", "--hub-port", "0", "--inventory", inventory)
    with Process("serve", *where, "--rate-limit", "1000000") as server:
        token = issue(load_key(tmp_path / "data"), "schemathesis", "admin", 3600)
        (tmp_path / "schemathesis.toml").write_text(settings_of(token))
        port = server.ready["http_port"]
        run(tmp_path, port, examples, "--exclude-path", ENDLESS, "--exclude-path", ROTATE)
        run(tmp_path, port, examples, "--include-path", ROTATE)
