"""Checks of what the server talks to: its own ports, the database, Redis, the Event Hub."""

import asyncio
import socket
import sqlite3
from collections.abc import Iterator

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import URL, text
from sqlalchemy.exc import SQLAlchemyError

from firmware.hosting.attempt import refused_because
from firmware.hosting.lifecycle import CannotRun
from firmware.hosting.mqtt import Login, split_target
from fleet.host.checks.finding import Check, Finding, warning
from fleet.host.database import DATABASE_FILE, StorageError, check_server, make_engine, named, one_line, postgresql_url
from fleet.host.local_hub import MANAGER
from fleet.host.lock import is_held, running_at
from fleet.host.migrate import known_versions, version
from fleet.host.pki.keeping import manager_tls
from fleet.host.redis_latest import check_url
from fleet.host.settings import LOOPBACK, ServeSettings, SettingsError, declared_of, read_secret, read_secret_text

PATIENCE_S = 5.0


def _running(settings: ServeSettings) -> Iterator[Finding]:
    if is_held(settings.data):
        where = running_at(settings.data) or "an address that it has not said yet"
        raise CannotRun(f"a server works in {settings.data} already, at {where}; one directory is for one server")
    return iter(())


def _ports(settings: ServeSettings) -> Iterator[Finding]:
    yield _port("HTTP API", settings.host, settings.port, "--port")
    if settings.host not in LOOPBACK:
        yield warning("HTTP API", f"{settings.host} is beyond this machine, and tokens travel there without TLS")
    if settings.hub is None:
        yield _port("own Event Hub", settings.hub_host, settings.hub_port, "--hub-port")


def _port(what: str, host: str, port: int, option: str) -> Finding:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise CannotRun(f"{what}: port {port} on {host}: {(error.strerror or str(error)).lower()} ({option})") from None
    return Finding(what, f"port {port} on {host} is free" if port else f"any free port on {host}")


def _database(settings: ServeSettings) -> Iterator[Finding]:
    if settings.database_url is None:
        yield _sqlite(settings)
        return
    url = postgresql_url(settings.database_url, settings.database_password_file)
    yield _postgresql(url)
    declared = declared_of(settings.encryption_declared)
    for part in ("disk", "backup"):
        if part in declared:
            yield Finding(f"{part} encryption", "declared, not verified")
        else:
            yield warning(f"{part} encryption", f"not declared: see --encryption-declared {part}")


def _sqlite(settings: ServeSettings) -> Finding:
    path = settings.data / DATABASE_FILE
    if not path.exists():
        return Finding("database", f"{path} will be made, of version {known_versions()[-1]}")
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            rows = connection.execute("SELECT version_num FROM alembic_version").fetchall() if _MARK in tables else []
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise CannotRun(f"{path}: {error}") from None
    found = rows[0][0] if rows else (known_versions()[0] if "readings" in tables else None)
    return Finding("database", f"{path}, {_version_words(found)}")


_MARK = "alembic_version"


def _postgresql(url: URL) -> Finding:
    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            check_server(connection)
            found = version(connection)
            words = _version_words(found)
            may_create = "SELECT has_schema_privilege(current_user, current_schema(), 'CREATE')"
            if not connection.execute(text(may_create)).scalar_one():
                raise CannotRun(f"{named(url)}: the user {url.username} may make no tables there")
    except (SQLAlchemyError, StorageError) as error:
        raise CannotRun(f"{named(url)}: {one_line(error)}") from None
    finally:
        engine.dispose()
    return Finding("database", f"{named(url)}, {words}")


def _version_words(found: str | None) -> str:
    known = known_versions()
    if found is None:
        return f"empty: the first start brings it to version {known[-1]}"
    if found not in known:
        raise CannotRun(f"it is of version {found}, made by a newer program; this one knows up to {known[-1]}")
    return f"version {found}" + ("" if found == known[-1] else f"; the next start brings it to {known[-1]}")


def _redis(settings: ServeSettings) -> Iterator[Finding]:
    if settings.redis_url is None:
        return
    url = check_url(settings.redis_url)
    password = read_secret_text(settings.redis_password_file) if settings.redis_password_file else None
    client = Redis.from_url(url, password=password, socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S)
    try:
        client.ping()
    except (RedisError, OSError) as error:
        yield warning("Redis", f"{url}: {error}; the server runs without it, and asks the database instead")
        return
    finally:
        client.close()
    yield Finding("Redis", f"{url} answers")


def _hub(settings: ServeSettings) -> Iterator[Finding]:
    if settings.hub is None:
        return
    try:
        split_target(settings.hub)
    except ValueError as error:
        raise SettingsError(f"--hub: {error}") from None
    if is_held(settings.data):  # it would lose its connection to us
        yield Finding("Event Hub", f"{settings.hub}: not tried, since a server uses this login")
        return
    password = read_secret(settings.hub_password_file) if settings.hub_password_file else b""
    login = Login(MANAGER, password, manager_tls(settings.data) if settings.hub_tls else None)
    failure = asyncio.run(refused_because(login, ["clawland/+/status"], settings.hub, PATIENCE_S))
    if failure is not None:
        raise CannotRun(f"{settings.hub}: {failure}")
    yield Finding("Event Hub", f"{settings.hub} lets the manager in")


SERVICES = (
    Check("server", _running),
    Check("ports", _ports),
    Check("database", _database),
    Check("Redis", _redis),
    Check("Event Hub", _hub),
)
