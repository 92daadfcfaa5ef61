"""The leader's events, for those who follow the event stream at another manager.

Only while somebody does: a manager with such a reader says so every `HEARING_S`, and the leader goes on for a while.
What is told carries the number of its first event, so that a gap is noticed and a reader can go from one manager to
another with the id of its last event.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import count, repeat
from typing import Any

import orjson

from fleet.core.rows import ReadingRow
from fleet.host.managers.bell import HAPPENED, HEARING, MOST_BYTES, Bell, ring
from fleet.host.runtime import Runtime
from fleet.host.storage import StorageError
from fleet.host.stream import EventStream, Fields, shown

LOG = logging.getLogger(__name__)
HEARING_S = 2.0
TOLD_FOR_S = 7.0
IDLE_ROUNDS = 2
"""Without a reader for so many times `HEARING_S`, a follower has no use for what it has heard: the leader, who tells
for `TOLD_FOR_S`, will have stopped when the next reader comes."""
GATHER_S = 0.05
MOST_GATHERED = 20_000

Told = tuple[int, str, Fields]


class Broadcaster:
    """Of the leader: gathers events for a moment, and tells them together."""

    def __init__(self, runtime: Runtime, bell: Bell, life: str) -> None:
        """`life`: that of the leader's own stream, whose numbers count from 0."""
        self._runtime, self._bell, self._life = runtime, bell, life
        self._gathered: list[Told] = []
        self._number = 0
        self._until_s = 0.0
        self._news = asyncio.Event()
        runtime.events.listeners.append(self._on_event)
        runtime.events.crowds.append(self._on_stored)

    async def run(self) -> None:
        """Until it is cancelled."""
        with self._bell.listening(HEARING, self._on_hearing):
            while True:
                await self._news.wait()
                await asyncio.sleep(GATHER_S)
                self._news.clear()
                gathered, self._gathered = self._gathered, []
                with contextlib.suppress(StorageError):  # readers see the gap
                    await self._runtime.write(_tell, self._life, gathered)

    def _on_hearing(self, _payload: str) -> None:
        self._until_s = time.monotonic() + TOLD_FOR_S

    def _on_event(self, kind: str, fields: Mapping[str, Any]) -> None:
        number, self._number = self._number, self._number + 1
        if self._has_room():
            self._gathered.append((number, kind, fields))
            self._news.set()

    def _on_stored(self, rows: Sequence[ReadingRow]) -> None:
        """An event each; nobody's time goes into them while nobody hears."""
        number, self._number = self._number, self._number + len(rows)
        if self._has_room():
            self._gathered.extend(zip(count(number), repeat("reading.stored"), rows))
            self._news.set()

    def _has_room(self) -> bool:
        return time.monotonic() < self._until_s and len(self._gathered) < MOST_GATHERED


async def hear(runtime: Runtime, bell: Bell, stream: EventStream) -> None:
    """Of a follower: feeds its stream with what the leader tells, as long as it has readers; until cancelled."""
    with bell.listening(HAPPENED, lambda payload: _feed(stream, payload)):
        idle = 0
        while True:
            idle = 0 if stream.readers else idle + 1
            if stream.readers:
                with contextlib.suppress(StorageError):
                    await runtime.write(ring, HEARING)
            elif idle == IDLE_ROUNDS:
                stream.forget()
            await stream.until_readers(HEARING_S)


def payloads(life: str, events: Iterable[Told]) -> Iterable[str]:
    """Messages of consecutive events, none longer than PostgreSQL carries."""
    some: list[bytes] = []
    first = size = 0
    for number, kind, fields in events:
        text = _text(kind, fields)
        if some and (number != first + len(some) or size + len(text) > MOST_BYTES):
            yield _joined(life, first, some)
            some, size = [], 0
        if not some:
            first, size = number, len(life) + 40
        some.append(text)
        size += len(text) + 1
    if some:
        yield _joined(life, first, some)


def _text(kind: str, fields: Fields) -> bytes:
    found = orjson.dumps([kind, shown(fields)], default=str)
    if len(found) > MOST_BYTES - 200:
        return orjson.dumps([kind, {"message": "longer than managers tell each other; read the state"}])
    return found


def _joined(life: str, first: int, some: list[bytes]) -> str:
    return (b'["%s",%d,[%s]]' % (life.encode(), first, b",".join(some))).decode()


def _tell(connection: Any, life: str, gathered: list[Told]) -> None:
    """On a thread: the texts of a large commit would keep the loop from its work."""
    for message in payloads(life, gathered):
        ring(connection, HAPPENED, message)


def _feed(stream: EventStream, payload: str) -> None:
    try:
        life, first, events = orjson.loads(payload)
    except ValueError:
        LOG.error("something else than a manager speaks on the channel %s", HAPPENED)
        return
    stream.take_over(life, first, [(kind, fields) for kind, fields in events])
