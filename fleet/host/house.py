"""A manager's house: what stays while it leads, follows and leads again, and what it does when it leads."""

import asyncio
import contextlib
import logging
import random
import secrets
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial

from sqlalchemy import URL

from firmware.hosting.clock import Clock
from firmware.hosting.dial import dialled_at
from firmware.hosting.lifecycle import CannotRun, until
from firmware.hosting.mqtt import Login
from firmware.hosting.notify import ServiceManager
from firmware.hosting.trace import Tracer
from fleet.core.config import FleetConfig
from fleet.core.manager import FleetCore
from fleet.core.mirror import with_liveness
from fleet.core.vault import Vault, VaultError
from fleet.host import inventory as inventories
from fleet.host.http_server import HttpServer
from fleet.host.inventory import Inventory
from fleet.host.keyring import Keyring
from fleet.host.latest import LatestCache, MemoryLatest, liveness
from fleet.host.local_hub import LocalHub
from fleet.host.lock import DirectoryLock
from fleet.host.managers.term import Term
from fleet.host.managers.turns import Managers
from fleet.host.pace import SAMPLE_S
from fleet.host.pki.authority import Authority
from fleet.host.pki.keeping import hub_files, keep_certificates
from fleet.host.runtime import Runtime
from fleet.host.settings import ServeSettings
from fleet.host.stage import Stage
from fleet.host.storage import Row, Storage, StorageError
from fleet.host.tuning import settle, unsettle

LOG = logging.getLogger("clawland.fleet")
UTC_AGAIN_S = 60.0


@dataclass(frozen=True)
class Prepared:
    """What was checked and read before the server said that it is ready."""

    settings: ServeSettings
    inventory: Inventory | None
    login: Login
    urls: list[str]
    listening: socket.socket
    stage: Stage
    http: HttpServer
    database: str | URL
    retention_ms: int | None
    redis_password: str | None
    vault: Vault


class House:
    """What stays while a manager leads, follows and leads again: the HTTP server before all."""

    def __init__(
        self, prepared: Prepared, keys: Keyring, clock: Clock, tracer: Tracer, stop: asyncio.Event, lock: DirectoryLock
    ) -> None:
        self.prepared, self.keys, self.clock, self.tracer, self.stop = prepared, keys, clock, tracer, stop
        self._lock = lock
        self._supervisor = ServiceManager()
        self._serving: asyncio.Task[None] | None = None
        self._chores: list[asyncio.Task[None]] = []

    def begin(self, hub: str | None = None) -> None:
        """Serves from now on, and says so; once. `hub`: where the leader's is."""
        if self._serving is not None:
            return
        settings, listening = self.prepared.settings, self.prepared.listening
        self._serving = asyncio.create_task(self.prepared.http.serve(sockets=[listening]))
        # A follower pumps no core: that the loop turns is the sign of life.
        chores = (_keep_pace(self.prepared.stage), self._supervisor.watch(lambda: True))
        self._chores = [asyncio.create_task(each) for each in chores]
        url = f"http://{dialled_at(settings.host, listening.getsockname()[1])}"
        self._lock.tell(url)
        part = "another manager leads and this one follows" if hub is None else f"Event Hub at {hub}"
        self._supervisor.ready(f"API at {url}, {part}")
        _say_ready(settings, url, part, first=self.keys.is_new)

    @property
    def begun(self) -> bool:
        """Whether anything is served."""
        return self._serving is not None

    async def served(self) -> None:
        """Until the server ends by itself."""
        if self._serving is not None:
            await asyncio.shield(self._serving)

    async def end(self) -> None:
        """Answers what is under way, and serves no more."""
        if self._serving is not None:
            self._supervisor.stopping()
            for task in self._chores:
                task.cancel()
            self.prepared.http.should_exit = True
            await asyncio.wait([self._serving])


async def take_turns(house: House) -> None:
    """Leads, or follows until it is to lead, over and over."""
    prepared, stop = house.prepared, house.stop
    fixed = (prepared.database, prepared.vault, house.keys, prepared.stage, house.clock, house.tracer)
    async with Managers(*fixed, prepared.settings.hub) as managers:
        term = await managers.enter()
        while not stop.is_set():
            if term is None:
                term = await managers.follow(prepared.login, stop, house.begin)
            else:
                try:
                    async with managers.holding(term):
                        await lead(house, managers.storage(term), managers, term)
                except CannotRun as error:
                    if not house.begun:
                        raise
                    LOG.error("this manager cannot take over: %s", error)
                term = None
        await house.end()  # before the way to the leader is closed: some may still get their answer


async def lead(house: House, storage: Storage, managers: Managers | None, term: Term | None) -> None:
    """Runs the core until the server is to stop, or the term is over."""
    prepared, settings = house.prepared, house.prepared.settings
    core, restored = await _make_core(storage, prepared, house.clock)
    async with _hub(settings, core, prepared.login) as target:
        kept = (prepared.retention_ms, _latest(prepared, core), term)
        runtime = Runtime(core, house.clock, storage, prepared.login, target, house.tracer, prepared.urls, *kept)
        prepared.stage.open(runtime, house.keys, restored)
        try:
            async with managers.leading(runtime, term) if managers and term else contextlib.nullcontext():
                runtime.start()
                settle()
                house.begin(target)
                await _work(house, runtime, term)
        finally:
            unsettle()
            if not await runtime.close():
                LOG.error("the database did not finish in time; what was not acknowledged will come again")


async def _work(house: House, runtime: Runtime, term: Term | None) -> None:
    """Until the server is to stop, or the term is over; then answers what waits."""
    chores = (_keep_utc(runtime), keep_certificates(runtime, Authority(house.prepared.settings.data)))
    keeping = [asyncio.create_task(each) for each in chores]
    try:
        await until(house.stop, runtime.pump.failed(), house.served(), *([term.ended()] if term else []))
    finally:
        for task in keeping:
            task.cancel()
        house.prepared.stage.close()
        if not (term and term.over):
            house.stop.set()
            await house.end()


def _latest(prepared: Prepared, core: FleetCore) -> LatestCache:
    url = prepared.settings.redis_url
    if url is None:
        return MemoryLatest()
    from fleet.host.redis_latest import RedisLatest  # its library takes a tenth of a second to load

    return RedisLatest(url, prepared.redis_password, partial(liveness, core), prepared.vault)


async def _make_core(storage: Storage, prepared: Prepared, clock: Clock) -> tuple[FleetCore, dict[str, list[Row]]]:
    try:
        restored = with_liveness(await asyncio.to_thread(storage.load))
    except StorageError as error:
        raise CannotRun(str(error)) from None
    inventory = prepared.inventory
    config = FleetConfig(tells_each_reading=prepared.settings.trace is not None)
    if inventory:
        config = replace(config, fleet_id=inventory.fleet)
    now_ms = clock.now_ms()
    try:
        core = FleetCore(config, restored, random.Random(secrets.randbits(256)), now_ms, storage.vault)
    except VaultError as error:
        raise CannotRun(f"{storage.name}: {error}; name the file of data keys with --data-key-file") from None
    core.learn_utc(clock.utc_ms(), now_ms)
    if inventory:
        inventories.apply(inventory, core, now_ms)
    return core, restored


@contextlib.asynccontextmanager
async def _hub(settings: ServeSettings, core: FleetCore, login: Login) -> AsyncIterator[str]:
    """The address of the hub: elsewhere, or one of ours for as long as this server runs."""
    if settings.hub is not None:
        yield settings.hub
        return
    tls = hub_files(settings.data) if settings.hub_tls else None
    async with LocalHub(core, login.password, settings.hub_host, settings.hub_port, tls) as hub:
        yield hub.target


async def _keep_utc(runtime: Runtime) -> None:
    """The machine's clock may be set while we run: the core stamps with what it was last told."""
    while True:
        await asyncio.sleep(UTC_AGAIN_S)
        runtime.pump.feed(runtime.core.learn_utc, runtime.clock.utc_ms())


async def _keep_pace(stage: Stage) -> None:
    while True:
        await asyncio.sleep(SAMPLE_S)
        stage.pace.sample(stage.now_s())


def _say_ready(settings: ServeSettings, url: str, part: str, first: bool) -> None:
    if settings.sim_clock:
        return  # said before the clock came
    data = settings.data
    print(f"fleet manager ready: {url} (API at /docs), {part}, data in {data}", flush=True)
    if first:  # whoever has made a token knows how
        print(f"a token for the API: fleet token --data {data} --role admin --for YOUR-NAME", flush=True)
