"""The monitor port: health, metrics and status over a small HTTP server that bad requests do not harm."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from firmware.hosting.lifecycle import CannotRun
from firmware.hosting.trace import NoTrace
from nanoclaw.host import monitor_server
from nanoclaw.host.metrics import CountingTracer, Metrics
from nanoclaw.host.monitor_server import Answer, MonitorServer
from tests.nanoclaw_host.rig import eventually
from tests.nanoclaw_host.test_status_view import FOUND

REPORT: dict[str, Any] = {
    **FOUND,
    "rejected": 5,
    "outbox_hours": 60.0,
    "uplinks": [{**line, "sent": 9, "dropped": 1} for line in FOUND["uplinks"]],
}


def samples(report: dict[str, Any]) -> dict[str, float]:
    tracer = CountingTracer(NoTrace())
    tracer.write("gateway.online", {}, 0)
    text = Metrics(lambda: report, tracer.counts).render().decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_metrics_have_base_units_and_the_prefix_of_the_gateway() -> None:
    found = samples(REPORT)
    ours = {name for name in found if not name.startswith("process_")}
    assert all(name.startswith("clawland_gateway_") for name in ours)
    assert not [name for name in ours if re.search("_(ms|milliseconds|hours|kb|mb|minutes)", name)]
    assert found['clawland_gateway_serial_up{port="barn"}'] == 1
    assert found['clawland_gateway_serial_up{port="silo"}'] == 0
    assert found['clawland_gateway_serial_spoilt_total{port="barn"}'] == 4
    assert found["clawland_gateway_outbox_room_seconds"] == 216_000
    assert found['clawland_gateway_uplink_day_spent_bytes{uplink="4g"}'] == 12_345_678
    assert found['clawland_gateway_uplink_batch_interval_seconds{uplink="4g"}'] == 180
    assert found['clawland_gateway_mode{mode="online"}'] == 1
    assert found['clawland_gateway_events_total{kind="gateway.online"}'] == 1
    assert found["process_resident_memory_bytes"] > 0


def test_no_label_names_a_node_so_five_hundred_cost_no_more_than_one() -> None:
    many = [{"id": f"sensor-{number}", "state": "up"} for number in range(500)]
    assert len(samples({**REPORT, "nodes": many})) == len(samples(REPORT))


def test_what_is_unknown_is_left_out() -> None:
    found = samples({**REPORT, "outbox_hours": None, "answered_utc_ms": None})
    assert not [name for name in found if "room_seconds" in name or "answer" in name]


@asynccontextmanager
async def served() -> AsyncIterator[MonitorServer]:
    server = MonitorServer("127.0.0.1", 0, {"/healthz": lambda: Answer(200, "text/plain", b"well\n")})
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def ask(server: MonitorServer, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request)
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionResetError:  # turned away with the request unread
        return b""
    finally:
        writer.close()


@pytest.mark.live
@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET /healthz?x=1 HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"\x16\x03\x01 not HTTP at all\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\n" + b"X: " + b"y" * 9_000 + b"\r\n\r\n", 400),
    ],
)
async def test_every_request_gets_one_answer_and_the_connection_is_closed(request_: bytes, status: int) -> None:
    async with served() as server:
        answer = await ask(server, request_)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.endswith(b"well\n") == (status == 200 and request_.startswith(b"GET"))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(monitor_server, "PATIENCE_S", 0.2)
    monkeypatch.setattr(monitor_server, "MOST_CONNECTIONS", 2)
    yield


@pytest.mark.live
async def test_who_says_nothing_is_let_go_and_who_comes_in_hundreds_is_turned_away(impatient: None) -> None:
    async with served() as server:
        answers = await asyncio.gather(*(ask(server, b"GET /healthz HT") for _ in range(5)))
        assert set(answers) == {b""}
        assert (await ask(server, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")).startswith(b"HTTP/1.1 200")


@pytest.mark.live
async def test_a_server_that_stops_waits_for_nobody() -> None:
    async with served() as server:
        asking = asyncio.create_task(ask(server, b"GET /healthz HT"))
        await eventually(lambda: server._open, "the connection")
        async with asyncio.timeout(2):
            await server.stop()
            assert await asking == b""


@pytest.mark.live
async def test_a_port_that_is_taken_is_told_with_its_number() -> None:
    async with served() as server:
        with pytest.raises(CannotRun, match=rf"monitor: port {server.port} on 127\.0\.0\.1: address already in use"):
            await MonitorServer("127.0.0.1", server.port, {}).start()
