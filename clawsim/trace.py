"""The event log of a run: one JSON line an event, and whoever listens to kinds of events while they happen."""

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

Fields = dict[str, Any]
Listener = Callable[["TraceEvent"], None]

_FLUSH_LINES = 2000


class TraceEvent(NamedTuple):
    """Something happened at `t_us` of the run, said by `who`."""

    t_us: int
    kind: str
    who: str
    fields: Fields


class EventLog:
    """Writes events as they come (in order of time), hashes what it writes, and passes them on."""

    def __init__(self, path: Path | None = None) -> None:
        """`path`: where to write `events.jsonl`, or None to keep only the hash. Raises OSError."""
        self._file: BinaryIO | None = path.open("wb") if path else None
        self._hash = hashlib.sha256()
        self._lines: list[bytes] = []
        self._by_kind: dict[str, list[Listener]] = {}
        self._to_all: list[Listener] = []  # of kinds that nobody asked for by name
        self.counts: Counter[str] = Counter()

    def listen(self, listener: Listener, *kinds: str) -> None:
        """Call `listener` with each event of `kinds`, or with every event."""
        for kind in kinds:
            self._by_kind.setdefault(kind, list(self._to_all)).append(listener)
        if not kinds:
            for listeners in (self._to_all, *self._by_kind.values()):
                listeners.append(listener)

    def emit(self, t_us: int, kind: str, who: str, fields: Fields) -> None:
        """Something happened."""
        self.counts[kind] += 1
        lines = self._lines
        lines.append(orjson.dumps({"t_us": t_us, "kind": kind, "who": who, **fields}))
        if len(lines) >= _FLUSH_LINES:
            self._flush()
        listeners = self._by_kind.get(kind, self._to_all)
        if listeners:
            event = TraceEvent(t_us, kind, who, fields)
            for listener in listeners:
                listener(event)

    def close(self) -> str:
        """Write what is left; the SHA-256 of all lines, in hex."""
        self._flush()
        if self._file:
            self._file.close()
            self._file = None
        return self._hash.hexdigest()

    def _flush(self) -> None:
        if not self._lines:
            return
        chunk = b"\n".join(self._lines) + b"\n"
        self._lines.clear()
        self._hash.update(chunk)
        if self._file:
            self._file.write(chunk)
