"""Reads the `--trace` files of all processes into one stream of events.

Each file grows by whole lines, one write each; a process that was killed may leave its last line unfinished, and a
restarted one goes on in a file of its own. Events of one file are in order; across files they are put in order once
all have ended.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from clawsim.ledger import CONFIGURED
from clawsim.live.collect import Identity
from clawsim.trace import Fields, TraceEvent

MOST_BYTES_A_READ = 1 << 20
MOST_LINE_BYTES = 1 << 20


Sink = Callable[[TraceEvent], None]
_FATES = ("reading.lost", *(f"reading.{fate}" for fate in CONFIGURED))


def _reading(event: TraceEvent) -> Identity:
    fields = event.fields
    return fields.get("node", event.who), fields["boot"], fields["seq"]


class TraceReader:
    """Reads one growing file, from the beginning, a whole line at a time; the file may not exist yet.

    ``broken_lines`` counts lines that are no event: there should be none but a killed process's last.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.broken_lines = 0
        self._offset = 0
        self._rest = b""

    def read(self) -> list[TraceEvent]:
        """The events that were added since last asked."""
        lines = (self._rest + self._new_bytes()).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MOST_LINE_BYTES:
            self._rest = b""
            self.broken_lines += 1
        events = (self._event(line) for line in lines if line)
        return [event for event in events if event is not None]

    def finish(self) -> list[TraceEvent]:
        """The last events of a process that has ended; an unfinished line is counted as broken."""
        events = self.read()
        while more := self.read():
            events += more
        if self._rest:
            self._rest = b""
            self.broken_lines += 1
        return events

    def _new_bytes(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                chunk = file.read(MOST_BYTES_A_READ)
        except FileNotFoundError:
            return b""
        self._offset += len(chunk)
        return chunk

    def _event(self, line: bytes) -> TraceEvent | None:
        try:
            fields = json.loads(line)
            return TraceEvent(int(fields.pop("t_ms")) * 1000, str(fields.pop("kind")), str(fields.pop("who")), fields)
        except (ValueError, KeyError, TypeError, AttributeError):
            self.broken_lines += 1
            return None


class Tail:
    """All trace files of a run, and what the world itself has to say; every event goes to ``sink`` as it is read."""

    def __init__(self, sink: Sink) -> None:
        self.events: list[TraceEvent] = []
        self.counts: Counter[str] = Counter()
        self.end_us: int | None = None
        """When the story ended: what processes say later, while they are being stopped, is none of it."""
        self._sink = sink
        self._readers: dict[Path, TraceReader] = {}

    @property
    def broken_lines(self) -> int:
        """Lines that were no event, over all files."""
        return sum(reader.broken_lines for reader in self._readers.values())

    def add(self, path: Path) -> None:
        """Follows one more file."""
        self._readers.setdefault(path, TraceReader(path))

    def say(self, event: TraceEvent) -> None:
        """An event of the world's own."""
        self.events.append(event)
        self.counts[event.kind] += 1
        if self._in_time(event):
            self._sink(event)

    def emit(self, t_us: int, kind: str, who: str, fields: Fields) -> None:
        """The same, as an `EventLog` takes it."""
        self.say(TraceEvent(t_us, kind, who, fields))

    def poll(self) -> int:
        """Reads what is new in every file; how many events that was."""
        return self._take([event for reader in self._readers.values() for event in reader.read()])

    def merged(self) -> list[TraceEvent]:
        """Every event of the run up to its end in the order of its time, once all processes have ended.

        Events of the same millisecond stay in the order of their own file; files are in the order of `add`. What is
        lost after the end belongs to the ledger, whose other evidence is later still: it is told at the last instant.
        """
        self._take([event for reader in self._readers.values() for event in reader.finish()])
        late = self.read_too_late()
        lost = [event for event in self.events if event.kind in _FATES and not self._in_time(event)]
        story = [event for event in self.events if self._in_time(event)]
        story += [event._replace(t_us=self.end_us or 0) for event in lost if _reading(event) not in late]
        return sorted(story, key=lambda event: event.t_us)

    def read_too_late(self) -> set[Identity]:
        """Readings of after the end, which no evidence is to count: a run that broke off did not stop the sampling."""
        produced = (event for event in self.events if event.kind == "reading.produced")
        return {_reading(event) for event in produced if not self._in_time(event)}

    def _in_time(self, event: TraceEvent) -> bool:
        return self.end_us is None or event.t_us <= self.end_us

    def _take(self, events: list[TraceEvent]) -> int:
        for event in events:
            self.say(event)
        return len(events)
