"""`fleet serve`: what can be refused (lock, ports, files, inventory) is found out before the server says it is ready.

Then one asyncio loop has the core's pump, the hub connection and the HTTP server: see `fleet.host.house`.
"""

import asyncio
import errno
import secrets
import socket

from firmware.hosting.clock import Clock
from firmware.hosting.lifecycle import CannotRun, stop_on_signals
from firmware.hosting.mqtt import Login, split_target
from firmware.hosting.simclock import start_clock
from firmware.hosting.trace import Telling, Tracer, open_trace
from fleet.core.vault import VaultError
from fleet.host import datakeys, notify
from fleet.host import inventory as inventories
from fleet.host.app import make_app
from fleet.host.database import database_of
from fleet.host.house import House, Prepared, lead, take_turns
from fleet.host.http_server import HttpServer
from fleet.host.keyring import Keyring
from fleet.host.limits import rates_of
from fleet.host.local_hub import MANAGER
from fleet.host.lock import DirectoryLock
from fleet.host.pki.authority import Authority
from fleet.host.pki.keeping import manager_tls
from fleet.host.settings import (
    ServeSettings,
    SettingsError,
    duration_ms,
    proxies_of,
    read_lines,
    read_secret,
    read_secret_text,
)
from fleet.host.stage import Stage
from fleet.host.storage import Storage, StorageError
from fleet.host.tokens import TokenError
from fleet.host.tuning import tune

BACKLOG = 1024


async def serve(settings: ServeSettings) -> None:
    """Serves until SIGTERM, SIGINT or, under a simulator's clock, the end of stdin.

    Raises SettingsError for what the user can mend in flags and files, CannotRun for what is missing or taken.
    """
    tune()
    stop = stop_on_signals()
    shared = settings.database_url is not None  # several managers may share keys and certificates, too
    lock = None if settings.sim_clock else DirectoryLock(settings.data, shared)
    prepared = _prepare(settings)
    port = prepared.listening.getsockname()[1]
    clock = await start_clock(settings.sim_clock, {"http_port": port}, stop)
    lock = lock or DirectoryLock(settings.data, shared)  # a stand-by touches no state before it has the clock
    tracer = _open_trace(settings)
    try:
        await _run(prepared, clock, tracer, stop, lock)
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
    http = HttpServer(make_app(stage, rates_of(settings.rate_limit)), proxies_of(settings.forwarded_allow_ips))
    secret = (redis_password, datakeys.vault_of(settings.data_key_file))
    return Prepared(settings, inventory, login, urls, listening, stage, http, database, retention_ms, *secret)


def _login(settings: ServeSettings) -> Login:
    password = read_secret(settings.hub_password_file) if settings.hub_password_file else secrets.token_hex(32).encode()
    return Login(MANAGER, password, manager_tls(settings.data) if settings.hub_tls else None)


def _redis_password(settings: ServeSettings) -> str | None:
    if settings.redis_url is not None:
        from fleet.host.redis_latest import check_url

        check_url(settings.redis_url)
    return read_secret_text(settings.redis_password_file) if settings.redis_password_file else None


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
        return Telling(open_trace(settings.trace, "fleet"))
    except OSError as error:
        raise SettingsError(f"--trace {settings.trace}: {error.strerror}") from None


async def _run(prepared: Prepared, clock: Clock, tracer: Tracer, stop: asyncio.Event, lock: DirectoryLock) -> None:
    storage, keys = _open_state(prepared)
    house = House(prepared, keys, clock, tracer, stop, lock)
    try:
        if prepared.settings.database_url is None:
            await lead(house, storage, None, None)
        else:
            storage.close()
            await take_turns(house)
    finally:
        await house.end()


def _open_state(prepared: Prepared) -> tuple[Storage, Keyring]:
    storage = Storage(prepared.database, prepared.vault)
    try:
        keys = Keyring(prepared.settings.data)
        storage.open()
        datakeys.settle(storage)
    except (StorageError, TokenError, VaultError) as error:
        raise CannotRun(f"{storage.name}: {error}") from None
    return storage, keys
