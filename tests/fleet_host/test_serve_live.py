"""Real processes: `fleet serve` and `fleet hub`, with a test that plays the gateway."""

import asyncio
import json
import re
import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.fleet_host.stand import (
    GATEWAY,
    NODE,
    UTC_MS,
    all_rows,
    batch,
    command,
    files_of_a_fleet,
    fleet_with_hub,
    gateway_at,
)

pytestmark = pytest.mark.live


async def test_a_batch_is_acknowledged_once_committed_and_comes_back_row_by_row(tmp_path: Path) -> None:
    with fleet_with_hub(tmp_path) as fleet, fleet.server() as server:
        async with gateway_at(fleet.hub) as gateway:
            await gateway.until_manager_hears()
            await gateway.publish("batch", batch("b-1", range(60)))
            await gateway.until(lambda: "b-1" in gateway.acknowledged, "the acknowledgement of b-1")
            with fleet.api(server, "viewer") as api:
                rows = all_rows(api)
        assert [(row["node"], row["boot"], row["seq"]) for row in rows] == [(NODE, 7, seq) for seq in range(60)]
        assert {row["value"] for row in rows} == {21.5}
        assert rows[5]["utc"] == "2026-01-01T00:00:00.005Z"
        assert (rows[0]["time_quality"], rows[0]["gateway"]) == ("exact", GATEWAY)


async def test_a_replayed_batch_is_acknowledged_again_and_stored_once(tmp_path: Path) -> None:
    with fleet_with_hub(tmp_path) as fleet:
        for _ in range(2):  # the second time the server has to know it from its database
            with fleet.server() as server:
                async with gateway_at(fleet.hub) as gateway:
                    await gateway.until_manager_hears()
                    for _ in range(2):
                        gateway.acknowledged.clear()
                        await gateway.publish("batch", batch("b-1", range(10)))
                        await gateway.until(lambda g=gateway: "b-1" in g.acknowledged, "the acknowledgement of b-1")
                with fleet.api(server) as api:
                    page = api.get("/api/v1/fleet/readings").json()
                assert ([row["seq"] for row in page["readings"]], page["conflicts"]) == (list(range(10)), 0)
                server.child.send_signal(signal.SIGTERM)
                assert server.child.wait(10) == 0


async def test_a_reading_with_other_content_is_counted_as_a_conflict_and_changes_nothing(tmp_path: Path) -> None:
    with fleet_with_hub(tmp_path) as fleet, fleet.server() as server:
        async with gateway_at(fleet.hub) as gateway:
            await gateway.until_manager_hears()
            for name, value in (("b-1", 21.5), ("b-2", 99.0)):
                await gateway.publish("batch", batch(name, range(1), value=value))
                await gateway.until(lambda name=name: name in gateway.acknowledged, f"the acknowledgement of {name}")
        with fleet.api(server) as api:
            api.post(f"/api/nodes/{NODE}/identify", params={"timeout": 0})  # its commit follows the conflict's
            page = api.get("/api/v1/fleet/readings").json()
    assert ([row["value"] for row in page["readings"]], page["conflicts"]) == ([21.5], 1)


@pytest.mark.timeout(90)
async def test_sigkill_under_load_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    with fleet_with_hub(tmp_path) as fleet:
        async with gateway_at(fleet.hub) as gateway:
            with fleet.server() as server:
                await gateway.until_manager_hears()
                for number in range(400):
                    await gateway.publish("batch", batch(f"b-{number}", range(60 * number, 60 * number + 60)))
                    if len(gateway.acknowledged) > 40:
                        break
                    await asyncio.sleep(0)
                await gateway.until(lambda: len(gateway.acknowledged) > 40, "forty acknowledgements")
                server.child.kill()
                server.child.wait()
            acknowledged = set(gateway.acknowledged)
        with fleet.server() as server, fleet.api(server) as api:
            stored = [row["seq"] for row in all_rows(api)]
    assert len(stored) == len(set(stored))
    for name in acknowledged:
        first = 60 * int(name.removeprefix("b-"))
        assert set(range(first, first + 60)) <= set(stored), name


async def test_garbage_on_any_topic_is_counted_and_nothing_dies(tmp_path: Path) -> None:
    garbage = [b"", b"\xff\xfe", b"[", b"null", b"{}", b"[[]]", b'{"v": 2}', b'{"batch": 1}', b"[1]", b"0" * 5000]
    verbs = ["batch", "batch/gz", "heartbeat", "status", "ack", "config/ack"]
    with fleet_with_hub(tmp_path) as fleet, fleet.server() as server:
        async with gateway_at(fleet.hub) as gateway:
            await gateway.until_manager_hears()
            for verb in verbs:
                for payload in garbage:
                    await gateway.publish(verb, payload)
            await gateway.publish("batch", batch("after", range(3)))
            await gateway.until(lambda: "after" in gateway.acknowledged, "the batch after the garbage")
        with fleet.api(server) as api:
            assert len(all_rows(api)) == 3
            metrics = api.get("/metrics").text
    counts = [
        line for line in metrics.splitlines() if line.startswith('clawland_events_total{kind="message.rejected"}')
    ]
    assert counts and float(counts[0].split()[-1]) >= len(verbs) * 6


async def test_a_restart_ends_in_success_when_the_node_has_answered(tmp_path: Path) -> None:
    with fleet_with_hub(tmp_path) as fleet, fleet.server() as server:
        async with gateway_at(fleet.hub) as gateway:
            await gateway.until_manager_hears()
            with fleet.api(server) as api:
                asking = asyncio.create_task(asyncio.to_thread(api.post, f"/api/nodes/{NODE}/restart"))
                await gateway.until(lambda: any(verb == "cmd" for verb, _ in gateway.messages), "the command")
                command = next(found for verb, found in gateway.messages if verb == "cmd")
                assert (command["action"], command["target"], command["by"]) == ("restart", NODE, "cloud")
                answer = {"v": 1, "id": command["id"], "target": NODE, "status": "restarted"}
                await gateway.publish("ack", json.dumps(answer).encode())
                response = await asking
    assert response.status_code == 200
    assert (response.json()["result"], response.json()["command"]["status"]) == ("success", "restarted")


def test_the_api_tells_who_may_not(tmp_path: Path) -> None:
    with fleet_with_hub(tmp_path) as fleet, fleet.server() as server:
        with fleet.api(server, "viewer") as api:
            assert api.post(f"/api/nodes/{NODE}/restart").status_code == 403
            forged = {"Authorization": "Bearer " + "x" * 100}
            assert api.get("/api/v1/fleet/nodes", headers=forged).status_code == 401
        assert httpx.get(str(api.base_url) + "/api/v1/fleet/nodes").status_code == 401


def test_the_scenarios_clock_stamps_what_happens(tmp_path: Path) -> None:
    with fleet_with_hub(tmp_path) as fleet, fleet.server() as server, fleet.api(server) as api:
        command = api.post(f"/api/nodes/{NODE}/restart", params={"timeout": 0}).json()["command"]
    assert command["created_utc"].startswith("2026-01-01T00:00:")
    assert UTC_MS == 1_767_225_600_000


def test_the_server_ends_with_whoever_started_it(tmp_path: Path) -> None:
    with fleet_with_hub(tmp_path) as fleet, fleet.server() as server:
        assert server.child.stdin
        server.child.stdin.close()
        assert server.child.wait(10) in (0, 1)
        server.child.stdin = None


async def test_one_command_is_a_whole_l3_and_its_second_line_makes_a_token(tmp_path: Path) -> None:
    fleet = files_of_a_fleet(tmp_path)
    arguments = command("serve", "--data", fleet.data, "--port", "0", "--hub-port", "0", "--inventory", fleet.inventory)
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as server:  # noqa: ASYNC220
        try:
            assert server.stdout
            ready, hint = server.stdout.readline(), server.stdout.readline()
            url, hub = re.findall(r"http://[0-9.:]+|127\.0\.0\.1:\d+(?=,)", ready)
            words = command(*hint.split(" fleet ")[1].split())
            token = subprocess.check_output(words, text=True).strip()  # noqa: ASYNC221
            async with gateway_at(hub) as gateway:
                await gateway.until_manager_hears()
                await gateway.publish("batch", batch("b-1", range(3)))
                await gateway.until(lambda: "b-1" in gateway.acknowledged, "the acknowledgement of b-1")
            with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}) as api:
                assert len(all_rows(api)) == 3
        finally:
            server.terminate()
        assert server.wait(10) == 0


async def test_sigterm_lets_a_waiting_request_answer_and_ends_in_time(tmp_path: Path) -> None:
    with fleet_with_hub(tmp_path) as fleet, fleet.server() as server, fleet.api(server) as api:
        asking = asyncio.create_task(asyncio.to_thread(api.post, f"/api/nodes/{NODE}/restart", params={"timeout": 300}))
        while 'kind="command.queued"' not in api.get("/metrics").text:  # noqa: ASYNC110 - another process's news
            await asyncio.sleep(0.02)
        server.child.send_signal(signal.SIGTERM)
        response = await asking
        assert (response.status_code, response.json()["result"]) == (202, "pending")
        assert server.child.wait(10) == 0


def test_a_second_server_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    with fleet_with_hub(tmp_path) as fleet, fleet.server() as first:
        with fleet.api(first) as api:
            assert api.get("/healthz").status_code == 200
        done = subprocess.run(
            command("serve", "--data", fleet.data, "--port", "0"), capture_output=True, text=True, timeout=20
        )
        assert (done.returncode, done.stdout) == (3, "")
        assert "another fleet server works in this directory" in done.stderr and done.stderr.count("\n") == 1
