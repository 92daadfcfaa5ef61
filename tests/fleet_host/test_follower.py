"""What a manager that does not lead answers: the leader's truth, and the leader's deeds."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from fleet.host.keyring import Keyring
from fleet.host.managers import pulse, queue, relay
from fleet.host.managers.envelope import Answer, Request, Sealer, Unreadable
from tests.fleet_host.pair import Pair, following, pair
from tests.fleet_host.stand import NODE, Database, batch, problem
from tests.servers import PostgresServer

FLEET = "/api/v1/fleet"
PASSWORD = "of-alice-2026"
together = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """One leader and one follower for all of these claims."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pulse, "TELL_S", 0.1)
        async with pair(tmp_path_factory.mktemp("pair"), postgres) as found:
            yield found


async def login(side: httpx.AsyncClient) -> dict[str, str]:
    response = await side.post("/api/v1/auth/login", json={"name": "alice", "password": PASSWORD})
    assert response.status_code == 200, response.text
    found: dict[str, str] = response.json()
    return found


async def with_alice(both: Pair) -> None:
    body = {"name": "alice", "role": "operator", "password": PASSWORD}
    assert (await both.follower.post("/api/v1/users", json=body)).status_code in (201, 409)


@together
async def test_what_the_leader_has_committed_the_follower_shows_at_once(both: Pair) -> None:
    leader, follower = both.leader.http, both.follower
    both.leader.delivers(batch("b-1", range(5)))
    await both.leader.settled()
    assert (await leader.put(f"{FLEET}/sites/office", json={"title": "The office"})).status_code == 201
    rule = {"when": "temp > 30", "severity": "warning"}
    assert (await leader.put(f"{FLEET}/rules/hot", json=rule)).status_code == 201
    async with asyncio.timeout(10):  # when a node was last heard of comes a little later
        while (await follower.get(f"{FLEET}/nodes/{NODE}")).json()["last_heartbeat"] is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    for path in ("nodes", f"nodes/{NODE}", "gateways", "sites", "rules", "readings", f"nodes/{NODE}/latest"):
        assert (await follower.get(f"{FLEET}/{path}")).json() == (await leader.get(f"{FLEET}/{path}")).json(), path
    assert (await leader.delete(f"{FLEET}/rules/hot")).status_code == 204
    assert (await follower.get(f"{FLEET}/rules")).json() == {"rules": []}


@together
async def test_a_change_that_a_follower_is_asked_for_is_carried_out_by_the_leader_and_audited_once(both: Pair) -> None:
    response = await both.follower.put(f"{FLEET}/groups/hall", json={"nodes": [NODE]})
    assert (response.status_code, response.json()["nodes"]) == (201, [NODE])
    assert (await both.leader.http.get(f"{FLEET}/groups/hall")).json() == response.json()
    refused = await both.follower.put(f"{FLEET}/groups/hall", json={"nodes": ["nobody"]})
    assert problem(refused) == (409, "conflict")
    await both.leader.settled()
    for side in (both.leader.http, both.follower):
        entries = (await side.get(f"{FLEET}/audit")).json()["entries"]
        entries = [each for each in entries if each["path"].endswith("/groups/hall")]
        assert [(each["who"], each["status"]) for each in entries] == [("tester", 409), ("tester", 201)]


@together
async def test_one_idempotency_key_is_one_command_whichever_manager_is_asked(both: Pair) -> None:
    ask = {"url": f"/api/nodes/{NODE}/restart?timeout=0", "headers": {"Idempotency-Key": "once"}}
    first = (await both.follower.post(**ask)).json()["command"]["id"]  # type: ignore[arg-type]
    assert (await both.leader.http.post(**ask)).json()["command"]["id"] == first  # type: ignore[arg-type]
    assert (await both.follower.get(f"{FLEET}/commands/{first}")).status_code == 200


@together
async def test_a_command_asked_of_the_follower_waits_for_its_node(both: Pair) -> None:
    leader = both.leader
    leader.says("heartbeat", {"n": 1, "uptime_ms": 1000, "config": 0, "mode": "online"})
    asking = asyncio.create_task(both.follower.post(f"/api/nodes/{NODE}/identify?timeout=20"))
    async with asyncio.timeout(10):
        while not (sent := [found for _, found in leader.sent if found.get("action") == "identify"]):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    leader.says("ack", {"id": sent[0]["id"], "target": NODE, "status": "done"})
    response = await asking
    assert (response.status_code, response.json()["result"]) == (200, "success")


@together
async def test_whoever_logs_out_at_one_manager_is_out_at_the_other(both: Pair) -> None:
    await with_alice(both)
    for here, there in itertools.permutations((both.leader.http, both.follower)):
        token = both.headers((await login(here))["access_token"])
        assert (await there.get(f"{FLEET}/nodes", headers=token)).status_code == 200
        assert (await there.post("/api/v1/auth/logout", headers=token)).status_code == 204
        for side in (here, there):
            assert problem(await side.get(f"{FLEET}/nodes", headers=token)) == (401, "unauthorized")


@together
async def test_a_token_revoked_at_one_manager_is_refused_by_the_other(both: Pair) -> None:
    made = await both.follower.post("/api/v1/tokens", json={"name": "script", "role": "viewer", "ttl": 600})
    token = both.headers(made.json()["token"])
    assert (await both.follower.get(f"{FLEET}/nodes", headers=token)).status_code == 200
    assert (await both.leader.http.delete(f"/api/v1/tokens/{made.json()['token_id']}")).status_code == 204
    assert problem(await both.follower.get(f"{FLEET}/nodes", headers=token)) == (401, "unauthorized")


@together
async def test_an_agent_registers_reports_and_fetches_its_commands_at_a_follower(both: Pair) -> None:
    hardware = {"chip": "esp32", "ram_kb": 512, "flash_mb": 4, "model": "devkit"}
    body = {"node_id": "agent-01", "node_type": "picclaw", "hardware": hardware, "capabilities": ["temp"]}
    registered = await both.follower.post(f"{FLEET}/register", json=body)
    assert registered.status_code == 200, registered.text
    token = both.headers(registered.json()["token"])
    beat = {
        "node_id": "agent-01",
        "uptime_seconds": 5,
        "free_memory_kb": 100,
        "sensors_active": 1,
        "wifi_rssi": -40,
    }
    assert (await both.follower.post(f"{FLEET}/heartbeat", json=beat, headers=token)).json()["status"] == "ok"
    await both.leader.http.post("/api/nodes/agent-01/restart?timeout=0")
    poll = await both.follower.post(f"{FLEET}/command", json={"node_id": "agent-01"}, headers=token)
    (command,) = poll.json()["commands"]
    answer = {"command_id": command["command_id"], "status": "success", "result": {}}
    done = await both.follower.post(f"{FLEET}/command/ack", json=answer, headers=token)
    assert done.json()["state"] == "acknowledged"
    assert (await both.follower.get(f"{FLEET}/nodes/agent-01")).json()["status"] == "online"


@together
async def test_the_event_stream_of_a_follower_shows_what_happens_at_the_leader(both: Pair) -> None:
    events = both.following.stream.read(None, ["site.", "stream."])
    said = asyncio.Queue[bytes]()

    async def listen() -> None:
        async for chunk in events:
            await said.put(chunk)

    reader = asyncio.create_task(listen())
    assert (await said.get()).startswith(b":")
    async with asyncio.timeout(10):
        for number in range(100):  # the leader tells as soon as it has heard that somebody listens
            await both.leader.http.put(f"{FLEET}/sites/s-{number}", json={"title": "x"})
            if not said.empty():
                break
            await asyncio.sleep(0.05)
        chunk = (await said.get()).decode()
    assert "event: site.added" in chunk and 'data: {"site":"s-' in chunk
    assert chunk.startswith(f"id: {both.leader.stage.stream.life}-")  # so a reader may go on at the other manager
    reader.cancel()


@together
async def test_stored_readings_are_events_of_a_followers_stream_too(both: Pair) -> None:
    events = both.following.stream.read(None, ["reading.stored"])
    assert (await anext(events)).startswith(b":")
    waiting = asyncio.ensure_future(anext(events))
    async with asyncio.timeout(10):
        for number in itertools.count(1_000):
            both.leader.delivers(batch(f"b-{number}", range(number, number + 1)))
            done, _ = await asyncio.wait([waiting], timeout=0.05)
            if done:
                break
    place, kind, data = (await waiting).decode().split("\n")[:3]
    assert place.startswith(f"id: {both.leader.stage.stream.life}-") and kind == "event: reading.stored"
    told = json.loads(data.removeprefix("data: "))
    assert (told["node"], told["metric"]) == (NODE, "temp") and told["seq"] >= 1_000


@together
async def test_each_manager_says_whether_it_leads(both: Pair) -> None:
    leader, follower = both.leader.http, both.follower
    async with asyncio.timeout(5):
        while both.following.leader is None:  # noqa: ASYNC110 - it asks twice a second
            await asyncio.sleep(0.02)
    roles = [(await side.get("/readyz")).json() for side in (leader, follower)]
    assert [each["role"] for each in roles] == ["leader", "follower"]
    assert roles[0]["leader"] == roles[1]["leader"]
    metrics = [(await side.get("/metrics")).text for side in (leader, follower)]
    assert "clawland_manager_leading 1.0" in metrics[0] and "clawland_manager_epoch 1.0" in metrics[0]
    assert "clawland_manager_leading 0.0" in metrics[1]


@together
async def test_without_a_leader_a_change_is_refused_and_never_done_later(
    both: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "TAKEN_S", 0.2)
    monkeypatch.setattr(relay, "LOOK_S", 0.05)
    monkeypatch.setattr(queue, "take", lambda *_: [])
    response = await both.follower.put(f"{FLEET}/sites/nowhere", json={"title": "x"})
    assert problem(response) == (503, "no_leader") and response.headers["retry-after"].isdigit()
    monkeypatch.undo()
    assert (await both.follower.put(f"{FLEET}/sites/shed", json={"title": "x"})).status_code == 201
    sites = (await both.leader.http.get(f"{FLEET}/sites")).json()["sites"]
    assert {"shed"} == {each["site_id"] for each in sites} & {"shed", "nowhere"}


@together
async def test_a_manager_with_other_token_keys_is_refused_at_its_start(both: Pair, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(Exception, match=r"all managers need the same api\.key"):
        async with following(tmp_path / "other", Database(both.database.url)):
            pass


@together
async def test_nothing_in_the_queue_shows_a_password_or_a_token(both: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bytes] = []
    put, answer = queue.put, queue.answer
    monkeypatch.setattr(
        queue, "put", lambda c, row, request, *more: kept.append(request) or put(c, row, request, *more)
    )
    monkeypatch.setattr(queue, "answer", lambda c, row, e, sealed: kept.append(sealed) or answer(c, row, e, sealed))
    await with_alice(both)
    found = await login(both.follower)
    assert len(kept) >= 4
    for secret in (PASSWORD, found["access_token"], found["refresh_token"], "tester", "Bearer"):
        assert secret.encode() not in b"".join(kept)


def test_tokens_and_bodies_survive_the_way_through_the_queue_byte_by_byte(tmp_path: Path) -> None:
    sealer = Sealer(Keyring(tmp_path))
    request = Request("POST", "/a/ü", b"q=%00\xff", [(b"x", b"\xff\x00")], ("10.0.0.1", 99), bytes(range(256)))
    answer = Answer(202, [(b"location", b"/x"), (b"retry-after", b"1")], json.dumps({"ü": 1}).encode())
    sealed = sealer.seal("row-1", request)
    assert sealer.open_request("row-1", sealed) == request
    assert sealer.open_answer("row-1", sealer.seal("row-1", answer)) == answer
    for row, content in (("row-2", sealed), ("row-1", sealed[:-1] + b"x"), ("row-1", b""), ("row-1", b"\xff" * 40)):
        with pytest.raises(Unreadable):
            sealer.open_request(row, content)
    with pytest.raises(Unreadable):  # an answer is no request
        sealer.open_request("row-1", sealer.seal("row-1", answer))
    keys = Keyring(tmp_path)
    keys.rotate(60)
    assert Sealer(keys).open_request("row-1", sealed) == request  # of before a rotation
