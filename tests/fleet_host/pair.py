"""A leader and a follower on one PostgreSQL in this process: APIs by httpx, the leader's hub played by the test."""

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from firmware.hosting.clock import WallClock
from firmware.hosting.mqtt import Login
from firmware.hosting.trace import NoTrace
from fleet.core.config import FleetConfig
from fleet.core.manager import FleetCore
from fleet.core.vault import Vault
from fleet.host.app import make_app
from fleet.host.keyring import Keyring
from fleet.host.managers.term import Term
from fleet.host.managers.turns import Managers
from fleet.host.runtime import Runtime
from fleet.host.stage import Stage
from fleet.host.tokens import issue, load_key
from tests.fleet_host.stand import INVENTORY, PATIENT, Database, Served
from tests.servers import PostgresServer

LOGIN, HUB = Login("fleet", b"x"), "127.0.0.1:1"
NO_KEYS = Vault([], os.urandom)


@dataclass
class Pair:
    """Both sides; `http` of each has an operator's token."""

    leader: Served
    follower: httpx.AsyncClient
    following: Stage
    term: Term
    database: Database

    def headers(self, token: str) -> dict[str, str]:
        """With another token."""
        return {"Authorization": f"Bearer {token}"}


@contextlib.asynccontextmanager
async def leading(data: Path, database: Database) -> AsyncIterator[tuple[Served, Term]]:
    """The first of them."""
    stage, clock, key = Stage(), WallClock(), load_key(data)
    app, keys = make_app(stage, PATIENT), Keyring(data)
    async with Managers(database.url, NO_KEYS, keys, stage, clock, NoTrace(), HUB) as managers:
        term = await managers.enter()
        assert term is not None
        async with managers.holding(term):
            storage = managers.storage(term)
            restored = storage.load()
            config = FleetConfig(tells_each_reading=False)  # as without a trace
            core = FleetCore(config, restored, random.Random(1), clock.now_ms())
            core.learn_utc(clock.utc_ms(), clock.now_ms())
            for kind, add in (("gateways", core.add_gateway), ("nodes", core.add_node)):
                for item in INVENTORY[kind]:
                    add(item, clock.now_ms())
            runtime = Runtime(core, clock, storage, LOGIN, HUB, NoTrace(), [], None, None, term)
            runtime.hub.connect = lambda target=None: runtime.pump.link_up("hub")  # type: ignore[method-assign]
            stage.open(runtime, keys, restored)
            async with managers.leading(runtime, term), client(app, key) as http:
                runtime.start()
                served = Served(runtime, http, key, [], stage, app)
                runtime.hub.send = served.hears  # type: ignore[method-assign]
                await served.settled()
                try:
                    yield served, term
                finally:
                    stage.close()
            await runtime.close()


@contextlib.asynccontextmanager
async def following(data: Path, database: Database) -> AsyncIterator[tuple[httpx.AsyncClient, Stage]]:
    """One that follows."""
    stage, stop, ready = Stage(), asyncio.Event(), asyncio.Event()
    app = make_app(stage, PATIENT)
    async with Managers(database.url, NO_KEYS, Keyring(data), stage, WallClock(), NoTrace(), HUB) as managers:
        assert await managers.enter() is None
        task = asyncio.create_task(managers.follow(LOGIN, stop, ready.set))
        await ready.wait()
        async with client(app, load_key(data)) as http:
            try:
                yield http, stage
            finally:
                stop.set()
                await task


@contextlib.asynccontextmanager
async def client(app: object, key: bytes) -> AsyncIterator[httpx.AsyncClient]:
    """Of one side, as an admin."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://fleet") as http:
        http.headers = httpx.Headers({"Authorization": f"Bearer {issue(key, 'tester', 'admin', 60)}"})
        yield http


@contextlib.asynccontextmanager
async def pair(data: Path, postgres: PostgresServer) -> AsyncIterator[Pair]:
    """Both."""
    database = Database.postgresql(postgres)
    database.open().close()
    async with leading(data, database) as (leader, term), following(data, database) as (http, stage):
        yield Pair(leader, http, stage, term, database)
