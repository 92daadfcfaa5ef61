"""Server-sent events: order, resuming, slow readers, who may follow."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from firmware.hosting.trace import NoTrace
from fleet.core.rows import Secret
from fleet.host import stream, stream_routes
from fleet.host.managers.bell import HEARING, Bell
from fleet.host.managers.broadcast import Broadcaster
from fleet.host.runtime import EventTap
from fleet.host.stream import EventStream, TooManyReaders
from tests.fleet_host.stand import NODE, Served, problem, row, served

URL = "/api/v1/events/stream"


class Tap:
    """Stands for the runtime's events."""

    def __init__(self, most: int = 1_000) -> None:
        self.listeners: list[Callable[[str, Any], None]] = []
        self.stream = EventStream(self.listeners, 0xABC, most)

    def say(self, kind: str, **fields: Any) -> None:
        for listener in self.listeners:
            listener(kind, fields)

    def follow(self, last_id: str | None = None, *kinds: str) -> "Reader":
        return Reader(self.stream.read(last_id, list(kinds)))


class Reader:
    """Reads events one by one."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._waiting: list[tuple[str, str, Any]] = []
        self.comments: list[str] = []

    async def begun(self) -> "Reader":
        """The first comment has come: everything from now on is seen."""
        self._take(await anext(self._chunks))
        return self

    async def next(self) -> tuple[str, str, Any]:
        """Id, kind and fields of the next event. Raises StopAsyncIteration at the end."""
        while not self._waiting:
            self._take(await anext(self._chunks))
        return self._waiting.pop(0)

    def _take(self, chunk: bytes) -> None:
        for block in chunk.decode().split("\n\n"):
            if block.startswith(":"):
                self.comments.append(block)
            elif block:
                fields = dict(line.split(": ", 1) for line in block.split("\n"))
                self._waiting.append((fields["id"], fields["event"], json.loads(fields["data"])))


async def test_events_come_in_order_with_ids_that_say_where_to_go_on() -> None:
    tap = Tap()
    reader = await tap.follow().begun()
    for number in range(3):
        tap.say("node.up", n=number)
    assert [await reader.next() for _ in range(3)] == [(f"abc-{n}", "node.up", {"n": n}) for n in range(3)]
    resumed = tap.follow("abc-0")
    assert [(await resumed.next())[2]["n"] for _ in range(2)] == [1, 2]


async def test_a_reader_waits_for_what_happens_and_chooses_by_kind() -> None:
    tap = Tap()
    reader = await tap.follow(None, "alert.", "node.up").begun()
    waiting = asyncio.create_task(reader.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    for kind in ("reading.stored", "alert.raised"):
        tap.say(kind)
    assert (await waiting)[1] == "alert.raised"


async def test_the_readings_of_a_commit_are_an_event_each() -> None:
    tap = Tap()
    reader = await tap.follow().begun()
    tap.stream.on_stored([row(1), row(2)])
    tap.say("node.up")
    first = {"node": NODE, "boot": 7, "seq": 1, "metric": "temp"}
    assert await reader.next() == ("abc-0", "reading.stored", first)
    assert [(await reader.next())[:2] for _ in range(2)] == [("abc-1", "reading.stored"), ("abc-2", "node.up")]


class Elsewhere:
    """Stands for the runtime of a leader: its events, and what it tells others."""

    def __init__(self) -> None:
        self.events, self.told = EventTap(NoTrace()), asyncio.Queue[str]()
        self.stream = EventStream(self.events.listeners, 0xABC)
        self.events.crowds.append(self.stream.on_stored)

    async def write(self, work: Callable[..., None], *args: object) -> None:
        work(self, *args)

    def execute(self, _statement: object, values: dict[str, str]) -> None:
        self.told.put_nowait(values["payload"])


async def test_the_readings_of_a_commit_reach_the_stream_of_a_follower_with_the_same_numbers() -> None:
    leader, bell = Elsewhere(), Bell("postgresql://nobody@127.0.0.1:1/none", "test")
    broadcaster = Broadcaster(leader, bell, leader.stream.life)  # type: ignore[arg-type]
    leader.events.on_stored([row(0)])  # nobody hears
    telling = asyncio.create_task(broadcaster.run())
    await asyncio.sleep(0)
    bell.listeners[HEARING][0]("")
    leader.events.write("node.up", {"node": NODE}, 0)
    leader.events.on_stored([row(1, Secret(8314.4626)), row(2)])
    leader.events.write("node.down", {"node": NODE}, 0)
    follower = EventStream([], None)
    reader = await Reader(follower.read(None, [])).begun()
    async with asyncio.timeout(10):
        said = await leader.told.get()
    life, first, events = json.loads(said)
    follower.take_over(life, first, [(kind, fields) for kind, fields in events])
    there = [await reader.next() for _ in range(4)]
    here = Reader(leader.stream.read("abc-0", []))
    assert there == [await here.next() for _ in range(4)]
    assert [kind for _, kind, _ in there] == ["node.up", "reading.stored", "reading.stored", "node.down"]
    assert "8314" not in said
    telling.cancel()


@pytest.mark.parametrize("last_id", ["abc-0", "abc-99", "fff-9", "nonsense", "abc-", "abc-١", "-1"])
async def test_whoever_cannot_be_resumed_is_told_so_and_goes_on_from_now(last_id: str) -> None:
    tap = Tap(most=5)
    for number in range(10):
        tap.say("node.up", n=number)
    reader = tap.follow(last_id)
    assert (await reader.next())[:2] == ("abc-9", "stream.reset")
    tap.say("node.down")
    assert (await reader.next())[1] == "node.down"


async def test_a_slow_reader_is_let_go_with_a_word_and_others_lose_nothing() -> None:
    tap = Tap(most=5)
    slow, quick = await tap.follow().begun(), await tap.follow().begun()
    for number in range(20):
        tap.say("node.up", n=number)
        assert (await quick.next())[2] == {"n": number}
    identity, kind, fields = await slow.next()
    assert (identity, kind, fields["missed"]) == ("abc-19", "stream.dropped", 15)
    with pytest.raises(StopAsyncIteration):
        await slow.next()


async def test_silence_is_kept_alive_with_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "KEEP_ALIVE_S", 0.005)
    tap = Tap()
    reader = tap.follow()
    waiting = asyncio.create_task(reader.next())
    async with asyncio.timeout(10):
        while len(reader.comments) < 3:  # noqa: ASYNC110 - what is waited for is time
            await asyncio.sleep(0.005)
    tap.say("node.up")
    assert (await waiting)[1] == "node.up"


async def test_readers_end_with_the_server_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST_READERS", 2)
    tap = Tap()
    readers = [await tap.follow().begun() for _ in range(2)]
    with pytest.raises(TooManyReaders):
        tap.follow()
    waiting = asyncio.create_task(readers[0].next())
    await asyncio.sleep(0)
    tap.stream.close()
    with pytest.raises(StopAsyncIteration):
        await waiting
    for reader in readers[1:]:
        with pytest.raises(StopAsyncIteration):
            await reader.next()
    tap.follow()


# --- over the API ----------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def following(fleet: Served, headers: dict[str, str], query: bytes = b"") -> AsyncIterator["asyncio.Queue[Any]"]:
    """The messages of a response that is still being written; httpx would wait for its end."""
    sent: asyncio.Queue[Any] = asyncio.Queue()
    gone = asyncio.Event()
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "GET", "path": URL, "raw_path": URL.encode(), "query_string": query}
    scope |= {"headers": raw, "http_version": "1.1", "scheme": "http", "root_path": "", "server": ("fleet", 80)}
    scope |= {"client": ("10.0.0.1", 1), "asgi": {"version": "3.0", "spec_version": "2.4"}}

    async def receive() -> Any:
        await gone.wait()
        return {"type": "http.disconnect"}

    task = asyncio.create_task(fleet.app(scope, receive, sent.put))  # type: ignore[arg-type]
    try:
        yield sent
    finally:
        gone.set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def chunk(sent: "asyncio.Queue[Any]") -> bytes:
    async with asyncio.timeout(10):
        return bytes((await sent.get()).get("body", b""))


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as server:
        server.http.headers = httpx.Headers(server.as_role("admin"))
        server.says("heartbeat", {"n": 1, "uptime_ms": 1, "config": 0})
        yield server


async def test_what_an_operator_does_is_streamed_to_viewers(fleet: Served) -> None:
    async with following(fleet, fleet.as_role("viewer"), b"kind=node.&kind=command.") as sent:
        start = await sent.get()
        assert start["status"] == 200 and (b"content-type", b"text/event-stream; charset=utf-8") in start["headers"]
        assert (await chunk(sent)).startswith(b":")
        await fleet.http.post(f"/api/v1/fleet/nodes/{NODE}/stolen")
        assert b"event: node.stolen" in await chunk(sent)


async def test_the_stream_ends_when_its_token_is_revoked(fleet: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "KEEP_ALIVE_S", 0.01)
    issued = (await fleet.http.post("/api/v1/tokens", json={"name": "screen", "role": "viewer"})).json()
    async with following(fleet, {"Authorization": f"Bearer {issued['token']}"}) as sent:
        await fleet.http.delete(f"/api/v1/tokens/{issued['token_id']}")
        async with asyncio.timeout(10):
            while (await sent.get()).get("more_body", True):
                pass


async def test_a_reader_that_takes_nothing_is_cut_off(fleet: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_routes, "STUCK_S", 0.02)
    never = asyncio.Event()

    async def stuck(_message: Any) -> None:
        await never.wait()

    response = stream_routes._EventResponse(fleet.stage.stream.read(None, []))
    async with asyncio.timeout(10):
        await response({"type": "http", "asgi": {"spec_version": "2.4"}}, None, stuck)  # type: ignore[arg-type]


async def test_the_stream_needs_a_token_and_has_limited_room(fleet: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    assert problem(await fleet.http.get(URL, headers={"Authorization": ""})) == (401, "unauthorized")
    monkeypatch.setattr(stream, "MOST_READERS", 0)
    full = await fleet.http.get(URL)
    assert problem(full) == (503, "too_many_readers") and full.headers["retry-after"] == "10"
    assert problem(await fleet.http.get(URL, params={"kind": "x" * 65})) == (400, "invalid")
