"""The logs of every process of the fleet: structlog on stderr, for people or as JSON lines.

The standard library's loggers, those of libraries too, come out the same way. Secrets are hidden, a storm of messages
is one line with a count, and a text of a peer cannot pass for a line of ours.
"""

import copy
import logging
import sys
import threading
import time
from typing import Any

import structlog

from firmware.hosting.secrecy import without_secrets
from firmware.hosting.storms import Storms

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")
CHATTY = ("amqtt", "transitions", "zeroconf", "httpx", "httpcore", "apprise", "markdown", "alembic.runtime.plugins")
ALWAYS = {"always": True}
"""As `extra` of a record: it is written however many of its kind there are."""


def check_log_options(level: str, style: str) -> None:
    """Raises ValueError with what is wrong."""
    for option, value, known in (("--log-level", level, LEVELS), ("--log-format", style, FORMATS)):
        if value not in known:
            raise ValueError(f"{option}: must be one of {', '.join(known)}, not {value!r}")


def configure_logs(level: str, style: str, **who: str) -> None:
    """Send everything from `level` up to stderr; each line carries `who`, as in gateway="gateway-01"."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = _CalmHandler(sys.stderr)
    last: list[Any] = [_Adding(who), structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    last += [structlog.processors.format_exc_info, _hide_secrets, *_rendering(style)]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        cache_logger_on_first_use=True,
    )


class _CalmHandler(logging.StreamHandler[Any]):
    """Writes a storm as one line with a count; a thread of its own tells of what was held back when nobody logs."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._storms: Storms[logging.LogRecord] = Storms()
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Called with the handler's lock held."""
        try:
            if self._admits(record):
                super().emit(record)
        except Exception:  # arguments that do not fit their message, for one
            self.handleError(record)

    def _admits(self, record: logging.LogRecord) -> bool:
        if record.levelno <= logging.DEBUG or hasattr(record, "always"):
            return True
        now_s = time.monotonic()
        self._tell(self._storms.over(now_s))
        kind = (record.name, record.levelno, record.msg["event"] if isinstance(record.msg, dict) else record.msg)
        text = str(record.msg) if isinstance(record.msg, dict) else record.getMessage()
        admitted = self._storms.admit(kind, text, record, now_s)
        if not admitted and self._timer is None:
            self._wait((self._storms.next_s() or now_s) - now_s)
        return admitted

    def close(self) -> None:
        """Tells what was held back: the process ends."""
        self.acquire()
        try:
            if self._timer is not None:
                self._timer.cancel()
            self._tell(self._storms.over(0.0, all_of_them=True))
        finally:
            self.release()
        super().close()

    def _tell(self, held: list[tuple[logging.LogRecord, int]]) -> None:
        if getattr(self.stream, "closed", False):  # whoever listened has gone before the timer came
            return
        for record, count in held:
            told = copy.copy(record)
            if count > 1:
                told.repeated = count
            told.created, told.exc_info, told.exc_text = time.time(), None, None
            super().emit(told)

    def _wait(self, seconds: float) -> None:
        self._timer = threading.Timer(max(seconds, 0.1), self._on_time)
        self._timer.daemon = True
        self._timer.start()

    def _on_time(self) -> None:
        self.acquire()
        try:
            self._timer = None
            now_s = time.monotonic()
            self._tell(self._storms.over(now_s))
            due_s = self._storms.next_s()
            if due_s is not None:
                self._wait(due_s - now_s)
        finally:
            self.release()


class _Adding:
    """Adds who speaks, and how many messages a line stands for."""

    def __init__(self, who: dict[str, str]) -> None:
        self._who = who

    def __call__(self, _logger: Any, _method: str, line: Any) -> Any:
        repeated = getattr(line.get("_record"), "repeated", None)
        if repeated is not None:
            line["repeated"] = repeated
        return line | {name: value for name, value in self._who.items() if name not in line}


def _hide_secrets(_logger: Any, _method: str, line: Any) -> Any:
    return without_secrets(line)


def _on_one_line(_logger: Any, _method: str, line: Any) -> Any:
    """What a stranger says comes out as one line, and moves no cursor. JSON does so by itself."""
    event = str(line.get("event"))
    if not event.isprintable():
        line["event"] = "".join(each if each.isprintable() else repr(each)[1:-1] for each in event)
    return line


def _rendering(style: str) -> list[Any]:
    if style == "json":
        return [structlog.processors.JSONRenderer(ensure_ascii=False)]
    console = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
    )
    return [_on_one_line, console]
