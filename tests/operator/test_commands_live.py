"""An operator's commands against a real server."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fleet.cli import app
from fleet.host.lock import running_at
from tests.fleet_host.stand import GATEWAY, NODE, Fleet, batch, fleet_with_hub, gateway_at
from tests.fleet_host.stand import command as fleet_command
from tests.servers import free_port

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A hub and a server that all tests of this file share."""
    with fleet_with_hub(tmp_path_factory.mktemp("fleet")) as found, found.server("--rate-limit", "1000") as server:
        with found.api(server) as api:
            assert api.get("/healthz").status_code == 200
        yield found


def run(fleet: Fleet, *arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments), "--data", str(fleet.data)])


def found(fleet: Fleet, *arguments: str | Path) -> Any:
    done = run(fleet, *arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_the_life_of_a_node_from_a_terminal(fleet: Fleet, tmp_path: Path) -> None:
    added = found(fleet, "nodes", "add", "pump-01", "--gateway", GATEWAY, "--chip", "esp32-c3")
    assert len(added["key"]) == 64 and added["node"]["hardware"]["chip"] == "esp32-c3"
    assert "pump-01" in {node["node_id"] for node in found(fleet, "nodes", "list", "--site", "office")}
    assert run(fleet, "nodes", "add", "pump-01", "--gateway", GATEWAY).exit_code == 1
    done = run(fleet, "nodes", "replace", "pump-01", "--key-file", tmp_path / "key")
    key = (tmp_path / "key").read_text().strip()
    assert done.exit_code == 0 and len(key) == 64 and key != added["key"] and key not in done.output
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert "no gateway, site barn" in run(fleet, "nodes", "move", "pump-01", "--site", "barn").output
    assert found(fleet, "nodes", "stolen", "pump-01", "--yes")["stolen"] is True
    shown = run(fleet, "nodes", "show", "pump-01").output
    assert "barn" in shown and "no values yet" in shown
    assert run(fleet, "nodes", "decommission", "pump-01", "--yes").exit_code == 0
    gone = run(fleet, "nodes", "show", "pump-01")
    assert (gone.exit_code, gone.output) == (1, "error: there is no node 'pump-01'\n")


def test_a_key_that_no_node_got_leaves_no_file(fleet: Fleet, tmp_path: Path) -> None:
    done = run(fleet, "nodes", "add", NODE, "--gateway", GATEWAY, "--key-file", tmp_path / "key")
    assert done.exit_code == 1 and list(tmp_path.iterdir()) == []


def test_rules_from_a_file_are_set_shown_and_removed(fleet: Fleet, tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"rules": [{"name": "warm", "when": "temp > 30", "clear": "temp < 29"}]}))
    assert "warm is new" in run(fleet, "rules", "set", file).output
    assert "warm is changed" in run(fleet, "rules", "set", file).output
    assert "temp > 30" in run(fleet, "rules", "list").output
    assert found(fleet, "rules", "show", "warm")["clear"] == {"metric": "temp", "op": "<", "value": 29}
    assert run(fleet, "rules", "remove", "warm").output == "warm is removed\n"
    assert run(fleet, "rules", "show", "warm").exit_code == 1
    file.write_text(json.dumps({"name": "warm", "when": "temp > > 30"}))
    bad = run(fleet, "rules", "set", file)
    assert bad.exit_code == 1 and bad.output.startswith("error: body.when:8: ")


async def test_a_command_ends_with_how_it_went(fleet: Fleet) -> None:
    async with gateway_at(fleet.hub) as gateway:
        await gateway.until_manager_hears()

        async def sent(answer: dict[str, Any]) -> Result:
            gateway.messages.clear()
            asking = asyncio.create_task(asyncio.to_thread(run, fleet, "send", NODE, "identify", "--param", "for_s=5"))
            await gateway.until(lambda: any(verb == "cmd" for verb, _ in gateway.messages), "the command")
            command = next(message for verb, message in gateway.messages if verb == "cmd")
            assert command["params"] == {"for_s": 5}
            await gateway.publish("ack", json.dumps({"v": 1, "id": command["id"], "target": NODE} | answer).encode())
            return await asking

        good = await sent({"status": "done"})
        assert (good.exit_code, good.output) == (0, f"{NODE}: identify: done\n")
        bad = await sent({"status": "failed", "reason": "no lamp"})
        assert (bad.exit_code, bad.output) == (1, f"{NODE} reports that identify failed: no lamp\n")
        pending = await asyncio.to_thread(run, fleet, "send", NODE, "restart", "--timeout", "0")
        assert pending.exit_code == 5 and f"{NODE} has not answered yet: restart is" in pending.output
    assert run(fleet, "send", "nobody", "restart").exit_code == 1


async def test_alerts_are_shown_while_open_acknowledged_and_kept(fleet: Fleet, tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"name": "hot", "when": "temp > 30", "clear": "temp < 29", "severity": "critical"}))
    assert (await asyncio.to_thread(run, fleet, "rules", "set", file)).exit_code == 0
    async with gateway_at(fleet.hub) as gateway:
        await gateway.until_manager_hears()
        (raised,) = await _alerts_after(fleet, gateway, 35.0)
        assert (raised["rule"], raised["node_id"], raised["severity"]) == ("hot", NODE, "critical")
        done = run(fleet, "alerts", "ack", raised["alert_id"])
        assert done.exit_code == 0 and "(on the server)" in done.output
        assert "1 critical" in run(fleet, "status").output
        assert await _alerts_after(fleet, gateway, 20.0, seq=2) == []
        assert run(fleet, "alerts", "open").output == "no alert is open\n"
    assert raised["alert_id"] in run(fleet, "alerts", "history", "--node", NODE).output


async def _alerts_after(fleet: Fleet, gateway: Any, value: float, seq: int = 1) -> list[dict[str, Any]]:
    """Open alerts once a reading of now has been stored."""
    command = json.loads(batch(f"a-{seq}", range(seq, seq + 1), value=value))
    heard = await asyncio.to_thread(found, fleet, "status")
    assert heard["hub"]["up"]
    now_ms = _utc_ms(heard)
    command["readings"][0]["utc_ms"] = now_ms
    await gateway.publish("batch", json.dumps(command).encode())
    await gateway.until(lambda: f"a-{seq}" in gateway.acknowledged, "the acknowledgement")
    alerts: list[dict[str, Any]] = await asyncio.to_thread(found, fleet, "alerts", "open")
    return alerts


def _utc_ms(status: dict[str, Any]) -> int:
    begun = datetime.fromisoformat(status["started_utc"])
    return int(begun.timestamp() * 1000 + status["uptime_s"] * 1000)


def test_status_says_what_the_server_does_now(fleet: Fleet) -> None:
    status = found(fleet, "status")
    assert status["database"]["failure"] is None and status["hub"] == {
        "address": fleet.hub,
        "up": True,
        "failure": None,
    }
    assert sum(status["nodes"].values()) >= 2 and set(status["per_s"]) >= {"readings_stored", "messages_rejected"}
    said = run(fleet, "status").output
    assert f"Event Hub      {fleet.hub}: connected" in said and "dead letters   0 messages" in said


def test_a_token_whose_role_is_too_low_is_exit_4(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(fleet_token(fleet, "viewer"))
    (tmp_path / "token").chmod(0o600)
    url = str(found(fleet, "status") and _url(fleet))
    arguments = ["nodes", "stolen", NODE, "--yes", "--url", url, "--token-file", str(tmp_path / "token")]
    done = CliRunner().invoke(app, arguments)
    assert (done.exit_code, done.output.count("\n")) == (4, 1)
    assert "this needs the role admin" in done.output


def fleet_token(fleet: Fleet, role: str) -> str:
    words = fleet_command("token", "--data", fleet.data, "--for", "bob", "--role", role)
    return subprocess.check_output(words, text=True)


def _url(fleet: Fleet) -> str:
    url = running_at(fleet.data)
    assert url is not None
    return url


def test_a_server_that_is_not_there_is_exit_3(fleet: Fleet) -> None:
    done = run(fleet, "status", "--url", f"http://127.0.0.1:{free_port()}")
    assert done.exit_code == 3 and "nobody answers there" in done.output
