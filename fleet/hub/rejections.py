"""Counting what was refused, telling whoever listens, and writing it to the log without flooding it."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

EventSink = Callable[[str, dict[str, Any]], None]

log = logging.getLogger("fleet.hub")

_LOG_INTERVAL_S = 10.0
_SHOWN_CHARS = 64


def shown(text: str | None) -> str | None:
    """Text from a stranger, short enough to log: `repr` at the point of logging makes it harmless."""
    return text if text is None or len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"


class Rejections:
    """Each refusal is counted by its reason and reported; the log gets one line a reason in ten seconds."""

    def __init__(self, on_event: EventSink | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[str] = Counter()
        self._on_event = on_event
        self._clock = clock
        self._logged_at: dict[str, float] = {}
        self._unlogged: Counter[str] = Counter()

    def report(self, kind: str, **fields: Any) -> None:
        """Tell the listener. Its own faults are its own: they are logged and disturb no client."""
        if self._on_event is None:
            return
        try:
            self._on_event(kind, fields)
        except Exception:
            log.exception("the listener of broker events failed on %s", kind)

    def reject(self, kind: str, reason: str, **fields: Any) -> None:
        self.counts[reason] += 1
        self.report(kind, reason=reason, **fields)
        now_s = self._clock()
        if now_s - self._logged_at.get(reason, -_LOG_INTERVAL_S) < _LOG_INTERVAL_S:
            self._unlogged[reason] += 1
            return
        self._logged_at[reason] = now_s
        self._write(kind, reason, fields)

    def _write(self, kind: str, reason: str, fields: dict[str, Any]) -> None:
        more = self._unlogged.pop(reason, 0)
        details = " ".join(f"{name}={value!r}" for name, value in fields.items())
        log.warning("%s: %s %s%s", kind, reason, details, f" (and {more} more since)" if more else "")
