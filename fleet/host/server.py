"""`fleet serve`: one asyncio loop with the core's pump, the hub connection and the HTTP server.

Everything that can be refused (lock, ports, files, inventory) is found out before the server says that it is ready.
"""

import asyncio
import contextlib
import errno
import logging
import random
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from functools import partial

import uvicorn
from sqlalchemy import URL
from starlette.types import ASGIApp

from firmware.hosting.clock import Clock
from firmware.hosting.lifecycle import CannotRun, stop_on_signals, until
from firmware.hosting.mqtt import Login, split_target
from firmware.hosting.simclock import start_clock
from firmware.hosting.trace import Tracer, open_trace
from fleet.core.config import FleetConfig
from fleet.core.manager import FleetCore
from fleet.host import inventory as inventories
from fleet.host import notify
from fleet.host.app import make_app
from fleet.host.database import database_of
from fleet.host.inventory import Inventory
from fleet.host.keyring import Keyring
from fleet.host.latest import LatestCache, MemoryLatest, liveness
from fleet.host.limits import rates_of
from fleet.host.local_hub import MANAGER, LocalHub
from fleet.host.lock import DirectoryLock
from fleet.host.pki.authority import Authority
from fleet.host.pki.keeping import hub_files, keep_certificates, manager_tls
from fleet.host.runtime import Runtime
from fleet.host.settings import ServeSettings, SettingsError, duration_ms, read_lines, read_secret, read_secret_text
from fleet.host.stage import Stage
from fleet.host.storage import Row, Storage, StorageError
from fleet.host.tokens import TokenError
from fleet.host.tuning import settle, tune

LOG = logging.getLogger("clawland.fleet")
BACKLOG = 1024
# After a signal: requests under way get this long, then the database gets its own time-out.
REQUESTS_S = 3.0
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
    http: "_HttpServer"
    database: str | URL
    retention_ms: int | None
    redis_password: str | None


async def serve(settings: ServeSettings) -> None:
    """Serves until SIGTERM, SIGINT or, under a simulator's clock, the end of stdin.

    Raises SettingsError for what the user can mend in flags and files, CannotRun for what is missing or taken.
    """
    tune()
    stop = stop_on_signals()
    lock = None if settings.sim_clock else DirectoryLock(settings.data)
    prepared = _prepare(settings)
    port = prepared.listening.getsockname()[1]
    clock = await start_clock(settings.sim_clock, {"http_port": port}, stop)
    lock = lock or DirectoryLock(settings.data)  # a stand-by touches no state before it has the clock
    tracer = _open_trace(settings)
    try:
        await _run(prepared, clock, tracer, stop)
    finally:
        lock.release()


def _prepare(settings: ServeSettings) -> Prepared:
    inventory = inventories.load(settings.inventory) if settings.inventory else None
    if settings.hub is not None:
        try:
            split_target(settings.hub)
        except ValueError as error:
            raise SettingsError(f"--hub: {error}") from None
    login, urls = _login(settings), _notify_urls(settings)
    retention_ms = duration_ms("--retention", settings.retention) if settings.retention else None
    database = database_of(settings.data, settings.database_url, settings.database_password_file)
    redis_password = _redis_password(settings)
    stage, listening = Stage(), _listen(settings.host, settings.port)
    stage.authority = Authority(settings.data)
    http = _HttpServer(make_app(stage, rates_of(settings.rate_limit)))
    return Prepared(settings, inventory, login, urls, listening, stage, http, database, retention_ms, redis_password)


def _login(settings: ServeSettings) -> Login:
    password = read_secret(settings.hub_password_file) if settings.hub_password_file else secrets.token_hex(32).encode()
    return Login(MANAGER, password, manager_tls(settings.data) if settings.hub_tls else None)


def _redis_password(settings: ServeSettings) -> str | None:
    if settings.redis_url is not None:
        from fleet.host.redis_latest import check_url

        check_url(settings.redis_url)
    return read_secret_text(settings.redis_password_file) if settings.redis_password_file else None


def _latest(prepared: Prepared, core: FleetCore) -> LatestCache:
    url = prepared.settings.redis_url
    if url is None:
        return MemoryLatest()
    from fleet.host.redis_latest import RedisLatest  # its library takes a tenth of a second to load

    return RedisLatest(url, prepared.redis_password, partial(liveness, core))


def _notify_urls(settings: ServeSettings) -> list[str]:
    urls = read_lines(settings.notify_file) if settings.notify_file else []
    try:
        notify.check(urls)
    except notify.NotifyError as error:
        raise SettingsError(f"{settings.notify_file}: {error}") from None
    return urls


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # Named as TCP, unlike what socket.create_server makes: only then does asyncio switch off the delays of Nagle.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
        return listening
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None)
        if number == errno.EADDRINUSE:
            reason = "in use by another program; choose another with --port, or 0 for any"
        else:
            reason = getattr(error, "strerror", None) or str(error)
        raise CannotRun(f"port {port} on {host}: {reason}") from None


def _open_trace(settings: ServeSettings) -> Tracer:
    try:
        return open_trace(settings.trace, "fleet")
    except OSError as error:
        raise SettingsError(f"--trace {settings.trace}: {error.strerror}") from None


async def _run(prepared: Prepared, clock: Clock, tracer: Tracer, stop: asyncio.Event) -> None:
    settings = prepared.settings
    storage, keys = _open_state(prepared)
    core, restored = _make_core(storage, prepared, clock)
    async with _hub(settings, core, prepared.login) as target:
        kept = (prepared.retention_ms, _latest(prepared, core))
        runtime = Runtime(core, clock, storage, prepared.login, target, tracer, prepared.urls, *kept)
        stage, http = prepared.stage, prepared.http
        stage.open(runtime, keys, restored)
        runtime.events.crowds.append(stage.stream.on_stored)
        runtime.start()
        serving = asyncio.create_task(http.serve(sockets=[prepared.listening]))
        work = (_keep_utc(runtime), keep_certificates(runtime, Authority(settings.data)))
        keeping = [asyncio.create_task(each) for each in work]
        settle()
        _say_ready(settings, prepared.listening.getsockname()[1], target)
        try:
            await until(stop, runtime.pump.failed(), asyncio.shield(serving))
        finally:
            for task in keeping:
                task.cancel()
            stage.close()
            http.should_exit = True
            await asyncio.wait([serving])
            if not await runtime.close():
                LOG.error("the database did not finish in time; what was not acknowledged will come again")


def _open_state(prepared: Prepared) -> tuple[Storage, Keyring]:
    storage = Storage(prepared.database)
    try:
        keys = Keyring(prepared.settings.data)
        storage.open()
    except (StorageError, TokenError) as error:
        raise CannotRun(f"{storage.name}: {error}") from None
    return storage, keys


def _make_core(storage: Storage, prepared: Prepared, clock: Clock) -> tuple[FleetCore, dict[str, list[Row]]]:
    inventory = prepared.inventory
    try:
        restored = storage.load()
    except StorageError as error:
        raise CannotRun(str(error)) from None
    config = FleetConfig(tells_each_reading=prepared.settings.trace is not None)
    if inventory:
        config = replace(config, fleet_id=inventory.fleet)
    now_ms = clock.now_ms()
    core = FleetCore(config, restored, random.Random(secrets.randbits(256)), now_ms)
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


def _say_ready(settings: ServeSettings, port: int, hub: str) -> None:
    if settings.sim_clock:
        return  # said before the clock came
    data = settings.data
    print(f"fleet manager ready: http://{settings.host}:{port} (API at /docs), Event Hub at {hub}, data in {data}")
    print(f"a token for the API: fleet token --data {data} --role operator --for YOUR-NAME", flush=True)


class _HttpServer(uvicorn.Server):
    """uvicorn on our loop and socket; signals are the process's own business."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="none",
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=int(REQUESTS_S),
            )
        )
        self.config.load()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
