"""The trace of a process: one JSON line an event, each in one write, so that SIGKILL loses none that had effects."""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

_log = logging.getLogger("clawland.trace")


class Tracer(Protocol):
    """Where a host's events go."""

    def write(self, kind: str, fields: Mapping[str, Any], now_ms: int) -> None:
        """Record that `kind` happened at `now_ms` (core time)."""


class NoTrace:
    """The tracer of a host that was not asked for a trace."""

    def write(self, kind: str, fields: Mapping[str, Any], now_ms: int) -> None:
        pass


class Telling:
    """A tracer that also logs what a peer said wrong: each such message is a rejection that people can read of."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def write(self, kind: str, fields: Mapping[str, Any], now_ms: int) -> None:
        self._tracer.write(kind, fields, now_ms)
        if kind == "message.rejected":
            who = fields.get("from") or "a peer"
            _log.warning("message of %s on %s rejected: %s", who, fields.get("topic"), fields.get("reason"))


class TraceFile:
    """Appends events to `path`, which a restarted process appends to as well.

    Raises OSError when the file cannot be opened. A write that fails later (a full disk) is logged once and costs
    trace lines, never the service.
    """

    def __init__(self, path: Path, who: str) -> None:
        self.who = who
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._torn = False
        self._failed = False

    def write(self, kind: str, fields: Mapping[str, Any], now_ms: int) -> None:
        record = {"t_ms": now_ms, "kind": kind, "who": self.who, **fields}
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        try:
            self._append(line)
        except OSError as error:
            self._report(error)

    def _append(self, line: bytes) -> None:
        if self._torn:
            line = b"\n" + line
        written = os.write(self._fd, line)
        self._torn = written < len(line)

    def _report(self, error: OSError) -> None:
        if not self._failed:
            _log.error("trace lines are being lost: %s", error.strerror)
        self._failed = True

    def close(self) -> None:
        """Close the file; the tracer must not be used afterwards."""
        os.close(self._fd)


def open_trace(path: Path | None, who: str) -> Tracer:
    """The tracer for `--trace path`, or one that does nothing; raises OSError when the file cannot be opened."""
    return TraceFile(path, who) if path else NoTrace()
