"""Everything that changes, as server-sent events: one bounded buffer for all readers, each with its own place in it.

A reader that falls behind the buffer's end is told so and let go; one that comes back with the id of its last event
goes on from there while the buffer reaches that far.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from itertools import islice, repeat
from typing import Any

import orjson

from fleet.core.rows import ReadingRow

MOST_EVENTS = 20_000
MOST_READERS = 100
MOST_AT_ONCE = 500  # events in one write to a reader
KEEP_ALIVE_S = 15.0

Listener = Callable[[str, Mapping[str, Any]], None]
Fields = Mapping[str, Any] | ReadingRow
"""Of an event; a stored reading stands for those of `reading.stored`, which are made when somebody reads them."""
_RESET = {"message": "the events since then are not kept any more; read the state again"}


def shown(fields: Fields) -> dict[str, Any]:
    """What readers see of an event; of a reading that does not include its value."""
    if isinstance(fields, ReadingRow):
        return {"node": fields.node, "boot": fields.boot, "seq": fields.seq, "metric": fields.metric}
    return dict(fields)


class TooManyReaders(Exception):
    """There are `MOST_READERS` already."""


class EventStream:
    """The buffer of one server's life; ids are `LIFE-NUMBER`, so that one of another life is known as such."""

    def __init__(self, listeners: list[Listener], life: int | None, most: int = MOST_EVENTS) -> None:
        """`life`: None for one that repeats another server's, see `take_over`."""
        self._life = "" if life is None else f"{life:x}"
        self._events: deque[tuple[str, Fields]] = deque(maxlen=most)
        self._next = 0
        self._readers = 0
        self._closed = False
        self._news: asyncio.Event | None = None
        self._arrived = asyncio.Event()
        listeners.append(self._on_event)

    @property
    def life(self) -> str:
        """What ids begin with."""
        return self._life

    @property
    def readers(self) -> int:
        """How many follow the events."""
        return self._readers

    async def until_readers(self, most_s: float) -> None:
        """Until another reader comes, at most so long."""
        self._arrived.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                await self._arrived.wait()

    def forget(self) -> None:
        """Nobody reads, and what follows on the last event will not be heard."""
        self._life, self._next = "", 0
        self._events.clear()

    def take_over(self, life: str, first: int, events: list[tuple[str, Mapping[str, Any]]]) -> None:
        """Events of another server's stream, with its numbers; what does not follow on what is here replaces it."""
        if (life, first) != (self._life, self._next):
            self._life, self._next = life, first
            self._events.clear()
        self._events.extend(events)
        self._next += len(events)
        self._wake()

    def on_stored(self, rows: Sequence[ReadingRow]) -> None:
        """These readings are stored: an event each, made when somebody reads it."""
        self._events.extend(zip(repeat("reading.stored"), rows))
        self._next += len(rows)
        self._wake()

    def close(self) -> None:
        """Lets every reader go."""
        self._closed = True
        self._wake()

    def read(self, last_id: str | None, kinds: list[str]) -> AsyncIterator[bytes]:
        """Events after `last_id`, or from now on, whose kind begins with one of `kinds` (all, when empty).

        Raises TooManyReaders.
        """
        if self._readers >= MOST_READERS:
            raise TooManyReaders
        start = self._place_of(last_id)
        return self._walk(start, tuple(kinds) or ("",))

    async def _walk(self, start: int | None, kinds: tuple[str, ...]) -> AsyncIterator[bytes]:
        self._readers += 1
        self._arrived.set()
        try:
            life, place = self._life, self._next if start is None else start
            yield b": the events of the fleet\n\n"
            if start is None:
                yield self._line(place - 1, "stream.reset", _RESET)
            while not self._closed:
                if life != self._life:  # another server's events from now on; the first such are no change
                    known, life, place = bool(life), self._life, self._first
                    if known:
                        yield self._line(place - 1, "stream.reset", _RESET)
                if place < self._first:
                    message = "this reader is too slow, events were passed over; read the state again and come back"
                    missed = {"message": message, "missed": self._first - place}
                    yield self._line(self._next - 1, "stream.dropped", missed)
                    return
                lines, place = self._take(place, kinds)
                if lines:
                    yield lines
                elif not await self._something_new(place):
                    yield b": still here\n\n"
        finally:
            self._readers -= 1

    @property
    def _first(self) -> int:
        """The number of the oldest event that is kept."""
        return self._next - len(self._events)

    def _take(self, place: int, kinds: tuple[str, ...]) -> tuple[bytes, int]:
        end = min(self._next, place + MOST_AT_ONCE)
        found = zip(range(place, end), islice(self._events, place - self._first, None), strict=False)
        return b"".join(self._line(number, *each) for number, each in found if each[0].startswith(kinds)), end

    async def _something_new(self, place: int) -> bool:
        """Waits for it; False when it is time to say that we are still here."""
        if self._next > place or self._closed:
            return True
        if self._news is None:
            self._news = asyncio.Event()
        try:
            async with asyncio.timeout(KEEP_ALIVE_S):
                await self._news.wait()
        except TimeoutError:
            return False
        return True

    def _line(self, number: int, kind: str, fields: Fields) -> bytes:
        """One event as the HTML standard (section 9.2) has it."""
        return b"id: %s-%d\nevent: %s\ndata: %s\n\n" % (
            self._life.encode(),
            number,
            kind.encode(),
            orjson.dumps(shown(fields), default=str),
        )

    def _place_of(self, last_id: str | None) -> int | None:
        """What comes after `last_id`; None when that is gone, or never was."""
        if last_id is None:
            return self._next
        life, _, number = last_id.rpartition("-")
        if life != self._life or not number.isascii() or not number.isdigit() or len(number) > 15:
            return None
        place = int(number) + 1
        return place if self._first <= place <= self._next else None

    def _on_event(self, kind: str, fields: Mapping[str, Any]) -> None:
        self._events.append((kind, fields))
        self._next += 1
        self._wake()

    def _wake(self) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None
