"""The fleet manager's HTTP API in virtual time: its own ASGI application, on the core that the virtual host pumps.

Nothing of the API is imitated. A request is a coroutine of the application, driven here without an event loop; what it
would wait for in a server (a commit, the answer of a node) it waits for on the simulator's clock.
"""

import json
import weakref
from collections.abc import Callable, Coroutine, Generator
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import delete

from clawsim.virtual.host import VirtualHost
from clawsim.virtual.logins import VirtualKeys, VirtualPasswords
from clawsim.virtual.machines.fleet import FLEET_STORE_US
from fleet.core.commands import ENDED
from fleet.host.accounts import Accounts
from fleet.host.app import make_app
from fleet.host.latest import MemoryLatest, stored_latest
from fleet.host.limits import Rate, Rates
from fleet.host.pace import Pace
from fleet.host.stage import Stage
from fleet.host.storage import Storage
from fleet.host.tables import METADATA

CALLER = "scenario"
TOKEN_TTL_S = 86_400
LOOK_US = 100_000
"""How often a request looks whether what it waits for has come."""
UNLIMITED = Rates(*[Rate(1e9, 1e9)] * 3)
"""A rehearsal asks by the simulated clock, and limits go by the one on the wall."""
PATIENCE_US = 3_600_000_000
"""How long a caller waits for a server that stands still."""

Answered = Callable[[int | None, Any], None]
"""Told the status and the body; the status is None when nobody answered."""


class VirtualApi:
    """Takes requests for the fleet manager of `world`."""

    def __init__(self, world: Any) -> None:
        self._world = world
        stage: Any = Stage()
        keys: Any = VirtualKeys(world.plan.seed)
        self._keys = keys
        stage.keys = keys
        stage.runtime = _Runtime(world)
        stage.desk = _Desk(world)
        stage.accounts = Accounts(stage.runtime, keys, [], [], VirtualPasswords())
        stage.opened_s, stage.opened_utc_ms = stage.now_s(), world.utc_ms()
        stage.pace = Pace(stage.runtime.totals, stage.opened_s)
        stage.is_open = True
        self._app = make_app(stage, UNLIMITED)

    def request(self, method: str, path: str, body: Any, role: str, answered: Answered) -> None:
        """Send a request; `answered` is called when the answer is there, perhaps at once."""
        _Call(self._world, answered, lambda send: self._app(self._scope(method, path, role), _body(body), send)).go()

    def _scope(self, method: str, path: str, role: str) -> dict[str, Any]:
        parts = urlsplit(path)
        headers = [(b"host", b"fleet"), (b"content-type", b"application/json")]
        if role != "anonymous":
            token = self._keys.issue(CALLER, role, TOKEN_TTL_S)
            headers.append((b"authorization", f"Bearer {token}".encode()))
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": parts.path,
            "raw_path": parts.path.encode(),
            "root_path": "",
            "query_string": parts.query.encode(),
            "headers": headers,
            "server": ("127.0.0.1", 8080),
            "client": ("127.0.0.1", 1),
        }


class _Wait:
    """Awaited by a request: until `ready()` is true, looking every `LOOK_US`, or once after `for_us`."""

    def __init__(self, look_us: int, ready: Callable[[], bool]) -> None:
        self.look_us = look_us
        self.ready = ready

    def __await__(self) -> Generator["_Wait", None, None]:
        yield self


class _Call:
    """One request on its way through the application, as long as the process that took it lives."""

    def __init__(self, world: Any, answered: Answered, app: Callable[[Any], Any]) -> None:
        self._world = world
        self._answered = answered
        self._app = app
        self._host: VirtualHost | None = None
        self._coroutine: Coroutine[Any, None, None] | None = None
        self._status = 0
        self._received = b""
        self._patient_until_us = world.env.now_us + PATIENCE_US

    def go(self) -> None:
        """Connect, or wait for a process that stands still."""
        host = self._world.fleet.host
        if host is None or not host.alive:
            self._fail("nobody listens there")
        elif host.frozen:
            self._later(LOOK_US, self.go)
        else:
            self._host = host
            self._coroutine = self._app(self._send)
            self._step()

    def _step(self) -> None:
        assert self._coroutine is not None  # noqa: S101 - it begins in `go`
        try:
            wait: _Wait = self._coroutine.send(None)
        except StopIteration:
            self._answered(self._status, _parsed(self._received))
        else:
            self._later(wait.look_us, self._look, wait)

    def _look(self, wait: _Wait) -> None:
        assert self._host is not None  # noqa: S101
        if not self._host.alive:
            self._fail("the connection was reset")
        elif self._host.frozen or not wait.ready():
            self._later(LOOK_US, self._look, wait)
        else:
            self._step()

    def _later(self, delay_us: int, call: Callable[..., None], *args: Any) -> None:
        if self._world.env.now_us >= self._patient_until_us:
            self._fail("no answer in time")
        else:
            self._world.after(delay_us, call, *args)

    def _fail(self, reason: str) -> None:
        if self._coroutine is not None:
            self._coroutine.close()
        self._answered(None, {"error": "no_answer", "message": reason})

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
        elif message["type"] == "http.response.body":
            self._received += message.get("body", b"")


class _Runtime:
    """What the routes need of `fleet.host.runtime.Runtime`."""

    leads, term = True, None  # a rehearsal has one manager

    def __init__(self, world: Any) -> None:
        self._world = world
        self.writer = SimpleNamespace(failing=None, waiting=0, submit=lambda writes, done: None)
        self.clock = SimpleNamespace(utc_ms=world.utc_ms, now_ms=lambda: world.env.now_us // 1000)
        self.storage, self.broker = SimpleNamespace(name="memory"), "hub"
        self.latest = MemoryLatest()
        self.counts: dict[str, int] = {}
        self._copy: Storage | None = None
        self.events = SimpleNamespace(counts=world.log.counts, listeners=[])

    @property
    def core(self) -> Any:
        """The core of the process that runs now."""
        return self._world.fleet.host.core

    @property
    def hub(self) -> Any:
        """The connection to the Event Hub."""
        return SimpleNamespace(up=self._world.fleet.session.connected, sent=0, dropped=0, last_failure="")

    def totals(self) -> dict[str, int]:
        """What can be told as a rate."""
        counts = self.events.counts
        stored = sum(len(rows) for rows in self._world.fleet.database.readings.values())
        rejected = counts.get("message.rejected", 0)
        return {"readings_stored": stored, "events": sum(counts.values()), "messages_rejected": rejected}

    async def current(self) -> None:
        """There is nobody else who could lead."""

    def do(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """An input of the core that may refuse."""
        host = self._world.fleet.host
        try:
            return method(*args, now_ms=host.now_ms, **kwargs)
        finally:
            host.pump()

    async def save(self, writes: list[Any]) -> None:
        """What is not the core's: at once, so that no two requests wait for each other."""
        self._world.fleet.database.perform(writes)

    async def latest_of(self, nodes: Any) -> dict[str, Any]:
        """The latest values of each of `nodes`."""
        found: dict[str, Any] = await self.read(stored_latest, nodes)
        return found

    async def committed(self) -> None:
        """Until all that was asked to be stored so far is stored."""
        await _Wait(FLEET_STORE_US, lambda: True)

    async def read(self, query: Callable[..., Any], *args: Any) -> Any:
        """A query of the database: of a copy in SQL, for the few times that a scenario asks."""
        storage = self._emptied()
        storage.perform(self._world.fleet.database.as_writes())
        with storage.engine.connect() as connection:
            return query(connection, *args)

    def _emptied(self) -> Storage:
        """The copy without its rows: to make its tables takes far longer than to fill them."""
        vault = self._world.fleet.vault
        if self._copy is None or self._copy.vault is not vault:
            self._copy = Storage("sqlite+pysqlite:///:memory:", vault)
            weakref.finalize(self, self._copy.close)
            self._copy.open()
        with self._copy.writing() as connection:
            for table in METADATA.sorted_tables:
                connection.execute(delete(table))
        return self._copy


class _Desk:
    """What the routes need of `fleet.host.dispatch.CommandDesk`."""

    def __init__(self, world: Any) -> None:
        self._world = world

    async def wait(self, command_id: str, timeout_ms: int) -> dict[str, Any]:
        """The command once it has ended, or as it is after `timeout_ms`."""
        env = self._world.env
        until_us = env.now_us + 1000 * timeout_ms
        view = self._view(command_id)
        if view["state"] not in ENDED and timeout_ms > 0:
            ended = lambda: env.now_us >= until_us or self._view(command_id)["state"] in ENDED  # noqa: E731
            await _Wait(LOOK_US, ended)
        return self._view(command_id)

    def _view(self, command_id: str) -> dict[str, Any]:
        return dict(self._world.fleet.host.core.command_view(command_id))


def _body(body: Any) -> Callable[[], Coroutine[Any, Any, dict[str, Any]]]:
    content = b"" if body is None else json.dumps(body).encode()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    return receive


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode(errors="replace")
