"""What changes anything goes to the leader: a follower queues the request, and gives the leader's answer as its own."""

import asyncio
import contextlib
import re
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from firmware.hosting.clock import Clock
from fleet.host.managers import queue
from fleet.host.managers.bell import ANSWERED, Bell
from fleet.host.managers.envelope import Answer, Request, Sealer, Unreadable
from fleet.host.problems import Problem, unavailable
from fleet.host.storage import Storage, StorageError

if TYPE_CHECKING:
    from fleet.host.stage import Stage

READS = ("GET", "HEAD", "OPTIONS")
MOST_WAITING = 500
THREADS = 2
TAKEN_S = 15.0
"""For so long a request waits for a leader; a takeover is shorter."""
ANSWERED_S = 30.0
"""For so long a request that is taken up waits for its answer, beyond what it asks for itself."""
LOOK_S = 0.5
MOST_TIMEOUT_S, DEFAULT_TIMEOUT_S = 300.0, 30.0
_COMMAND = re.compile(r"/api/nodes/[^/]+/[^/]+")
_HARMLESS = ("/api/v1/fleet/heartbeat", "/api/v1/fleet/events", "/api/v1/fleet/command", "/api/v1/fleet/command/ack")
_RELAYED = SimpleNamespace(path="relayed")  # a route's name for metrics


class Relay:
    """An ASGI middleware; on the leader it stands aside."""

    def __init__(self, app: ASGIApp, stage: "Stage") -> None:
        self._app, self._stage = app, stage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        outbox = self._stage.outbox
        if scope["type"] != "http" or scope["method"] in READS or outbox is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = _RELAYED
        try:
            found = await outbox.ask(await _request(scope, receive))
        except Problem as problem:
            await problem.response()(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": found.status, "headers": found.headers})
        await send({"type": "http.response.body", "body": found.body})


class Outbox:
    """The requests of this process that are on their way to a leader, be that itself by now."""

    def __init__(self, storage: Storage, clock: Clock, sealer: Sealer, bell: Bell) -> None:
        self._storage, self._clock, self._sealer, self._bell = storage, clock, sealer, bell
        self._waiting: dict[str, asyncio.Event] = {}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="outbox")
        self._closed = False

    async def close(self) -> None:
        """Nobody is waited for any more: the process ends."""
        self._closed = True
        for event in self._waiting.values():
            event.set()
        self._threads.shutdown(wait=False)
        self._storage.close()

    async def ask(self, request: Request) -> Answer:
        """The leader's answer. Raises Problem."""
        if len(self._waiting) >= MOST_WAITING:
            message = f"{MOST_WAITING} requests wait for the leader already"
            raise Problem(503, "busy", message, headers={"Retry-After": "2"})
        row = secrets.token_hex(16)
        request, again = with_key(request, row), is_repeatable(request)
        self._waiting[row] = asyncio.Event()
        try:
            with self._bell.listening(ANSWERED, self._wake):
                sealed = self._sealer.seal(row, request)
                await self._do(queue.put, row, sealed, again, self._clock.utc_ms())
                return await self._answer(row, patience_s(request))
        except StorageError as error:
            raise unavailable(str(error)) from None
        finally:
            del self._waiting[row]

    async def _answer(self, row: str, patience: float) -> Answer:
        begun_s, taken_s = time.monotonic(), None
        while True:
            if self._closed:
                raise unknown_outcome()
            taken, sealed = await self._do(queue.look, row)
            if sealed is not None:
                await self._do(queue.drop, row)
                return self._opened(row, sealed)
            now_s = time.monotonic()
            if not taken and now_s - begun_s >= TAKEN_S and await self._do(queue.withdraw, row):
                message = "no manager leads at the moment; nothing was done"
                raise Problem(503, "no_leader", message, headers={"Retry-After": "5"})
            taken_s = now_s if taken and taken_s is None else taken_s
            if taken_s is not None and now_s - taken_s >= patience:
                await self._do(queue.drop, row)
                raise unknown_outcome()
            await self._woken(row)

    def _opened(self, row: str, sealed: bytes) -> Answer:
        try:
            return self._sealer.open_answer(row, sealed)
        except Unreadable as error:
            raise Problem(503, "unavailable", f"the leader's answer: {error}", headers={"Retry-After": "30"}) from None

    async def _woken(self, row: str) -> None:
        event = self._waiting[row]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await event.wait()
        event.clear()

    def _wake(self, row: str) -> None:
        if row in self._waiting:
            self._waiting[row].set()

    async def _do(self, work: Any, *args: Any) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._perform, work, args)
        except RuntimeError:  # of the executor, after `close`
            raise unknown_outcome() from None

    def _perform(self, work: Any, args: tuple[Any, ...]) -> Any:
        with self._storage.writing() as connection:
            return work(connection, *args)


def unknown_outcome() -> Problem:
    """The leader had taken the request up, and has not answered."""
    message = "the leader has not answered; the request may or may not have been carried out: look before you repeat it"
    return Problem(503, "outcome_unknown", message, headers={"Retry-After": "5"})


def with_key(request: Request, key: str) -> Request:
    """A command gets an Idempotency-Key, unless it has one: so it can be carried out again without being sent twice."""
    named = any(name == b"idempotency-key" for name, _ in request.headers)
    if named or not _is_command(request):
        return request
    headers = [*request.headers, (b"idempotency-key", key.encode())]
    return Request(request.method, request.path, request.query, headers, request.client, request.body)


def is_repeatable(request: Request) -> bool:
    """Whether it may be carried out again when its answer was lost: the state of the fleet is the same then."""
    return request.method == "PUT" or _is_command(request) or request.path in _HARMLESS


def patience_s(request: Request) -> float:
    """How long to wait for the answer; a command says itself how long its node may take."""
    return ANSWERED_S + (_timeout_s(request) if _is_command(request) else 0.0)


def _timeout_s(request: Request) -> float:
    try:
        found = parse_qs(request.query.decode("latin-1")).get("timeout") or [orjson.loads(request.body)["timeout"]]
        return min(max(float(found[0]), 0.0), MOST_TIMEOUT_S)
    except (ValueError, TypeError, LookupError):  # the leader says what is wrong with it
        return DEFAULT_TIMEOUT_S


def _is_command(request: Request) -> bool:
    return request.method == "POST" and _COMMAND.fullmatch(request.path) is not None


async def _request(scope: Scope, receive: Receive) -> Request:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    client = scope.get("client")
    where = (str(client[0]), int(client[1])) if client else None
    return Request(scope["method"], scope["path"], scope["query_string"], list(scope["headers"]), where, bytes(body))
