"""Latest values and liveness in Redis, for this process and whoever else may read them there.

    clawland:feed                 the generation that is being fed; gone 15 s after the feeding has stopped
    clawland:G:latest:NODE        hash, metric -> JSON [metric, value, unit, utc_ms, time_quality, gateway];
                                  the field `*` is there once all metrics of the node are
    clawland:G:alive              hash, node or gateway -> JSON {"state", "heard_utc_ms"}

A generation is trusted as long as every write to it has succeeded. After one that has not, the next begins with
nothing, and is filled from the database as it is asked: a Redis that was away is slow to begin with, and never wrong.
"""

import asyncio
import contextlib
import logging
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from fleet.core.rows import ReadingRow
from fleet.core.vault import Vault
from fleet.host.latest import Found, Latest, Values, put_all_newer, put_newer
from fleet.host.settings import SettingsError

LOG = logging.getLogger(__name__)
TIMEOUT_S = 0.5  # a Redis that hangs delays one request by this much; then it is not asked any more
RETRY_S = 1.0
REFRESH_S = 5.0
FEED_MS = 15_000
KEPT_MS = 3_600_000
COMPLETE = "*"  # no metric has this name

# Keeps the newer reading of each metric; arguments: kept_ms, then metric, utc_ms, value, over and over.
_PUT = """
for i = 2, #ARGV, 3 do
    local held = redis.call('HGET', KEYS[1], ARGV[i])
    if ARGV[i] == '*' or not held or cjson.decode(held)[4] <= tonumber(ARGV[i + 1]) then
        redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
    end
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
"""


def check_url(url: str) -> str:
    """The URL, when it can be one of Redis and carries no password. Raises SettingsError."""
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise SettingsError("--redis-url: expected redis://HOST:PORT/NUMBER (rediss:// with TLS)")
    if parts.password or "password" in parse_qs(parts.query):
        message = "--redis-url carries a password, which others could read: put it into a file"
        raise SettingsError(f"{message} and name that with --redis-password-file")
    try:
        Redis.from_url(url)
    except ValueError as error:
        raise SettingsError(f"--redis-url: {error}") from None
    return url


class RedisLatest:
    """A `LatestCache`; `alive(id)` tells the liveness of a node or gateway, None when there is none such."""

    def __init__(
        self,
        url: str,
        password: str | None,
        alive: Callable[[str], Mapping[str, Any] | None],
        vault: Vault | None = None,
    ) -> None:
        """`vault` closes sensitive values: Redis never has their text."""
        self._vault = vault or Vault([], os.urandom)
        self._past: str | None = None  # a generation that is to be removed
        self._client: Redis = Redis.from_url(
            url, password=password, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
        )
        self._put = self._client.register_script(_PUT)
        self._alive = alive
        self._generation: str | None = None  # None while Redis cannot be trusted
        self._noted: dict[str, Values] = {}
        self._members: set[str] = set()
        self._news = asyncio.Event()
        self._failing = False
        self._task: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        """Whether Redis answers."""
        return self._generation is not None

    def start(self) -> None:
        """Connects, and feeds from then on."""
        self._task = asyncio.create_task(self._feed())

    async def close(self) -> None:
        """Stops feeding."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
        with contextlib.suppress(RedisError, OSError):
            await self._client.aclose()

    async def find(self, nodes: Sequence[str]) -> Found:
        """See `LatestCache`."""
        generation = self._generation
        if generation is None:
            return Found({}, None)
        noted = {node: dict(self._noted.get(node, {})) for node in nodes}  # committed, and still on its way there
        try:
            pipe = self._client.pipeline(transaction=False)
            for node in nodes:
                pipe.hgetall(_key(generation, node))
            answers = await pipe.execute()
        except (RedisError, OSError) as error:
            self._lost(error)
            return Found({}, None)
        known = {
            node: self._decode(node, found)
            for node, found in zip(nodes, answers, strict=True)
            if COMPLETE.encode() in found
        }
        for node, values in known.items():
            put_all_newer(values, noted[node].values())
        return Found(known if generation == self._generation else {}, generation)

    async def fill(self, read: Mapping[str, Values], state: object) -> None:
        """See `LatestCache`."""
        if state is None or state != self._generation or not read:
            return
        try:
            pipe = self._client.pipeline(transaction=False)
            for node, values in read.items():
                await self._write(pipe, str(state), node, values, complete=True)
            await pipe.execute()
        except (RedisError, OSError) as error:
            self._lost(error)

    def note(self, rows: Iterable[ReadingRow]) -> None:
        """See `LatestCache`."""
        if self._generation is None:
            return
        for row in rows:
            put_newer(self._noted.setdefault(row.node, {}), row)
            self._members.add(row.node)
        self._news.set()

    def note_alive(self, member: str) -> None:
        """The liveness of a node or gateway changed."""
        if self._generation is not None:
            self._members.add(member)
            self._news.set()

    def clear(self) -> None:
        """See `LatestCache`. What is in Redis is removed: it may show what is sensitive by now."""
        self._past, self._generation = self._generation or self._past, None
        self._news.set()

    async def _feed(self) -> None:
        while True:
            try:
                await self._flush()
            except (RedisError, OSError) as error:
                self._lost(error)
                await asyncio.sleep(RETRY_S)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_S):
                    await self._news.wait()

    async def _flush(self) -> None:
        """Writes what is new; begins a generation where there is none."""
        self._news.clear()
        if self._generation is None:
            await self._begin()
        generation, noted, members = self._generation, _copied(self._noted), set(self._members)
        pipe = self._client.pipeline(transaction=False)
        pipe.set("clawland:feed", str(generation), px=FEED_MS)
        for node, values in noted.items():
            await self._write(pipe, str(generation), node, values)
        alive: dict[Any, Any] = {
            member: orjson.dumps(found) for member in members if (found := self._alive(member)) is not None
        }
        if alive:
            pipe.hset(f"clawland:{generation}:alive", mapping=alive)
        pipe.pexpire(f"clawland:{generation}:alive", KEPT_MS)
        await pipe.execute()
        self._settle(noted, members)

    async def _begin(self) -> None:
        await self._client.ping()
        if self._past is not None:
            async for key in self._client.scan_iter(match=f"clawland:{self._past}:*", count=1_000):
                await self._client.unlink(key)
            self._past = None
        self._noted.clear()
        self._members.clear()
        self._generation = secrets.token_hex(8)
        if self._failing:
            LOG.warning("Redis works again")
        self._failing = False

    def _settle(self, noted: Mapping[str, Values], members: set[str]) -> None:
        """What was written is no longer owed, unless it has become newer meanwhile."""
        self._members -= members
        for node, values in noted.items():
            left = {metric: at for metric, at in self._noted.get(node, {}).items() if values.get(metric) is not at}
            if left:
                self._noted[node] = left
            else:
                self._noted.pop(node, None)

    async def _write(self, pipe: Any, generation: str, node: str, values: Values, complete: bool = False) -> None:
        arguments: list[Any] = [KEPT_MS]
        for at in values.values():
            arguments += (at.metric, at.utc_ms, at.encode(node, self._vault))
        if complete:
            arguments += (COMPLETE, 0, "")
        await self._put([_key(generation, node)], arguments, client=pipe)

    def _decode(self, node: str, found: Mapping[bytes, bytes]) -> Values:
        texts = [text for metric, text in found.items() if metric != COMPLETE.encode()]
        return {at.metric: at for at in (Latest.decode(text, node, self._vault) for text in texts)}

    def _lost(self, error: Exception) -> None:
        if not self._failing:
            LOG.warning("Redis fails, latest values come from the database: %s", error)
        self._failing = True
        self._generation = None
        self._noted.clear()
        self._members.clear()
        self._news.set()


def _copied(noted: Mapping[str, Values]) -> dict[str, Values]:
    return {node: dict(values) for node, values in noted.items()}


def _key(generation: str, node: str) -> str:
    return f"clawland:{generation}:latest:{node}"
