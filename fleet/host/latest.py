"""The latest value of each metric of each node, by the time at which it was read.

The database is the truth; a cache in front of it holds what was asked for, kept current by every commit. One in this
process is the default, Redis (`redis_latest.py`) the other. A late reading becomes the latest only if it is.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import orjson
from sqlalchemy import Connection, func, select

from fleet.core.manager import FleetCore
from fleet.core.rows import ReadingRow, Secret
from fleet.core.vault import Vault, VaultError
from fleet.host.opening import opened
from fleet.host.readings import utc_text
from fleet.host.tables import READINGS
from fleet.wire.terms import Value

MOST_METRICS = 256  # of one node, in the order of their names
_COLUMNS = tuple(READINGS.c[name] for name in ("metric", "value", "unit", "utc_ms", "time_quality", "gateway"))


class Latest(NamedTuple):
    """One metric's latest reading."""

    metric: str
    value: Value | Secret
    unit: str | None
    utc_ms: int
    time_quality: str
    gateway: str

    def json(self) -> dict[str, Any]:
        """As the API shows it."""
        shown = self._asdict()
        return shown | {"utc": utc_text(shown.pop("utc_ms"))}

    def encode(self, node: str, vault: Vault) -> bytes:
        """For a cache outside of this process: a secret is closed with a data key."""
        found: list[Any] = list(self)
        if type(self.value) is Secret:
            about, plain = _about(node, self.metric, self.utc_ms), self.value.plain
            found[1] = {"sealed": None if plain is None else vault.close(orjson.dumps(plain), about)}
        return orjson.dumps(found)

    @classmethod
    def decode(cls, text: bytes, node: str, vault: Vault) -> "Latest":
        """What `encode` made; a secret that cannot be opened has no value."""
        metric, value, unit, utc_ms, *rest = orjson.loads(text)
        if isinstance(value, dict):
            value = Secret(_opened(value["sealed"], _about(node, metric, utc_ms), vault))
        return cls(metric, value, unit, utc_ms, *rest)


def _opened(closed: str | None, about: bytes, vault: Vault) -> Value | None:
    try:
        found: Value | None = None if closed is None else orjson.loads(vault.open(closed, about))
    except VaultError:
        return None
    return found


def _about(node: str, metric: str, utc_ms: int) -> bytes:
    return f"clawland latest 1\n{node}\n{metric}\n{utc_ms}".encode()


Values = dict[str, Latest]
"""By metric."""


class Found(NamedTuple):
    """What a cache knows: the nodes that it knows all about, and the state of the cache that this was true in."""

    known: dict[str, Values]
    state: object


class LatestCache(Protocol):
    """Between the database and the API. Everything is called on the loop; nothing raises."""

    @property
    def up(self) -> bool:
        """Whether it can be asked at the moment."""

    def start(self) -> None:
        """Begins its own work, if it has any."""

    async def close(self) -> None:
        """Ends it."""

    async def find(self, nodes: Sequence[str]) -> Found:
        """What it knows of `nodes`; the rest is for the database to tell, and then for `fill`."""

    async def fill(self, read: Mapping[str, Values], state: object) -> None:
        """What the database told after `find` had answered with `state`; of no use if that has passed."""

    def note(self, rows: Iterable[ReadingRow]) -> None:
        """These readings were committed just now."""

    def note_alive(self, member: str) -> None:
        """The liveness of this node or gateway changed."""

    def clear(self) -> None:
        """Forgets everything: the database changed in a way that commits do not tell."""


class MemoryLatest:
    """The cache of one process."""

    up = True

    def __init__(self) -> None:
        self._values: dict[str, Values] = {}  # of the nodes that somebody has asked about
        self._complete: set[str] = set()
        self._state = object()

    def start(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    async def find(self, nodes: Sequence[str]) -> Found:
        """See `LatestCache`."""
        for node in nodes:
            self._values.setdefault(node, {})  # what is committed from now on is noted
        return Found({node: dict(self._values[node]) for node in nodes if node in self._complete}, self._state)

    async def fill(self, read: Mapping[str, Values], state: object) -> None:
        """See `LatestCache`. What was noted meanwhile is at least as new where the times are the same."""
        if state is not self._state:
            return
        for node, values in read.items():
            noted = self._values.get(node, {}).values()
            self._values[node] = dict(values)
            put_all_newer(self._values[node], noted)
            self._complete.add(node)

    def note(self, rows: Iterable[ReadingRow]) -> None:
        """See `LatestCache`."""
        asked = self._values
        for row in rows:
            if row[0] in asked:
                put_newer(asked[row[0]], row)

    def note_alive(self, member: str) -> None:
        """In this process the core knows."""

    def clear(self) -> None:
        """See `LatestCache`."""
        self._values, self._complete, self._state = {}, set(), object()


def put_newer(values: Values, row: ReadingRow) -> None:
    """Makes `row` the latest of its metric unless that was read later."""
    held = values.get(row.metric)
    if held is None or row.utc_ms >= held.utc_ms:
        values[row.metric] = Latest(row.metric, row.value, row.unit, row.utc_ms, row.time_quality, row.gateway)


def put_all_newer(values: Values, noted: Iterable[Latest]) -> None:
    """Makes each of `noted` the latest of its metric unless that was read later."""
    for at in noted:
        held = values.get(at.metric)
        if held is None or at.utc_ms >= held.utc_ms:
            values[at.metric] = at


def liveness(core: FleetCore, member: str) -> dict[str, Any] | None:
    """What is known of the life of a node or gateway: its state, and when it was heard last."""
    row = core.registry.nodes.get(member) or core.registry.gateways.get(member)
    return row and {"state": row["doc"].get("state"), "heard_utc_ms": row["doc"].get("heard_utc_ms")}


def stored_latest(connection: Connection, nodes: Sequence[str]) -> dict[str, Values]:
    """The truth: the latest stored reading of each metric of each of `nodes`."""
    return {node: {at.metric: at for at in _of_node(connection, node)} for node in nodes}


def _of_node(connection: Connection, node: str) -> Iterable[Latest]:
    """Metric by metric, each by one step in the index (node, metric, utc_ms, id)."""
    of_node, after = READINGS.c.node == node, ""
    for _ in range(MOST_METRICS):
        metric = connection.execute(
            select(func.min(READINGS.c.metric)).where(of_node, READINGS.c.metric > after)
        ).scalar_one()
        if metric is None:
            return
        newest = select(READINGS.c.boot, READINGS.c.seq, *_COLUMNS).where(of_node, READINGS.c.metric == metric)
        newest = newest.order_by(READINGS.c.utc_ms.desc(), READINGS.c.id.desc()).limit(1)
        boot, seq, *found = connection.execute(newest).one()
        found[1] = opened(connection, found[1], node, boot, seq, metric)
        yield Latest(*found)
        after = metric
