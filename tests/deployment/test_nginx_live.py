"""A real nginx with the printed configuration before a real server."""

import json
import signal
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from typer.testing import CliRunner

from fleet.cli import app
from fleet.deployment.nginx import MAX_BODY_BYTES
from fleet.host.tokens import issue, load_key
from tests.fleet_host.stand import NODE, Fleet, Process, files_of_a_fleet
from tests.servers import NginxServer, free_port

pytestmark = pytest.mark.live
FORGED = {"X-Forwarded-For": "203.0.113.7"}


@dataclass
class Front:
    """A server behind nginx, and callers from any address of loopback."""

    fleet: Fleet
    server: Process
    port: int
    plain_port: int
    trust: ssl.SSLContext

    def caller(self, address: str, role: str | None = "admin", direct: bool = False) -> httpx.Client:
        """Through nginx, or `direct`ly to the server."""
        token = None if role is None else issue(load_key(self.fleet.data), f"{role}-{address}", role, 600)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        transport = httpx.HTTPTransport(verify=self.trust, local_address=address)
        behind = f"http://127.0.0.1:{self.server.ready['http_port']}"
        url = behind if direct else f"https://127.0.0.1:{self.port}"
        return httpx.Client(base_url=url, headers=headers, transport=transport, timeout=15)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """As an operator would set it up."""
    directory = tmp_path_factory.mktemp("front")
    authority = trustme.CA()
    certified = authority.issue_cert("127.0.0.1", "fleet.example.org")
    certified.cert_chain_pems[0].write_to_path(directory / "fleet.pem")
    certified.private_key_pem.write_to_path(directory / "fleet.key")
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    fleet, port, plain_port = files_of_a_fleet(directory), free_port(), free_port()
    arguments = ("--data", fleet.data, "--port", "0", "--hub-port", "0", "--inventory", fleet.inventory)
    with Process("serve", *arguments) as server:
        text = _configuration(directory, server.ready["http_port"], port, plain_port)
        nginx = NginxServer(directory, text, port)
        found = Front(fleet, server, port, plain_port, trust)
        try:
            _until_ready(found)
            yield found
        finally:
            nginx.stop()


def _until_ready(front: Front) -> None:
    """The server connects to its own hub a moment after it has begun to answer."""
    deadline_s = time.monotonic() + 20
    with front.caller("127.0.0.1") as api:
        while api.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline_s, "the server does not become ready"
            time.sleep(0.05)


def _configuration(directory: Path, upstream: int, port: int, plain_port: int) -> str:
    arguments: list[Any] = ["nginx", "--name", "fleet.example.org", "--alone", directory]
    arguments += ["--certificate", directory / "fleet.pem", "--key", directory / "fleet.key"]
    arguments += ["--upstream", f"127.0.0.1:{upstream}", "--listen", f"127.0.0.1:{port}"]
    arguments += ["--redirect-from", f"127.0.0.1:{plain_port}"]
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def addresses(front: Front, who: str) -> list[str]:
    """From where a caller acted, as the audit log has it; its line follows the answer to the caller."""
    deadline_s = time.monotonic() + 20
    with front.caller("127.0.0.1") as api:
        while not (found := api.get("/api/v1/fleet/audit", params={"who": who}).raise_for_status().json()["entries"]):
            assert time.monotonic() < deadline_s, f"nothing in the audit log about {who}"
            time.sleep(0.05)
    return [str(entry["address"]) for entry in found]


def test_the_api_is_served_over_tls_and_the_metrics_are_not(front: Front) -> None:
    with front.caller("127.0.0.1") as api, front.caller("127.0.0.1", direct=True) as direct:
        assert NODE in {node["node_id"] for node in api.get("/api/v1/fleet/nodes").json()["nodes"]}
        assert api.get("/readyz").json()["status"] == "ok"
        assert api.get("/readyz").headers["strict-transport-security"].startswith("max-age=")
        assert {api.get(path).status_code for path in ("/metrics", "//metrics", "/%6detrics?x=1")} == {404}
        assert direct.get("/metrics").status_code == 200
        assert "nginx/" not in api.get("/nothing").headers["server"]


def test_plain_http_is_sent_on_to_tls(front: Front) -> None:
    answer = httpx.get(f"http://127.0.0.1:{front.plain_port}/docs", headers={"Host": "fleet.example.org"})
    assert (answer.status_code, answer.headers["location"]) == (308, "https://fleet.example.org/docs")


@pytest.mark.parametrize(("address", "direct"), [("127.0.0.9", False), ("127.0.0.8", True)])
def test_who_acted_is_the_address_that_the_proxy_saw_whatever_a_caller_claims(
    front: Front, address: str, direct: bool
) -> None:
    with front.caller(address, direct=direct) as api:
        api.put("/api/v1/fleet/sites/office", json={"title": "Office"}, headers=FORGED).raise_for_status()
        who = f"admin-{address}"
    assert addresses(front, who) == [address]


def test_callers_without_a_token_are_slowed_down_each_by_their_own_address(front: Front) -> None:
    with front.caller("127.0.0.11", role=None) as hasty, front.caller("127.0.0.12", role=None) as calm:
        answers = [hasty.get("/api/v1/fleet/nodes", headers={"X-Forwarded-For": f"10.0.0.{n}"}) for n in range(60)]
        assert calm.get("/api/v1/fleet/nodes").status_code == 401
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused and {answer.status_code for answer in answers} == {401, 429}
    assert int(refused[0].headers["retry-after"]) >= 1 and refused[0].json()["error"] == "too_many_requests"


def test_a_body_beyond_the_limit_is_a_problem_of_the_servers_kind_and_one_at_it_is_not(front: Front) -> None:
    with front.caller("127.0.0.1") as api:
        refused = api.post("/api/v1/fleet/nodes", content=b" " * (MAX_BODY_BYTES + 1))
        taken = api.post("/api/v1/fleet/nodes", content=b" " * MAX_BODY_BYTES)
    assert (refused.status_code, refused.json()["error"]) == (413, "too_large")
    assert refused.headers["content-type"] == "application/problem+json"
    assert (taken.status_code, taken.json()["error"]) == (400, "invalid")


def test_an_event_comes_through_as_it_happens(front: Front) -> None:
    following = {"kind": "node."}
    with (
        front.caller("127.0.0.1") as api,
        front.caller("127.0.0.1") as other,
        api.stream("GET", "/api/v1/events/stream", params=following) as events,
    ):
        lines = events.iter_lines()
        assert next(lines).startswith(":")  # it is open
        other.post("/api/v1/fleet/nodes", json={"node_id": "pump-07", "site": "office"}).raise_for_status()
        data = next(line for line in lines if line.startswith("data: "))
    assert json.loads(data.removeprefix("data: "))["node"] == "pump-07"


def test_without_a_server_the_proxy_says_so_in_the_servers_words(front: Front) -> None:
    """The last of this file: it ends the server."""
    front.server.child.send_signal(signal.SIGTERM)
    assert front.server.child.wait(10) == 0
    with front.caller("127.0.0.1") as api:
        answer = api.get("/readyz")
    assert (answer.status_code, answer.json()["error"], answer.headers["retry-after"]) == (503, "unavailable", "2")
    assert answer.headers["content-type"] == "application/problem+json"
