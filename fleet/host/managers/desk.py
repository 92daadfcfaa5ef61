"""The leader's side of the queue: takes requests up, carries them out as if they had come to itself, and answers."""

import asyncio
import contextlib
import logging
from typing import Any

from starlette.types import ASGIApp, Message

from fleet.host.managers import changes, queue
from fleet.host.managers.bell import ASKED, Bell
from fleet.host.managers.envelope import Answer, Request, Sealer, Unreadable
from fleet.host.managers.queue import Asked
from fleet.host.managers.relay import LOOK_S, unknown_outcome
from fleet.host.managers.term import Term
from fleet.host.problems import Problem
from fleet.host.runtime import Runtime
from fleet.host.storage import StorageError

LOG = logging.getLogger(__name__)
MOST_AT_WORK = 500
TIDY_S = 60.0
CLOSE_S = 3.0


class RequestDesk:
    """Works from `run` to `close`."""

    def __init__(self, runtime: Runtime, term: Term, sealer: Sealer, bell: Bell, entrance: ASGIApp) -> None:
        """`entrance`: what every request passes, behind the limit on bodies."""
        self._runtime, self._term, self._sealer, self._bell = runtime, term, sealer, bell
        self._entrance = entrance
        self._at_work: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Takes up whatever comes, until it is cancelled."""
        tidy_s = self._loop.time()
        with self._bell.listening(ASKED, lambda _: self._news.set()):
            while True:
                self._news.clear()
                with contextlib.suppress(StorageError):  # the writer says so, and a lost term ends this
                    await self._take_up()
                    if self._loop.time() >= tidy_s:
                        tidy_s = self._loop.time() + TIDY_S
                        await self._runtime.write(_tidy, self._runtime.clock.utc_ms())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._news.wait()

    async def close(self) -> None:
        """Gives what is under way a moment to be answered."""
        if self._at_work:
            await asyncio.wait(self._at_work, timeout=CLOSE_S)
        for task in self._at_work:
            task.cancel()

    async def _take_up(self) -> None:
        while (room := MOST_AT_WORK - len(self._at_work)) > 0:
            most = min(room, queue.MOST_AT_ONCE)
            found: list[Asked] = await self._runtime.write(queue.take, self._term.epoch, most)
            for each in found:
                task = asyncio.create_task(self._carry_out(each))
                self._at_work.add(task)
                task.add_done_callback(self._at_work.discard)
            if len(found) < most:
                return

    async def _carry_out(self, asked: Asked) -> None:
        answer = await self._answer(asked)
        with contextlib.suppress(StorageError):  # whoever asked hears from the next leader, or that nobody knows
            sealed = self._sealer.seal(asked.id, answer)
            await self._runtime.write(queue.answer, asked.id, self._term.epoch, sealed)

    async def _answer(self, asked: Asked) -> Answer:
        if asked.orphaned and not asked.again:
            return _of(unknown_outcome())
        try:
            request = self._sealer.open_request(asked.id, asked.request)
        except Unreadable as error:
            LOG.error("a request of another manager cannot be read: %s", error)
            message = f"the leader cannot read this request: {error}"
            return _of(Problem(503, "unavailable", message, headers={"Retry-After": "30"}))
        return await perform(self._entrance, request)


async def perform(app: ASGIApp, request: Request) -> Answer:
    """What an ASGI application answers to a request that came by another way than a socket."""
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": request.path.encode(),
        "query_string": request.query,
        "root_path": "",
        "headers": request.headers,
        "client": request.client,
        "server": None,
    }
    status, headers, body = 500, [], bytearray()

    async def receive() -> Message:
        return {"type": "http.request", "body": request.body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status, headers = message["status"], list(message.get("headers", []))
        else:
            body.extend(message.get("body", b""))

    try:
        await app(scope, receive, send)
    except Exception as error:  # the framework answers before it lets a bug through
        LOG.error("%s %s failed", request.method, request.path, exc_info=error)
    return Answer(status, headers, bytes(body))


def _of(problem: Problem) -> Answer:
    response = problem.response()
    return Answer(response.status_code, list(response.raw_headers), bytes(response.body))


def _tidy(connection: Any, utc_ms: int) -> None:
    changes.forget_old(connection)
    queue.forget_old(connection, utc_ms)
